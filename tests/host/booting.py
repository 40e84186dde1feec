# SPDX-License-Identifier: Apache-2.0
"""Boot a kernel whose process 1 is a program of this folder, and read what it printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from memplace_lab.machines import qemu
from memplace_lab.machines.qemu import Hardware, Node

HERE = Path(__file__).parent
HARDWARE = Hardware((Node(512, cpus="0-1"), Node(256)))


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
        *(qemu.PROGRAM, *HARDWARE.arguments(), "-nodefaults", "-display", "none"),
        *("-accel", "tcg,thread=multi", "-cpu", "max", *qemu.SHARED_ROOT),
        *("-serial", "stdio", "-no-reboot", "-kernel", str(bzimage)),
        "-append",
        f"console=ttyS0 quiet panic=-1 {qemu.ON_SHARED_ROOT} "
        f"{' '.join(env)} NO_COLOR=1 PYTHONPATH={':'.join(paths)} PYTHONDONTWRITEBYTECODE=1 "
        f"init={sys.executable} -- -u {HERE / program}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert "STEPS done" in done.stdout, done.stdout[-8000:] + done.stderr
    return done.stdout
