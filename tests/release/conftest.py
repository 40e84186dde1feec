# SPDX-License-Identifier: Apache-2.0
"""A clone with all that the checkout has, committed, and two releases made of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.release.making import ROOT, Release, git, release


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone. The checkout itself may have changes, or be no clone at all."""
    there = tmp_path_factory.mktemp("release") / "clone"
    left_out = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", ".hypothesis", "out", "__pycache__", "*.so"
    )
    shutil.copytree(ROOT, there, symlinks=True, ignore=left_out)
    git(there, "init", "--quiet")
    git(there, "add", "--all")
    git(there, "commit", "--quiet", "--message=all")
    return there


@pytest.fixture(scope="session")
def twice(clone: Path) -> tuple[Release, Release]:
    """Return two releases, the second made by somebody with other habits."""
    made = []
    for number, (mask, zone) in enumerate(((0o022, "UTC"), (0o077, "Asia/Tokyo"))):
        out = clone.parent / f"out-{number}"
        before = os.umask(mask)
        try:
            done = release(clone, out, TZ=zone, PYTHONHASHSEED=str(number))
        finally:
            os.umask(before)
        assert done.returncode == 0, done.stderr
        made.append(Release(out, clone))
    return made[0], made[1]


@pytest.fixture(scope="session")
def released(twice: tuple[Release, Release]) -> Release:
    return twice[0]
