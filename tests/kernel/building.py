# SPDX-License-Identifier: Apache-2.0
"""Compile the programs that run on the kernel under test."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Protocol


def run(*command: str) -> None:
    """Run a command; what it printed is the message if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Build(Protocol):
    """Compile files of this directory, with the shared ones if wanted, to a static program."""

    def __call__(self, name: str, *sources: str, shared: bool = True) -> Path: ...
