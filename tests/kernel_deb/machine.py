# SPDX-License-Identifier: Apache-2.0
"""A Debian guest with its own boot loader: the disk, and one boot of it after the other."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from memplace_lab.base import debian
from memplace_lab.base.steps import run
from memplace_lab.machines import qemu
from memplace_lab.machines.qemu import Hardware, Node
from memplace_lab.machines.rootdisk import make_ext4

FILES = Path(__file__).parent / "files"
PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "util-linux", "procps"),
    *("grub-pc", "initramfs-tools", "zstd", "linux-image-amd64"),
)
# Emulation on a busy machine is slow, and systemd not patient
COMMAND_LINE = (
    "console=ttyS0 mitigations=off systemd.show_status=no systemd.unit=stage.service"
    " systemd.default_timeout_start_sec=1200 systemd.default_device_timeout_sec=1200"
)
GRUB = f"""\
GRUB_TIMEOUT=0
GRUB_CMDLINE_LINUX="{COMMAND_LINE}"
GRUB_TERMINAL="serial console"
"""
FSTAB = "/dev/vda1 / ext4 rw,noatime 0 1\n"
PARTITION_AT = 1 << 20
DISK_MIB = 3072
# Two nodes with 1 GiB each, the second without CPUs: a machine with CXL memory
HARDWARE = Hardware((Node(1024, cpus="0-1"), Node(1024)))
# Under emulation, on a machine that has other things to do
TIMEOUT_S = 2400.0


@dataclass(frozen=True)
class Boot:
    """One run of the machine: what it printed, and how long it took."""

    console: str
    up_s: float
    total_s: float


def make_disk(directory: Path) -> None:
    """Make disk.img: a Debian that starts from its own boot loader."""
    tree = directory / "tree"
    tree.mkdir(parents=True)
    tar = debian.ensure_root_tar(
        "kernel-deb-guest", PACKAGES, title="Debian guest with a boot loader"
    )
    run("tar", "-xf", tar, "-C", tree, "--numeric-owner")
    (tree / "etc/fstab").write_text(FSTAB)
    (tree / "etc/default/grub").write_text(GRUB)
    (tree / "etc/machine-id").write_text("")
    shutil.copy2(FILES / "stage", tree / "usr/local/sbin/stage")
    shutil.copy2(FILES / "stage.service", tree / "etc/systemd/system")
    core = _boot_loader(tree)
    _write_disk(directory / "disk.img", tree, core)
    shutil.rmtree(tree)


def _boot_loader(tree: Path) -> bytes:
    """Return GRUB's core image; what "grub-install" would make and put behind the boot sector.

    It is made here because it takes minutes under emulation. From then on the guest's own
    update-grub, called by the hooks of kernel packages, decides what is started.
    """
    kernel = next((tree / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")
    grub = tree / "boot" / "grub"
    shutil.copytree(tree / "usr/lib/grub/i386-pc", grub / "i386-pc", dirs_exist_ok=True)
    (grub / "grub.cfg").write_text(
        f"linux /boot/vmlinuz-{kernel} root=/dev/vda1 ro {COMMAND_LINE}\n"
        f"initrd /boot/initrd.img-{kernel}\nboot\n"
    )
    modules = ("biosdisk", "part_msdos", "ext2", "normal", "linux", "serial", "terminal", "echo")
    run(
        *("chroot", tree, "grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub"),
        *("-o", "/boot/grub/core.img", *modules),
    )
    return (grub / "core.img").read_bytes()


def _write_disk(disk: Path, tree: Path, core: bytes) -> None:
    """Boot sector, core image, and one partition with the tree."""
    sectors = (DISK_MIB << 20) // 512
    start = PARTITION_AT // 512
    # Bootable, no CHS addresses, type Linux
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe" * 3, 0x83, b"\xfe" * 3, start, sectors - start)
    code = (tree / "usr/lib/grub/i386-pc/boot.img").read_bytes()[:440]
    with disk.open("wb") as stream:
        stream.write(code + bytes(6) + entry + bytes(48) + b"\x55\xaa" + core)
        stream.truncate(DISK_MIB << 20)
    kib = (DISK_MIB << 10) - (PARTITION_AT >> 10)
    run(
        *("mke2fs", "-q", "-t", "ext4", "-E", f"offset={PARTITION_AT},root_owner=0:0"),
        *("-d", tree, disk, f"{kib}k"),
    )


def boot(directory: Path, name: str, script: str, payload: tuple[Path, ...]) -> Boot:
    """Boot once from the disk's own boot loader and run the script to its end."""
    second = _second_disk(directory, name, script, payload)
    log = directory / f"{name}.console"
    command = [
        *(qemu.PROGRAM, *HARDWARE.arguments(), "-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-display", "none", "-serial", f"file:{log}", "-monitor", "none", "-no-reboot"),
        *("-nodefaults", "-vga", "std"),
        *("-drive", f"file={directory / 'disk.img'},format=raw,if=virtio,cache=unsafe"),
        *("-drive", f"file={second},format=raw,if=virtio,readonly=on"),
    ]
    begin = time.monotonic()
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=True)
    except subprocess.TimeoutExpired as late:
        console = log.read_text(errors="replace")
        raise TimeoutError(f"{name}: not off after {TIMEOUT_S} s; {console[-3000:]}") from late
    console = log.read_text(errors="replace").replace("\r", "")
    up = re.search(r"^STAGE-BEGINS ([\d.]+)$", console, re.MULTILINE)
    return Boot(console, float(up[1]) if up else -1.0, time.monotonic() - begin)


def _second_disk(directory: Path, name: str, script: str, payload: tuple[Path, ...]) -> Path:
    tree = directory / f"{name}.tree"
    tree.mkdir()
    (tree / "run").write_text(script)
    for path in payload:
        shutil.copy2(path, tree)
    size = sum(path.stat().st_size for path in tree.iterdir()) // (1 << 20) * 5 // 4 + 8
    disk = directory / f"{name}.img"
    make_ext4(tree, disk, f"{size}M")
    shutil.rmtree(tree)
    return disk
