# SPDX-License-Identifier: Apache-2.0
"""Nodes and their tiers: how much there is, and what placements have there. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec
from memplace.api.v1alpha1 import (
    ContainerReport,
    ContainerState,
    NodeMemory,
    RuleReport,
    TierBytes,
)
from memplace.nodes import NumaSet
from memplace.results import bytes_per_tier

from memplace_cli.facts import ClusterFacts

# NUMA nodes of which nothing shows what they are.
NO_TIER = ""


class TierShown(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A tier of a node.

    Attributes:
        node: The Kubernetes node.
        tier: Its name; empty for NUMA nodes that are in none.
        numa_nodes: Ascending.
        capacity_bytes: Their memory.
        placed_bytes: What the rules of placements hold there, measured.
        evidence: Why they are in that tier, or in none.
    """

    node: str
    tier: str
    numa_nodes: tuple[int, ...]
    capacity_bytes: int = 0
    placed_bytes: int = 0
    evidence: str = ""


class Tiers(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """All tiers of all nodes."""

    schema: int = 1
    tiers: tuple[TierShown, ...] = ()
    left_out: tuple[str, ...] = ()


def tiers(facts: ClusterFacts) -> Tiers:
    """Return the tiers of all nodes, by node and name; those in none come last."""
    shown = tuple(tier for node in facts.nodes or () for tier in tiers_of(node))
    return Tiers(tiers=shown, left_out=facts.left_out)


def tiers_of(node: NodeMemory) -> tuple[TierShown, ...]:
    """Return the tiers of a node, as its agent reports them."""
    status = node.status
    named = {tier.name: tier.numa_nodes for tier in status.tiers}
    among = {number for numbers in named.values() for number in numbers}
    rest = tuple(sorted(numa.id for numa in status.numa_nodes if numa.id not in among))
    if rest:
        named[NO_TIER] = rest
    placed = placed_by_node(node)
    by_id = {numa.id: numa for numa in status.numa_nodes}
    return tuple(
        TierShown(
            node=node.name,
            tier=name,
            numa_nodes=numbers,
            capacity_bytes=sum(by_id[n].total_bytes for n in numbers if n in by_id),
            placed_bytes=sum(placed[n] for n in numbers),
            evidence="; ".join(
                dict.fromkeys(
                    by_id[n].evidence for n in numbers if n in by_id and by_id[n].evidence
                )
            ),
        )
        for name, numbers in sorted(named.items(), key=lambda item: (item[0] == NO_TIER, item[0]))
    )


def placed_by_node(node: NodeMemory) -> Counter[int]:
    """Return what rules of placements hold on each NUMA node of a node, measured."""
    found: Counter[int] = Counter()
    for container in _each_once(node):
        for rule in container.rules:
            found.update({at.id: at.bytes for at in rule.numa_nodes})
    return found


def _each_once(node: NodeMemory) -> Iterable[ContainerReport]:
    # A dry run may tell of a container that another placement has.
    found: dict[tuple[str, str], ContainerReport] = {}
    for report in node.status.placements:
        for pod in report.pods:
            for each in pod.containers:
                key = (pod.uid, each.name)
                if key not in found or found[key].state is ContainerState.DRY_RUN:
                    found[key] = each
    return found.values()


def node_sets(node: NodeMemory) -> dict[str, NumaSet]:
    """Return a node's tiers by name."""
    return {tier.name: frozenset(tier.numa_nodes) for tier in node.status.tiers}


def sums(parts: Iterable[TierBytes]) -> tuple[TierBytes, ...]:
    """Return bytes of parts by tier, in the order in which tiers come first."""
    found: Counter[str] = Counter()
    for part in parts:
        found[part.name] += part.bytes
    return tuple(TierBytes(name=name, bytes=size) for name, size in found.items())


def by_tier(rules: Iterable[RuleReport], sets: Mapping[str, NumaSet]) -> tuple[TierBytes, ...]:
    """Return what rules hold, by tier."""
    found: Counter[int] = Counter()
    for rule in rules:
        found.update({at.id: at.bytes for at in rule.numa_nodes})
    return bytes_per_tier(found, sets)
