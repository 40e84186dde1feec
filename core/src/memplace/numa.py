# SPDX-License-Identifier: Apache-2.0
"""NUMA nodes as sysfs describes them: plain values, and where their memory lies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class DaxKind(Enum):
    """What is behind a dax device, told by where it is in the tree of devices."""

    CXL = "CXL"
    PERSISTENT = "persistent"  # an NVDIMM, or what says it is one
    OTHER = "other"  # memory that firmware set aside: HBM, CXL, or anything else


@dataclass(frozen=True, slots=True)
class DaxDevice:
    """A dax device that is used as memory (driver kmem), such as ``dax0.0``."""

    name: str
    kind: DaxKind


@dataclass(frozen=True, slots=True)
class Figures:
    """What HMAT, or CXL's CDAT, says of reads by the nearest CPUs."""

    latency_ns: int
    bandwidth_mbs: int


# There are figures, but not both, or they can't be understood.
UNCLEAR = Figures(0, 0)


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Physical addresses that lead to CXL memory: a region, or a window of a host bridge."""

    name: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class NumaNode:
    """A NUMA node as sysfs describes it.

    Attributes:
        id: The node's number.
        cpus: CPUs of the node that are online; empty for CXL memory and HBM; None when it
            can't be told.
        total_bytes: Its memory; 0 for a memoryless node.
        kernel_tier: N of /sys/devices/virtual/memory_tiering/memory_tierN whose nodelist has
            it, larger is slower; None when the kernel has it in no tier.
        has_cpus: It has CPUs, online or not.
        figures: Of its memory; None when nothing is said, UNCLEAR when not all is clear.
        dax: The devices that gave it memory.
        cxl: Names of the CXL regions or windows that all of its memory lies in.
        barred: Why it is no tier, whatever else is shown; empty when nothing is in the way.
    """

    id: int
    cpus: frozenset[int] | None
    total_bytes: int
    kernel_tier: int | None = None
    has_cpus: bool = False
    figures: Figures | None = None
    dax: tuple[DaxDevice, ...] = ()
    cxl: tuple[str, ...] = ()
    barred: str = ""


def holders(
    blocks: Iterable[int], block_bytes: int, ranges: Sequence[AddressRange]
) -> tuple[str, ...]:
    """Return the names of the ranges that hold memory blocks; the first of two that overlap.

    Args:
        blocks: Numbers of the memory blocks of a node.
        block_bytes: The size of each; a block begins at its number times this.
        ranges: Any ranges. Who holds a part of a block holds it.

    Returns:
        Nothing when a block is in no range: then not all of it is that kind of memory.

    Source: linux ``Documentation/admin-guide/mm/memory-hotplug.rst``, phys_index.
    """
    left, names = set(blocks), []
    for each in ranges:
        first, last = each.start // block_bytes, (each.start + each.size - 1) // block_bytes
        held = {block for block in left if first <= block <= last}
        if held:
            names.append(each.name)
        left -= held
    return () if left else tuple(names)
