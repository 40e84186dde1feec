# SPDX-License-Identifier: Apache-2.0
"""The files of a release, except its bill of materials: sources, chart, kernel, distributions."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterator
from pathlib import Path

from memplace_lab.base.steps import run
from memplace_lab.release.archive import Entry, entries_below, entry_of, pack, unpack
from memplace_lab.release.commit import Commit

# The lab is for those who have the repository.
DISTRIBUTIONS = ("core", "operator", "node-agent", "cli")
_LICENSE = "LICENSE"
_WITH_EACH_SERIES = ("README.md", "TESTED.md", "man/process_mbind.2")
_GPL = "LICENSES/GPL-2.0-only.txt"


def sources(commit: Commit, out: Path) -> None:
    """Write everything that the commit has."""
    name = f"memplace-{commit.version}"
    pack(out / f"{name}-source.tar.gz", entries_below(commit.tree, name), commit.epoch_s)


def chart(commit: Commit, out: Path) -> None:
    """Write the chart as ``helm package`` names it; Helm itself would write today's date."""
    folder = commit.tree / "charts/memplace"
    entries = [*_chart_files(folder), entry_of(commit.tree / _LICENSE, f"memplace/{_LICENSE}")]
    pack(out / f"memplace-{commit.version}.tgz", entries, commit.epoch_s)


def _chart_files(folder: Path) -> Iterator[Entry]:
    lines = (folder / ".helmignore").read_text().splitlines()
    # Each pattern of ours is about a name, of a file or a folder, and none about a path.
    ignored = [line.rstrip("/") for line in lines if line and not line.startswith("#")]
    for entry in entries_below(folder, "memplace"):
        parts = entry.name.split("/")
        if not any(fnmatch.filter(parts, pattern) for pattern in ignored):
            yield entry


def series(commit: Commit, out: Path) -> None:
    """Write a tar for each base of the kernel: patches, cover letters, manual page, licence."""
    kernel = commit.tree / "kernel"
    for base in kernel.glob("[0-9]*"):
        name = f"memplace-kernel-{base.name}-{commit.version}"
        # Patches that are the same for all bases are links to kernel/common.
        entries = [
            entry_of(path, f"{name}/{path.name}", follow=True) for path in base.glob("*.patch")
        ]
        entries += [entry_of(kernel / file, f"{name}/{file}") for file in _WITH_EACH_SERIES]
        entries.append(entry_of(commit.tree / _GPL, f"{name}/{_GPL}"))
        pack(out / f"{name}.tar.gz", entries, commit.epoch_s)


def distributions(commit: Commit, out: Path) -> None:
    """Build an sdist and a wheel of each Python distribution that is no part of the lab.

    The back ends are those of this environment, which uv.lock pins.
    """
    env = {
        "SOURCE_DATE_EPOCH": str(commit.epoch_s),
        # Debug information has the path of a folder that is another one each time.
        "CFLAGS": "-g0",
    }
    how = ("--quiet", "--offline", "--no-build-isolation", "--no-create-gitignore")
    for package in DISTRIBUTIONS:
        where = ("--python", sys.executable, "--out-dir", out)
        run("uv", "build", *how, *where, commit.tree / package, env=env)
    for sdist in out.glob("memplace*-[0-9]*.tar.gz"):
        if not sdist.name.endswith("-source.tar.gz") and "-kernel-" not in sdist.name:
            pack(sdist, list(unpack(sdist)), commit.epoch_s)
