# SPDX-License-Identifier: Apache-2.0
"""What applying MemoryTiers would do to the tiers of nodes. Pure.

Which NUMA nodes a MemoryTier gets the core decides. What an agent sees of a node's memory is not
reported in full: a NUMA node that no MemoryTier names (any more) is in the tier it is in now, or
in one that the agent has yet to find.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from memplace.api.v1alpha1 import MemoryTier, NodeMemory, NumaNodeStatus
from memplace.evidence import Verdict
from memplace.nodes import NumaSet, format_nodes
from memplace.numa import NumaNode
from memplace.topology import nodes_by_tier, resolve_verdicts
from msgspec import UNSET

from memplace_cli.planned import PlanFacts, TierNodePlan, TierPlan, Wanted


def tiers_after(wanted: Sequence[Wanted], found: PlanFacts) -> dict[str, Mapping[str, NumaSet]]:
    """Return per node its tiers, as they would be."""
    after = found.tiers_after(wanted)
    return {
        node.name: nodes_by_tier(_verdicts(node, found, after)) for node in found.facts.nodes or ()
    }


def plan_tiers(wanted: Sequence[Wanted], found: PlanFacts) -> tuple[TierPlan, ...]:
    """Return what would become of each MemoryTier, in their order."""
    after = found.tiers_after(wanted)
    return tuple(
        TierPlan(
            name=each.tier.name,
            exists=each.live is not None,
            changes=each.changes,
            kept=each.kept,
            nodes=tuple(_nodes(each.tier, found, after)),
            notes=tuple(_notes(each.tier, found)),
        )
        for each in wanted
        if each.tier is not None
    )


def _verdicts(
    node: NodeMemory, found: PlanFacts, after: Sequence[MemoryTier]
) -> dict[int, Verdict]:
    now = {n: tier.name for tier in node.status.tiers for n in tier.numa_nodes}
    numbers = {n: NumaNodeStatus(id=n) for n in now}
    numbers |= {each.id: each for each in node.status.numa_nodes}
    bare = [
        NumaNode(id=n, cpus=None, total_bytes=max(each.total_bytes, 1), has_cpus=bool(each.cpus))
        for n, each in numbers.items()
    ]
    said = resolve_verdicts(bare, after, node.name, found.labels_of(node.name) or {})
    verdicts = {n: Verdict(now.get(n, ""), each.evidence) for n, each in numbers.items()}
    for tier in found.tiers or ():
        if all(tier.name != each.name or tier != each for each in after):
            # Changed: what it said of its NUMA nodes is not so any more.
            for n, verdict in list(verdicts.items()):
                if verdict == Verdict(tier.name, f"MemoryTier {tier.name} says so"):
                    verdicts[n] = Verdict("", "what the agent sees of it decides")
    for n, verdict in said.items():
        if verdict.tier and verdict.why == f"MemoryTier {verdict.tier} says so":
            verdicts[n] = verdict
    return verdicts


def _nodes(
    tier: MemoryTier, found: PlanFacts, after: Sequence[MemoryTier]
) -> Iterator[TierNodePlan]:
    for node in found.facts.nodes or ():
        now = next((t.numa_nodes for t in node.status.tiers if t.name == tier.name), ())
        verdicts = _verdicts(node, found, after)
        covered = _covers(tier, node, found)
        then = tuple(sorted(n for n, verdict in verdicts.items() if verdict.tier == tier.name))
        if not now and not then and not covered:
            continue
        yield TierNodePlan(
            name=node.name,
            before=tuple(sorted(now)),
            after=then,
            message="; ".join(_said(tier, node, then, verdicts, covered=covered)),
        )


def _covers(tier: MemoryTier, node: NodeMemory, found: PlanFacts) -> bool:
    return tier.spec.covers(node.name, found.labels_of(node.name) or {})


def _said(
    tier: MemoryTier,
    node: NodeMemory,
    then: Sequence[int],
    verdicts: Mapping[int, Verdict],
    *,
    covered: bool,
) -> Iterator[str]:
    now = {n: each.name for each in node.status.tiers for n in each.numa_nodes}
    for n in then:
        if now.get(n, tier.name) != tier.name:
            yield f"NUMA node {n} is of {now[n]} now"
    if covered:
        listed = set(tier.spec.numa_nodes)
        absent = listed - verdicts.keys()
        if absent:
            yield f"it has no memory on NUMA nodes {format_nodes(frozenset(absent))}"
        for n in sorted(listed & verdicts.keys() - set(then)):
            yield f"NUMA node {n} is not taken: {_why_not(tier, n, node, verdicts[n])}"
    elif then or any(name == tier.name for name in now.values()):
        names = tier.spec.node_selector is UNSET
        lacks = "nodeNames do not name this node" if names else "nodeSelector does not mean it"
        yield f"its {lacks}"


def _why_not(tier: MemoryTier, number: int, node: NodeMemory, verdict: Verdict) -> str:
    if verdict.tier and verdict.why == f"MemoryTier {verdict.tier} says so":
        return f"MemoryTier {verdict.tier} comes first"
    has_cpus = any(each.id == number and each.cpus for each in node.status.numa_nodes)
    if has_cpus and tier.spec.is_of_all:
        return "it has CPUs, and a tier without nodeNames and nodeSelector leaves those aside"
    return verdict.why


def _notes(tier: MemoryTier, found: PlanFacts) -> Iterator[str]:
    if tier.spec.namespace_limits:
        yield (
            "whom its namespaceLimits would refuse is told of placements that are planned with it; "
            "of the others it is not known: agents decide by what is there"
        )
    if found.facts.nodes is None:
        yield "what it does to nodes is not known, for want of the right to read them"
    elif tier.spec.node_selector is not UNSET:
        if found.node_labels is None:
            yield "which nodes its nodeSelector means is not known, for want of the right to read"
        elif not any(
            tier.spec.covers(n.name, found.labels_of(n.name) or {}) for n in found.facts.nodes
        ):
            yield "no node from which an agent reports has the labels of its nodeSelector"
    elif tier.spec.node_names is not UNSET:
        have = {node.name for node in found.facts.nodes}
        lacks = [name for name in tier.spec.node_names if name not in have]
        if lacks:
            yield f"no agent reports from {', '.join(lacks)}, which its nodeNames name"
