# SPDX-License-Identifier: Apache-2.0
"""The machine's own v2 tree of cgroups, mounted once more below a directory of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


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
