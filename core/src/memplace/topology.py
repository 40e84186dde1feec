# SPDX-License-Identifier: Apache-2.0
"""Tiers of a node: what is shown of its NUMA nodes, and what MemoryTier objects say instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import UNSET

from memplace.api.v1alpha1 import MemoryTier
from memplace.evidence import CXL, DRAM, HBM, Verdict, has_cpus, judge
from memplace.nodes import NumaSet
from memplace.numa import NumaNode

_NO_LABELS: Mapping[str, str] = MappingProxyType({})

# Tiers that need no MemoryTier object: a node without one of them is not a typing error.
BUILTIN_TIERS = frozenset({DRAM, CXL, HBM})


def resolve_tiers(
    numa_nodes: Iterable[NumaNode],
    memory_tiers: Iterable[MemoryTier],
    node_name: str,
    labels: Mapping[str, str] = _NO_LABELS,
) -> dict[str, NumaSet]:
    """Group the NUMA nodes of a Kubernetes node into tiers.

    Returns:
        Tier name to its NUMA nodes, by name; sets are never empty and never overlap. A node
        of which nothing shows what it is, and of which no MemoryTier says it, is in none.
    """
    return nodes_by_tier(resolve_verdicts(numa_nodes, memory_tiers, node_name, labels))


def resolve_verdicts(
    numa_nodes: Iterable[NumaNode],
    memory_tiers: Iterable[MemoryTier],
    node_name: str,
    labels: Mapping[str, str] = _NO_LABELS,
) -> dict[int, Verdict]:
    """Say of each NUMA node with memory which tier it is in, and why.

    A node with CPUs is ``dram``. One without is ``cxl`` or ``hbm`` by positive evidence only,
    in this order: the device its memory comes from, the CXL region it lies in, its figures
    and the kernel's memory tier compared with dram's. Memory of a device, a GPU say, is in
    none, and so is a node in dram's kernel tier of which nothing else is shown.

    A MemoryTier that covers this Kubernetes node overrides all that for the NUMA nodes it
    lists; of two that list the same one, one with nodeNames beats one with nodeSelector, that
    beats one without either, then the first name wins. One without either is about all machines
    of a fleet: where the number is a NUMA node with CPUs it is left aside, and the verdict says
    so.

    Args:
        numa_nodes: All NUMA nodes, in any order; those without memory are left out.
        memory_tiers: All MemoryTier objects, in any order.
        node_name: The Kubernetes node's name.
        labels: Its labels.

    Source: linux ``Documentation/ABI/testing/sysfs-kernel-mm-memory-tiers``,
    ``Documentation/admin-guide/mm/numaperf.rst``, ``mm/memory-tiers.c``.
    """
    numa_nodes = tuple(numa_nodes)
    with_cpus = {node.id for node in numa_nodes if has_cpus(node)}
    shown = judge(numa_nodes)
    verdicts = dict(shown)
    for tier in reversed(by_precedence(memory_tiers)):
        if not tier.spec.covers(node_name, labels):
            continue
        for number in shown.keys() & set(tier.spec.numa_nodes):
            is_aside = tier.spec.is_of_all and number in with_cpus
            verdicts[number] = _aside(shown[number], tier) if is_aside else _said(tier)
    return verdicts


def _said(tier: MemoryTier) -> Verdict:
    return Verdict(tier.name, said_by(tier.name))


def said_by(tier: str) -> str:
    """Return the evidence of NUMA nodes that are in a tier because its MemoryTier lists them."""
    return f"MemoryTier {tier} says so"


def _aside(shown: Verdict, tier: MemoryTier) -> Verdict:
    if tier.name == shown.tier:
        return shown
    why = (
        f"MemoryTier {tier.name} has no nodeNames and no nodeSelector, and is left aside for NUMA "
        "nodes with CPUs"
    )
    return Verdict(shown.tier, f"{shown.why}; {why}")


def by_precedence(memory_tiers: Iterable[MemoryTier]) -> list[MemoryTier]:
    """Return MemoryTiers, first the one that has a NUMA node where several list it."""
    return sorted(
        memory_tiers, key=lambda t: (t.spec.is_of_all, t.spec.node_names is UNSET, t.name)
    )


def nodes_by_tier(verdicts: Mapping[int, Verdict]) -> dict[str, NumaSet]:
    """Return the tiers by name, and their NUMA nodes; nodes in none are left out."""
    names = sorted({verdict.tier for verdict in verdicts.values()} - {""})
    return {
        name: frozenset(n for n, verdict in verdicts.items() if verdict.tier == name)
        for name in names
    }


def tier_by_node(tiers: Mapping[str, NumaSet]) -> dict[int, str]:
    """Turn tiers around: NUMA node to the name of its tier."""
    return {node: name for name, nodes in tiers.items() for node in nodes}
