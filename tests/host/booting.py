# SPDX-License-Identifier: Apache-2.0
"""Boot a kernel whose process 1 is a program of this folder, and read what it printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def kernel(variable: str) -> Path:
    """The bzImage; not having one is a failure, no reason to skip."""
    path = Path(os.environ.get(variable, "/nonexistent"))
    if not path.is_file():
        pytest.fail(f"set {variable} to the bzImage that kernel/build made")
    return path


def steps_of(program: str) -> list[str]:
    """The names of a program's steps."""
    text = (HERE / program).read_text()
    return re.findall(r"^    (\w+),$", text.split("STEPS = (")[1], re.M)


def console_of(bzimage: Path, program: str, *env: str) -> str:
    """What the guest printed; it sees the file system of this machine, read-only.

    `env` is NAME=VALUE for process 1.
    """
    paths = [path for path in sys.path if path.startswith("/")]
    command = [
        "qemu-system-x86_64",
        *("-M", "q35", "-smp", "2", "-m", "768M", "-nodefaults", "-display", "none"),
        *("-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-object", "memory-backend-ram,id=m0,size=512M"),
        *("-object", "memory-backend-ram,id=m1,size=256M"),
        *("-numa", "node,nodeid=0,memdev=m0,cpus=0-1", "-numa", "node,nodeid=1,memdev=m1"),
        *("-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=root,mount_tag=root"),
        *("-serial", "stdio", "-no-reboot", "-kernel", str(bzimage)),
        "-append",
        "console=ttyS0 quiet panic=-1 root=root rootfstype=9p ro "
        "rootflags=trans=virtio,version=9p2000.L,cache=loose,msize=262144 "
        f"{' '.join(env)} NO_COLOR=1 PYTHONPATH={':'.join(paths)} PYTHONDONTWRITEBYTECODE=1 "
        f"init={sys.executable} -- -u {HERE / program}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert "STEPS done" in done.stdout, done.stdout[-8000:] + done.stderr
    return done.stdout
