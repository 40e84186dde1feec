# SPDX-License-Identifier: Apache-2.0
"""The commit to be released, unpacked into a folder of its own, so that nothing else gets in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memplace_lab.base.steps import LabError, run
from memplace_lab.release import version


@dataclass(frozen=True, slots=True)
class Commit:
    """What is released.

    Attributes:
        tree: A folder with the files of the commit.
        version: The version that they tell.
        epoch_s: When it was committed, in Unix time.
        name: Its hash; with ``-dirty`` if files were changed since.
    """

    tree: Path
    version: str
    epoch_s: int
    name: str


def lay_out(checkout: Path, work: Path, *, allow_dirty: bool) -> Commit:
    """Write the files of a checkout's commit below ``work``.

    With ``allow_dirty`` they are those of the checkout as it is now, but for what git ignores.

    Raises:
        LabError: The checkout is no clone, or has changes that are not committed.
    """
    if not (checkout / ".git").exists():
        raise LabError(f"{checkout.resolve()} is no clone: a release is made of a commit")
    changed = _git(checkout, "status", "--porcelain").splitlines()
    if changed and not allow_dirty:
        raise LabError(
            "the tree has changes that are not committed:\n"
            + "\n".join(changed[:10])
            + ("\n…" if len(changed) > 10 else "")
            + "\nCommit them, or try out what a release would be with: make release ALLOW_DIRTY=1"
        )
    tree = work / "tree"
    index = {"GIT_INDEX_FILE": str(work.resolve() / "index")}
    _git(checkout, "read-tree", "HEAD", env=index)
    if changed:
        _git(checkout, "add", "--all", env=index)
    _git(checkout, "checkout-index", "--all", f"--prefix={tree.resolve()}/", env=index)
    name, seconds = _git(checkout, "log", "-1", "--format=%H %ct").split()
    dirt = "-dirty" if changed else ""
    return Commit(tree, version.told(tree), int(seconds), name + dirt)


def _git(checkout: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    return run("git", "-C", checkout, *arguments, env=env)
