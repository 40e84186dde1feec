# SPDX-License-Identifier: Apache-2.0
"""Boot a kernel whose process 1 is pytest, and read what it tells of its tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine, boot_shared, console_of
from memplace_lab.machines.qemu import Hardware, Node

from tests.support.guest_reports import Told, read

ROOT = Path(__file__).parents[3]
MACHINE = Machine(Hardware((Node(512, cpus="0-1"), Node(256))), timeout_s=1800)
# The kernels that the tests' mark names.
KERNELS = {
    "patched": "MEMPLACE_KERNEL",
    "stock": "MEMPLACE_STOCK_KERNEL",
    "apparmor": "MEMPLACE_APPARMOR_KERNEL",
}


def kernel(name: str) -> Path:
    """The bzImage; not having one is a failure, no reason to skip."""
    path = Path(os.environ.get(KERNELS[name], "/nonexistent"))
    if not path.is_file():
        pytest.fail(f"set {KERNELS[name]} to the bzImage that kernel/build made")
    return path


def run(bzimage: Path, nodeids: Sequence[str], workdir: Path, *env: str) -> Told:
    """Run tests in a guest, which sees the file system of this machine, read-only.

    Args:
        bzimage: The kernel.
        nodeids: The tests, as pytest calls them.
        workdir: A folder for what comes back.
        env: NAME=VALUE for process 1.
    """
    asked, channel, log = (workdir / name for name in ("tests", "channel.jsonl", "console"))
    asked.write_text("".join(f"{nodeid}\n" for nodeid in nodeids))
    paths = dict.fromkeys((str(ROOT), *(path for path in sys.path if path.startswith("/"))))
    words = (
        *(*env, "NO_COLOR=1", "PYTHONDONTWRITEBYTECODE=1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"),
        *("TMPDIR=/run", f"PYTHONPATH={':'.join(paths)}"),
    )
    machine = replace(MACHINE, append=" ".join(words))
    init = f"{sys.executable} -- -u -m tests.support.guest.guest {asked}"
    trouble = []
    try:
        console = boot_shared(bzimage, init, machine, log, channel)
    except (TimeoutError, RuntimeError) as error:
        trouble, console = str(error).splitlines()[:1], console_of(log)
    told = read(channel.read_text(errors="replace") if channel.exists() else "")
    told.problems[:0] = trouble
    told.console = console
    return told
