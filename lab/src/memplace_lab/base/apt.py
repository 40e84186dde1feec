# SPDX-License-Identifier: Apache-2.0
"""apt's package lists, and sources that the tools' root does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from memplace_lab.base import store
from memplace_lab.base.steps import run


def sources() -> tuple[str, ...]:
    """Return the lines of the tools' root, "deb URI trixie main" first: the host's mirror."""
    lines = Path("/etc/apt/sources.list").read_text().splitlines()
    return tuple(line for line in lines if line.startswith("deb "))


def environment(name: str, lines: Sequence[str]) -> dict[str, str]:
    """Return the environment in which apt has these sources, with lists apart; see `update`.

    Args:
        name: Short, for the folder in the cache.
        lines: Of a sources.list.
    """
    folder = store.CACHE / "apt" / name
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text("\n".join(lines) + "\n")
    config = folder / "apt.conf"
    config.write_text(
        f'Dir::Etc::sourcelist "{folder}/sources.list";\n'
        'Dir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{folder}/lists";\n'
        'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
    )
    return {"APT_CONFIG": str(config)}


def update(env: Mapping[str, str] | None = None) -> None:
    """Fetch the package lists, of which the tools' root has none, in `environment` or without.

    One at a time: apt does not wait for another that fetches them.
    """
    with store.lock("apt"):
        run("apt-get", "-q", "update", env=env)
