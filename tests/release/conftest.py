# SPDX-License-Identifier: Apache-2.0
"""A clone with all that the checkout has, committed, and two releases made of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from memplace_lab.release.archive import Entry, unpack

ROOT = Path(__file__).parents[2]
COMMITTED = "2026-01-02T03:04:05+00:00"
# A git of its own, whoever runs this and whatever they have configured.
GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "Nobody",
    "GIT_AUTHOR_EMAIL": "nobody@example.org",
    "GIT_AUTHOR_DATE": COMMITTED,
    "GIT_COMMITTER_NAME": "Nobody",
    "GIT_COMMITTER_EMAIL": "nobody@example.org",
    "GIT_COMMITTER_DATE": COMMITTED,
}


def git(clone: Path, *arguments: str) -> str:
    command = ["git", "-C", str(clone), *arguments]
    return subprocess.run(
        command, env={**os.environ, **GIT}, check=True, capture_output=True, text=True
    ).stdout


def release(clone: Path, out: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "memplace_lab", "release", "--out", str(out)]
    return subprocess.run(
        command, cwd=clone, env={**os.environ, **GIT, **env}, capture_output=True, text=True
    )


@dataclass(frozen=True)
class Release:
    """The files of a release and the clone it was made of."""

    folder: Path
    clone: Path

    @property
    def version(self) -> str:
        text = (self.clone / "core/src/memplace/__init__.py").read_text()
        (found,) = re.findall(r'__version__ = "(.*)"', text)
        return str(found)

    def archive(self, name: str) -> dict[str, Entry]:
        """Return the files of a tar by their names below its one folder."""
        path = self.folder / name.replace("VERSION", self.version)
        return {entry.name.partition("/")[2]: entry for entry in unpack(path)}

    def wheels(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Yield the name of each distribution and the files of its wheel."""
        for path in sorted(self.folder.glob("*.whl")):
            with zipfile.ZipFile(path) as zipped:
                files = {name: zipped.read(name) for name in zipped.namelist()}
            yield path.name.partition("-")[0], files


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
