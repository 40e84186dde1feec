# SPDX-License-Identifier: Apache-2.0
"""Find out whether virtual machines can run under KVM here, by booting one."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from memplace_lab.base import store
from memplace_lab.base.steps import say
from memplace_lab.machines import qemu

KVM = ("-accel", "kvm", "-cpu", "host")
EMULATION = ("-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max")

# /dev/kvm may open and still not run a guest, or run it into the ground: only a
# kernel that got as far as looking for its root file system counts.
_SIGN_OF_LIFE = b"Unable to mount root fs"
_PATIENCE_S = 20


def accelerator(kernel: Path) -> tuple[str, ...]:
    """Return QEMU's arguments for KVM where it boots ``kernel``, else for emulation.

    The answer is remembered until the host reboots.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    memory = store.CACHE / f"kvm-{boot}"
    if not memory.exists():
        works = Path("/dev/kvm").exists() and _boots_under_kvm(kernel)
        found = "KVM works" if works else "no usable KVM, emulating the processor"
        say(f"virtual machines: {found}")
        for old in store.CACHE.glob("kvm-*"):
            old.unlink()
        memory.write_text("yes" if works else "no")
    return KVM if memory.read_text() == "yes" else EMULATION


def _boots_under_kvm(kernel: Path) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        serial = Path(directory) / "serial"
        command = [
            qemu.PROGRAM,
            *KVM,
            "-machine",
            "q35",
            "-m",
            "512",
            "-display",
            "none",
            "-nodefaults",
            "-serial",
            f"file:{serial}",
            "-no-reboot",
            "-kernel",
            str(kernel),
            "-append",
            "console=ttyS0 panic=-1",
        ]
        guest = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return _speaks(guest, serial)
        finally:
            guest.kill()
            guest.wait()


def _speaks(guest: subprocess.Popen[bytes], serial: Path) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if serial.exists() and _SIGN_OF_LIFE in serial.read_bytes():
            return True
        if guest.poll() is not None:
            return serial.exists() and _SIGN_OF_LIFE in serial.read_bytes()
        time.sleep(0.1)
    return False
