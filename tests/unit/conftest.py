# SPDX-License-Identifier: Apache-2.0
"""Properties fail for a counterexample only, never for a busy machine; what needs root says so."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Hypothesis also measures wall time: 200 ms per example, and how fast inputs come. On two
# cores that build a kernel next door, both fail tests that are correct.
settings.register_profile("memplace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("memplace")

_IN_LAB = "MEMPLACE_IN_LAB" in os.environ

# Below pytest's temporary folders are trees of cgroups made of text. A real one gives no inode
# twice, and tmpfs, which /tmp is in the lab, does not either. On ext4 tests of births fail.
if not _IN_LAB and Path("/dev/shm").is_mount() and os.access("/dev/shm", os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run. The lab's root can run all: there, it fails."""
    if not _IN_LAB:
        for reason in _obstacles(item):
            pytest.skip(reason)


def _obstacles(item: pytest.Item) -> Iterator[str]:
    for mark in item.iter_markers("needs_root"):
        if os.geteuid() != 0:
            yield f"needs root: {mark.args[0]}"
    for mark in item.iter_markers("needs_installed"):
        missing = [what for what in mark.args if not _is_there(what)]
        if missing:
            yield f"needs {', '.join(missing)}"


def _is_there(what: str) -> bool:
    return Path(what).exists() if what.startswith("/") else shutil.which(what) is not None
