# SPDX-License-Identifier: Apache-2.0
"""Run a program of this folder in namespaces of its own, with a cgroup tree below one directory.

The tree is the machine's own v2 tree, mounted once more, so that it is there whether or not the
host has one at /sys/fs/cgroup. The program makes its groups below `Tree.root` and `remove`s them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
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


@contextlib.contextmanager
def tree() -> Iterator[Path]:
    """Mount the tree of v2 for as long as the context lasts; all groups of ours end with it."""
    with tempfile.TemporaryDirectory() as root:
        subprocess.run(["mount", "-t", "cgroup2", "none", root], check=True)
        top = Path(root) / f"memplace-test-{Path('/proc/self/ns/pid').stat().st_ino}"
        top.mkdir()
        try:
            yield top
        finally:
            _remove(top)
            subprocess.run(["umount", root], check=True)


def _remove(top: Path) -> None:
    (top / "cgroup.kill").write_text("1")
    until = time.monotonic() + 10
    while "populated 1" in (top / "cgroup.events").read_text():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        assert time.monotonic() < until, "killed processes do not end"
        time.sleep(0.01)
    for path, _, _ in os.walk(top, topdown=False):
        Path(path).rmdir()
