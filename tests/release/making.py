# SPDX-License-Identifier: Apache-2.0
"""Make a release of a clone, with a git of its own, and read its files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
