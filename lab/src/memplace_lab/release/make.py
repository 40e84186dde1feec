# SPDX-License-Identifier: Apache-2.0
"""Make the files of a release from the commit that is checked out: `make release`."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from memplace_lab.base.steps import step
from memplace_lab.release import krew, parts, sbom
from memplace_lab.release.commit import Commit, lay_out


def make(checkout: Path, out: Path, *, allow_dirty: bool, dpkg: Path | None = None) -> Commit:
    """Make a release of a checkout's commit in ``out``, replacing what is there.

    ``dpkg`` is for the bill of materials, see `sbom.write`.

    Raises:
        LabError: The checkout is dirty, or a part cannot be made; ``out`` is as it was then.
    """
    os.umask(0o022)  # wheels keep the modes of files
    with tempfile.TemporaryDirectory(prefix="memplace-release.") as folder:
        work, made = Path(folder), Path(folder, "made")
        commit = lay_out(checkout, work, allow_dirty=allow_dirty)
        made.mkdir()
        each = (
            parts.sources,
            parts.chart,
            parts.series,
            parts.distributions,
            krew.plugin,
        )
        for part in each:
            with step(f"{part.__module__.rpartition('.')[2]}: {part.__name__}"):
                part(commit, made)
        with step("sbom: write"):
            sbom.write(commit, made, dpkg)
        _write_sums(made)
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, out)
    return commit


def _write_sums(folder: Path) -> None:
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
