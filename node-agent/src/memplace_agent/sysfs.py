# SPDX-License-Identifier: Apache-2.0
"""Read the NUMA nodes and the kernel's memory tiers of this machine."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from memplace.nodes import parse_nodes
from memplace.topology import NumaNode

from memplace_agent.hostfs import HostFs

__all__ = ["read_numa_nodes"]

# A file that went between the listing of its directory and its opening, or its reading.
_GONE = (errno.ENOENT, errno.ENODEV)

_MEMINFO = re.compile(r"Node \d+ (\w+):\s+(\d+) kB", re.ASCII)


def read_numa_nodes(host: HostFs) -> tuple[NumaNode, ...]:
    """Return all NUMA nodes by id.

    Memory can be added and removed while the node runs: one that goes while it is read is
    left out, and the others are as they were.
    """
    tiers = _kernel_tiers(host.memory_tiers)
    found = (_read_node(n, path, tiers.get(n)) for n, path in _numbered(host.numa_nodes, "node"))
    return tuple(node for node in found if node is not None)


def _read_node(number: int, path: Path, kernel_tier: int | None) -> NumaNode | None:
    try:
        cpus = parse_cpus((path / "cpulist").read_text())
        total = _meminfo(path).get("MemTotal", 0)
    except OSError as err:
        if err.errno in _GONE:
            return None
        raise
    return NumaNode(id=number, cpus=cpus, total_bytes=total, kernel_tier=kernel_tier)


def parse_cpus(text: str) -> frozenset[int]:
    """Parse a list of CPUs; it has the format of a list of nodes, and larger numbers."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _kernel_tiers(directory: Path) -> dict[int, int]:
    # Source: Linux Documentation/ABI/testing/sysfs-kernel-mm-memory-tiers.
    tiers: dict[int, int] = {}
    for tier, path in _numbered(directory, "memory_tier"):
        try:
            nodes = parse_nodes((path / "nodelist").read_text())
        except OSError as err:
            if err.errno not in _GONE:
                raise
            continue
        tiers |= dict.fromkeys(nodes, tier)
    return tiers


def _meminfo(path: Path) -> dict[str, int]:
    text = (path / "meminfo").read_text()
    return {match[1]: int(match[2]) * 1024 for match in _MEMINFO.finditer(text)}


def _numbered(directory: Path, prefix: str) -> list[tuple[int, Path]]:
    paths = directory.glob(f"{prefix}[0-9]*")
    return sorted((int(path.name.removeprefix(prefix)), path) for path in paths)
