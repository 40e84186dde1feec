# SPDX-License-Identifier: Apache-2.0
"""Tiers of a node: what the kernel knows, and what MemoryTier objects say instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec import UNSET

from memplace.api.v1alpha1 import MemoryTier
from memplace.nodes import NodeSet

DRAM = "dram"
CXL = "cxl"
HBM = "hbm"

# Tiers that need no MemoryTier object: a node without one of them is not a typing error.
BUILTIN_TIERS = frozenset({DRAM, CXL, HBM})


@dataclass(frozen=True, slots=True)
class NumaNode:
    """A NUMA node as sysfs describes it.

    Attributes:
        id: The node's number.
        cpus: CPUs of the node; empty for CXL memory and HBM.
        total_bytes: Its memory; 0 for a memoryless node.
        kernel_tier: N of /sys/devices/virtual/memory_tiering/memory_tierN whose nodelist has
            it, larger is slower; None when the kernel has it in no tier.
    """

    id: int
    cpus: frozenset[int]
    total_bytes: int
    kernel_tier: int | None = None


def resolve_tiers(
    numa_nodes: Sequence[NumaNode], memory_tiers: Iterable[MemoryTier], node_name: str
) -> dict[str, NodeSet]:
    """Group the NUMA nodes of a Kubernetes node into tiers.

    A node with CPUs is ``dram``. One without, in a kernel tier slower than the fastest
    dram node's, is ``cxl``, in a faster one ``hbm``. One that the kernel has in no tier or
    in dram's (device memory, say) is in none. A MemoryTier that covers this Kubernetes node
    overrides that for the NUMA nodes it lists; of two that list the same one, one with
    nodeNames beats one without, then the first name wins.

    Args:
        numa_nodes: All NUMA nodes; those without memory are left out.
        memory_tiers: All MemoryTier objects, in any order.
        node_name: The Kubernetes node's name.

    Returns:
        Tier name to its NUMA nodes, by name; sets are never empty and never overlap.

    Source: linux ``Documentation/ABI/testing/sysfs-kernel-mm-memory-tiers``,
    ``mm/memory-tiers.c``.
    """
    populated = [node for node in numa_nodes if node.total_bytes > 0]
    by_node = _default_tiers(populated)
    for tier in sorted(memory_tiers, key=_weakest_first, reverse=True):
        if tier.spec.covers(node_name):
            by_node.update((n.id, tier.name) for n in populated if n.id in tier.spec.numa_nodes)
    names = sorted(set(by_node.values()))
    return {name: frozenset(n for n, tier in by_node.items() if tier == name) for name in names}


def _weakest_first(tier: MemoryTier) -> tuple[bool, str]:
    # Sorted in reverse, so that the strongest is applied last and overwrites the others.
    return tier.spec.node_names is UNSET, tier.name


def _default_tiers(populated: Iterable[NumaNode]) -> dict[int, str]:
    nodes = list(populated)
    dram_tiers = [n.kernel_tier for n in nodes if n.cpus and n.kernel_tier is not None]
    dram = min(dram_tiers, default=None)
    named = ((node.id, _default_tier(node, dram)) for node in nodes)
    return {id_: tier for id_, tier in named if tier}


def _default_tier(node: NumaNode, dram: int | None) -> str:
    if node.cpus:
        return DRAM
    if node.kernel_tier is None or dram is None or node.kernel_tier == dram:
        return ""
    return CXL if node.kernel_tier > dram else HBM


def tier_by_node(tiers: Mapping[str, NodeSet]) -> dict[int, str]:
    """Turn tiers around: NUMA node to the name of its tier."""
    return {node: name for name, nodes in tiers.items() for node in nodes}
