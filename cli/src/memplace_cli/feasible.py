# SPDX-License-Identifier: Apache-2.0
"""Whether a node could do what a placement asks for, by what its agent reports. Pure.

The sentences about tiers are the agent's own: both ask the core. What only the agent sees, such
as the cpuset of a container, is not asked here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from memplace.api.v1alpha1 import NodeMemory, PlacementSpec
from memplace.backends import Act, act_of
from memplace.nodes import NumaSet
from memplace.problems import Problem, policy_of
from memplace.reasons import Reason
from memplace.topology import BUILTIN_TIERS

from memplace_cli.facts import capabilities, is_retired, unsupported, why_backend
from memplace_cli.words import joined


@dataclass(frozen=True, slots=True)
class Finding:
    """A reason, empty for none, and what it means here."""

    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is known of nodes.

    Attributes:
        nodes: By name; None if they could not be read.
        tiers: Per node its tiers and their NUMA nodes, as they would be.
        memory_tiers: The names of all MemoryTiers, as they would be; None if they could not be
            read.
    """

    nodes: Mapping[str, NodeMemory] | None
    tiers: Mapping[str, Mapping[str, NumaSet]]
    memory_tiers: Collection[str] | None = ()

    @property
    def known_tiers(self) -> frozenset[str]:
        """The names of tiers that a node has or a MemoryTier describes."""
        on_nodes = (name for tiers in self.tiers.values() for name in tiers)
        return frozenset(on_nodes) | frozenset(self.memory_tiers or ())


def node_finding(spec: PlacementSpec, name: str, site: Site) -> Finding:
    """Return what keeps a node from doing what a spec asks for.

    A finding without a reason keeps it from nothing; its message may be worth reading.
    """
    if site.nodes is None:
        return Finding(message="what its node can do is not known, for want of the right to read")
    node = site.nodes.get(name)
    if node is None or node.status.heartbeat_time is None:
        return Finding(Reason.AGENT_NOT_REPORTING, f"no agent ever reported from node {name}")
    if is_retired(node):
        return Finding(Reason.AGENT_NOT_REPORTING, f"the agent of node {name} is retired")
    return (
        _unsupported(spec, node)
        or _tiers(spec, site.tiers.get(name, {}), site)
        or Finding(message="; ".join(_lacks(spec, site.tiers.get(name, {}))))
    )


def _unsupported(spec: PlacementSpec, node: NodeMemory) -> Finding | None:
    act = act_of(spec.unsupported, capabilities(node))
    if act in (Act.PLACE, Act.MOVE):
        # Its tiers count as anywhere: what moves is said if they are all there.
        return None
    cannot = unsupported(node)
    reason, message = (cannot.reason, cannot.message) if cannot else why_backend(node)
    why = f" ({reason})" if reason else ""
    why += f": {message}" if message else ""
    if act is Act.LEAVE:
        return Finding(
            Reason.UNSUPPORTED, f"node {node.name} can't place memory, its pods are left alone{why}"
        )
    return Finding(Reason.OBSERVED, f"node {node.name} can only measure{why}")


def _tiers(spec: PlacementSpec, tiers: Mapping[str, NumaSet], site: Site) -> Finding | None:
    every: NumaSet = frozenset[int]().union(*tiers.values())
    known = site.known_tiers | BUILTIN_TIERS
    if site.memory_tiers is None:
        # None that nobody could look up is unknown.
        known |= {tier for rule in spec.rules for tier in rule.policy.tiers}
    outcomes = [policy_of(rule, tiers, every, known) for rule in spec.rules]
    found = [each for each in outcomes if isinstance(each, Problem)]
    if not found:
        return None
    worst = min(found, key=lambda each: each.reason.rank)
    return Finding(worst.reason, f"rule {worst.rule}: {worst.message}")


def _lacks(spec: PlacementSpec, tiers: Mapping[str, NumaSet]) -> Iterator[str]:
    for rule in spec.rules:
        lacks = [name for name in rule.policy.tiers if name not in tiers]
        if lacks:
            has = [name for name in rule.policy.tiers if name in tiers]
            yield f"it has no {joined(lacks)}: rule {rule.name} means {joined(has)} there"


def rule_nodes(spec: PlacementSpec, tiers: Mapping[str, NumaSet]) -> dict[str, NumaSet]:
    """Return of each rule that moves pages the NUMA nodes that it means on a node."""
    return {
        rule.name: frozenset[int]().union(*(tiers.get(t, frozenset()) for t in rule.policy.tiers))
        for rule in spec.rules
        if rule.policy.mode.takes_nodes
    }


def unknown_tiers(spec: PlacementSpec, site: Site) -> Finding:
    """Return TierUnknown if a rule names what is a tier nowhere, as the operator judges it."""
    if not site.nodes or site.memory_tiers is None:
        return Finding()
    known = site.known_tiers
    for rule in spec.rules:
        missing = [tier for tier in rule.policy.tiers if tier not in known]
        # A built-in tier beside one that exists is how a portable manifest looks.
        if not _is_portable(missing, rule.policy.tiers):
            return Finding(
                Reason.TIER_UNKNOWN,
                f"rule {rule.name}: no node has a tier {missing[0]} and no MemoryTier is called "
                f"that; there are: {joined(sorted(known))}",
            )
    return Finding()


def _is_portable(missing: Sequence[str], named: Sequence[str]) -> bool:
    return not missing or (set(missing) <= BUILTIN_TIERS and len(missing) < len(named))
