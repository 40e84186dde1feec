# SPDX-License-Identifier: Apache-2.0
"""Read the NUMA nodes and the kernel's memory tiers of this machine."""

from __future__ import annotations

import re
from pathlib import Path

from memplace.nodes import parse_nodes
from memplace.topology import NumaNode

from memplace_agent.hostfs import HostFs

__all__ = ["free_bytes", "read_numa_nodes"]

_MEMINFO = re.compile(r"Node \d+ (\w+):\s+(\d+) kB", re.ASCII)


def read_numa_nodes(host: HostFs) -> tuple[NumaNode, ...]:
    """Return all NUMA nodes by id; memory can be added and removed while the node runs."""
    tiers = _kernel_tiers(host.memory_tiers)
    return tuple(
        NumaNode(
            id=number,
            cpus=parse_cpus((path / "cpulist").read_text()),
            total_bytes=_meminfo(path).get("MemTotal", 0),
            kernel_tier=tiers.get(number),
        )
        for number, path in _numbered(host.numa_nodes, "node")
    )


def free_bytes(host: HostFs) -> dict[int, int]:
    """Return MemFree of each NUMA node, in bytes."""
    return {
        number: _meminfo(path).get("MemFree", 0)
        for number, path in _numbered(host.numa_nodes, "node")
    }


def parse_cpus(text: str) -> frozenset[int]:
    """Parse a list of CPUs; it has the format of a list of nodes, and larger numbers."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _kernel_tiers(directory: Path) -> dict[int, int]:
    # Source: Linux Documentation/ABI/testing/sysfs-kernel-mm-memory-tiers.
    return {
        node: tier
        for tier, path in _numbered(directory, "memory_tier")
        for node in parse_nodes((path / "nodelist").read_text())
    }


def _meminfo(path: Path) -> dict[str, int]:
    text = (path / "meminfo").read_text()
    return {match[1]: int(match[2]) * 1024 for match in _MEMINFO.finditer(text)}


def _numbered(directory: Path, prefix: str) -> list[tuple[int, Path]]:
    paths = directory.glob(f"{prefix}[0-9]*")
    return sorted((int(path.name.removeprefix(prefix)), path) for path in paths)
