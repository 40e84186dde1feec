# SPDX-License-Identifier: Apache-2.0
"""apt with sources that the tools' root does not have, and package lists apart from its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memplace_lab import store


def sources() -> tuple[str, ...]:
    """Return the lines of the tools' root, "deb URI trixie main" first: the host's mirror."""
    lines = Path("/etc/apt/sources.list").read_text().splitlines()
    return tuple(line for line in lines if line.startswith("deb "))


def environment(name: str, lines: Sequence[str]) -> dict[str, str]:
    """Return the environment in which apt has these sources; "apt-get update" is yet to run.

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
