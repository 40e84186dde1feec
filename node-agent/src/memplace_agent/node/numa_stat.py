# SPDX-License-Identifier: Apache-2.0
"""How many bytes of a cgroup are on each NUMA node, as the kernel's own account has it."""

from __future__ import annotations

from pathlib import Path

# Shared memory is a part of file.
_COUNTED = frozenset({"anon", "file"})


def read_numa_stat(cgroup: Path, counted: frozenset[str] = _COUNTED) -> dict[int, int] | None:
    """Return memory by NUMA node, in bytes, its anonymous and file memory unless told otherwise.

    Memory from pools of huge pages is not in this account. None if it can't be read.
    """
    try:
        return parse_numa_stat((cgroup / "memory.numa_stat").read_text(), counted)
    except (OSError, ValueError):
        return None


def parse_numa_stat(text: str, counted: frozenset[str] = _COUNTED) -> dict[int, int]:
    r"""Parse memory.numa_stat.

    Source: linux ``Documentation/admin-guide/cgroup-v2.rst``, memory.numa_stat.

    Raises:
        ValueError: It is something else.

    Example:
        >>> parse_numa_stat("anon N0=8192 N1=4096\nkernel_stack N0=4096 N1=0\n")
        {0: 8192, 1: 4096}
    """
    found: dict[int, int] = {}
    for line in text.splitlines():
        name, *nodes = line.split()
        for each in nodes if name in counted else ():
            node, size = each.removeprefix("N").split("=")
            found[int(node)] = found.get(int(node), 0) + int(size)
    return found
