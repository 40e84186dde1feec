# SPDX-License-Identifier: Apache-2.0
"""A throw-away virtual machine: a kernel, its first program, its console as text.

The first program is a static one, or one of a Debian on a disk (see `rootdisk`). Everything
is emulated (TCG): the tests give the same answer on a machine without KVM.

The console is the kernel's, and people's. What programs want to tell a program goes over a
channel of its own, the machine's second serial port: all kernels have its driver.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from memplace_lab.machines import qemu
from memplace_lab.machines.qemu import Hardware

# console=: 8250; panic=-1 with -no-reboot: a panic ends QEMU at once; no_timer_check: ticks of
# an emulator that has to wait for a processor are missed, and the kernel panics of it
_COMMAND_LINE = "console=ttyS0 mitigations=off panic=-1 loglevel=5 no_timer_check"
# identify_cpu() forgets for a moment that there are five levels of page tables. KASAN takes the
# stack and the heap of an interrupt at that moment for wild addresses, and says so: seen in one
# boot of eighty with 6.12. See https://lkml.iu.edu/2606.1/07330.html
_WITH_KASAN = ("no5lvl",)
_TRAILER = "TRAILER!!!"
# Where /init finds the further programs
PROGRAMS = "programs"


@dataclass(frozen=True)
class Machine:
    """What there is beyond kernel and /init.

    Attributes:
        hardware: Its memory and processors.
        cpu: The model of the processors.
        append: Further parameters of the kernel.
        args: Further arguments of QEMU.
        timeout_s: For the lab's kernel; MEMPLACE_SLOWER says how many times slower another
            one may be.
    """

    hardware: Hardware
    cpu: str = "max"
    append: str = ""
    args: tuple[str, ...] = ()
    timeout_s: float = 180.0


def _entry(name: str, mode: int, data: bytes) -> bytes:
    """Make a member of a cpio archive, format newc (kernel: early-userspace/buffer-format.rst)."""
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def initramfs(init: Path, programs: Sequence[Path] = ()) -> bytes:
    """Make a file system of this program as /init, the console it writes to, and /programs."""
    directory, regular, device = 0o040755, 0o100755, 0o020600
    console = _entry("dev/console", device, b"")
    # rdevmajor 5, rdevminor 1 are fields 9 and 10 after the magic
    console = console[: 6 + 9 * 8] + b"%08X%08X" % (5, 1) + console[6 + 11 * 8 :]
    members = [_entry("dev", directory, b""), console, _entry("init", regular, init.read_bytes())]
    members.append(_entry(PROGRAMS, directory, b""))
    members += [_entry(f"{PROGRAMS}/{file.name}", regular, file.read_bytes()) for file in programs]
    return b"".join((*members, _entry(_TRAILER, 0, b"")))


def boot(
    kernel: Path,
    init: Path,
    machine: Machine,
    workdir: Path,
    programs: Sequence[Path] = (),
    *,
    channel: Path | None = None,
    multithreaded: bool = True,
) -> str:
    """Run /init until it switches the machine off; the text of the console.

    Args:
        kernel: A bzImage.
        init: A static program.
        machine: The machine.
        workdir: A folder for the initramfs, and the console as it comes.
        programs: Further static programs, for /programs.
        channel: A file for what the machine writes to its second serial port, /dev/ttyS1.
        multithreaded: Whether processors are emulated at the same time; not with -icount.

    Raises:
        TimeoutError: it did not within the machine's timeout; the message ends with the console.
        RuntimeError: QEMU itself failed.
    """
    image = workdir / f"{init.name}.cpio"
    image.write_bytes(initramfs(init, programs))
    log = workdir / f"{init.name}.console"
    root = ("-initrd", str(image))
    return _console(kernel, machine, root, log, second_port(channel), multithreaded=multithreaded)


def boot_disk(kernel: Path, disk: Path, machine: Machine, log: Path) -> str:
    """Run /init of a disk until it switches the machine off; the text of the console.

    Args:
        kernel: A bzImage with virtio and ext4 built in.
        disk: An ext4 file system; what the machine writes to it is lost.
        machine: The machine.
        log: For the console as it comes, to look at meanwhile and after a failure.

    Raises:
        TimeoutError: As `boot`.
        RuntimeError: As `boot`.
    """
    drive = ("-drive", f"file={disk},format=raw,if=virtio,snapshot=on")
    append = f"{machine.append} root=/dev/vda rw init=/init"
    return _console(kernel, replace(machine, append=append), drive, log)


def boot_shared(kernel: Path, init: str, machine: Machine, log: Path, channel: Path) -> str:
    """Run a program of this machine, whose files the other one sees; the text of the console.

    Args:
        kernel: A bzImage with virtio and 9p built in.
        init: The program, ``--``, and its arguments, as the kernel takes them. It has to switch
            the machine off.
        machine: The machine; all files are read-only there.
        log: For the console as it comes.
        channel: For what it writes to its second serial port, /dev/ttyS1.

    Raises:
        TimeoutError: As `boot`.
        RuntimeError: As `boot`.
    """
    append = f"{machine.append} {qemu.ON_SHARED_ROOT} init={init}"
    changed = replace(machine, append=append)
    return _console(kernel, changed, qemu.SHARED_ROOT, log, second_port(channel))


def second_port(file: Path | None) -> tuple[str, ...]:
    """Return QEMU's arguments for a second serial port that writes to a file, if there is one."""
    return ("-serial", f"file:{file}") if file else ()


def _console(
    kernel: Path,
    machine: Machine,
    root: Sequence[str],
    log: Path,
    channel: Sequence[str] = (),
    *,
    multithreaded: bool = True,
) -> str:
    accel = f"tcg,thread={'multi' if multithreaded else 'single'}"
    command = [
        *("setpriv", "--pdeathsig", "KILL"),  # an interrupted test leaves no machine behind
        *(qemu.PROGRAM, *machine.hardware.arguments(), "-accel", accel),
        *("-cpu", machine.hardware.processor(machine.cpu)),
        *("-display", "none", "-serial", "stdio", *channel, "-monitor", "none"),
        *("-no-reboot", "-nodefaults", "-kernel", str(kernel), *root),
        *("-append", command_line(kernel, machine)),
        *(*machine.hardware.devices(), *machine.args),
    ]
    limit_s = machine.timeout_s * float(os.environ.get("MEMPLACE_SLOWER", "1"))
    try:
        with log.open("wb") as file:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
                timeout=limit_s,
                check=False,
            )
    except subprocess.TimeoutExpired as late:
        raise TimeoutError(
            f"{log} ends after {limit_s:.0f} s, the machine still ran:\n{console_of(log)[-4000:]}"
        ) from late
    if done.returncode:
        raise RuntimeError(f"QEMU: {done.returncode}: {done.stderr.decode(errors='replace')}")
    return console_of(log)


def command_line(kernel: Path, machine: Machine) -> str:
    """Return the parameters of a kernel: ours, those of its flavour, and the machine's."""
    config = kernel.parent / "config"
    has_kasan = config.exists() and "\nCONFIG_KASAN=y\n" in config.read_text()
    return " ".join((_COMMAND_LINE, *_WITH_KASAN * has_kasan, machine.append))


def console_of(log: Path) -> str:
    """Return what a machine printed, as far as it came."""
    return log.read_text(errors="replace").replace("\r", "")
