# SPDX-License-Identifier: Apache-2.0
"""Run a program of this folder as process 1 of a pid namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
_ALONE = ("unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc")


def run_alone(program: str, *args: object, timeout: float) -> str:
    """Run a program as process 1 of a new pid namespace; returns what it says, or fails."""
    done = subprocess.run(
        [*_ALONE, sys.executable, "-m", f"tests.faults.{program}", *map(str, args)],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
