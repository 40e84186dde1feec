# SPDX-License-Identifier: Apache-2.0
"""Where a MemoryTier is in force, and why it is not on nodes that it is about. Pure.

Each agent says of each NUMA node why it is in its tier. So what counts is what agents made of
the MemoryTiers, not what they ought to make of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from memplace.api.conditions import set_condition, shorten
from memplace.api.v1alpha1 import MemoryTier, NumaNodeStatus, TierStatus
from memplace.explain_rules import human_bytes
from memplace.nodes import format_nodes
from memplace.reasons import ConditionType, Reason
from memplace.topology import by_precedence, said_by
from msgspec import UNSET

# Kubernetes node to its NUMA nodes with memory, as its agent reported them.
Machines = Mapping[str, Sequence[NumaNodeStatus]]

# So many names are enough to go and look.
_NAMES = 3
_MOST = 2**63 - 1


class _Found(msgspec.Struct):
    nodes: int = 0
    size: int = 0
    # Why not, to the names of the nodes.
    missed: defaultdict[str, list[str]] = msgspec.field(default_factory=lambda: defaultdict(list))


def tier_status(
    tier: MemoryTier,
    tiers: Iterable[MemoryTier],
    machines: Machines,
    before: TierStatus,
    now: datetime,
) -> TierStatus:
    """Say where a MemoryTier is in force.

    Args:
        tier: Which one.
        tiers: All there are.
        machines: What agents report.
        before: The status it has.
        now: An aware time, for a condition that changes.
    """
    found = _look(tier, [t.name for t in by_precedence(tiers) if t.name != tier.name], machines)
    summary, why = _summary(found), _why_not(tier, found)
    if not found.nodes:
        reason = Reason.NOT_IN_FORCE
    else:
        reason = Reason.PARTLY_IN_FORCE if why else Reason.IN_FORCE
    return TierStatus(
        conditions=set_condition(
            before.conditions,
            ConditionType.READY,
            status="True" if found.nodes else "False",
            reason=reason,
            message="; ".join(filter(None, (summary, why))),
            generation=tier.generation,
            now=now,
        ),
        observed_generation=tier.generation,
        nodes=found.nodes,
        capacity_bytes=min(found.size, _MOST),
        summary=summary,
    )


def _look(tier: MemoryTier, others: Sequence[str], machines: Machines) -> _Found:
    said, found = said_by(tier.name), _Found()
    by_evidence = {said_by(name): name for name in others}
    wanted = set(tier.spec.numa_nodes)
    for name, numa_nodes in machines.items():
        # Of those with a nodeSelector only agents know which nodes they are about.
        is_about = tier.spec.node_selector is UNSET and tier.spec.covers(name)
        if not wanted:
            _count_limited(found, tier, name, numa_nodes)
            continue
        ours = [numa for numa in numa_nodes if numa.id in wanted]
        mine = [
            numa for numa in ours if numa.evidence == said or (is_about and numa.tier == tier.name)
        ]
        found.nodes += bool(mine)
        found.size += sum(numa.total_bytes for numa in mine)
        if not is_about:
            continue
        for numa in ours:
            if numa not in mine:
                found.missed[_cause(tier, numa, by_evidence)].append(name)
        absent = wanted - {numa.id for numa in ours}
        if absent and not tier.spec.is_of_all:
            found.missed[f"there is no memory in {_numbers(absent)}"].append(name)
    for name in () if tier.spec.node_names is UNSET else tier.spec.node_names:
        if name not in machines:
            found.missed["no agent reports"].append(name)
    return found


def _count_limited(
    found: _Found, tier: MemoryTier, name: str, numa_nodes: Sequence[NumaNodeStatus]
) -> None:
    # It lists no NUMA nodes, and limits namespaces on those that the tier has anyway. Whether a
    # node has the labels of a nodeSelector only its agent knows.
    if tier.spec.node_selector is UNSET and not tier.spec.covers(name):
        return
    mine = [numa for numa in numa_nodes if numa.tier == tier.name]
    found.nodes += bool(mine)
    found.size += sum(numa.total_bytes for numa in mine)
    if not mine and tier.spec.node_names is not UNSET:
        found.missed[f"there is no memory in tier {tier.name}"].append(name)


def _cause(tier: MemoryTier, numa: NumaNodeStatus, by_evidence: Mapping[str, str]) -> str:
    winner = by_evidence.get(numa.evidence)
    if winner:
        return f"MemoryTier {winner} has {_numbers([numa.id])}"
    if tier.spec.is_of_all and numa.cpus:
        return f"{_numbers([numa.id])} has CPUs, and only nodeNames or nodeSelector can mean it"
    return f"{_numbers([numa.id])} is not in it yet"


def _summary(found: _Found) -> str:
    if not found.nodes:
        return "on no node"
    where = f"{found.nodes} node{'' if found.nodes == 1 else 's'}"
    return f"{human_bytes(found.size)} on {where}"


def _why_not(tier: MemoryTier, found: _Found) -> str:
    causes = [f"on {_names(names)} {cause}" for cause, names in sorted(found.missed.items())]
    if not causes and not found.nodes:
        return _nobody(tier)
    return shorten("; ".join(causes), 800)


def _nobody(tier: MemoryTier) -> str:
    if not tier.spec.numa_nodes:
        return f"no node that reports has memory in tier {tier.name}, so nothing is limited"
    numbers = _numbers(tier.spec.numa_nodes)
    if tier.spec.node_selector is not UNSET:
        return (
            f"no node with the labels of nodeSelector has memory in {numbers} that no other "
            "MemoryTier has; kubectl get nodememories shows what nodes have"
        )
    return f"no node that reports has memory in {numbers}; kubectl get nodememories shows more"


def _numbers(numbers: Iterable[int]) -> str:
    ids = sorted(numbers)
    return f"NUMA node{'' if len(ids) == 1 else 's'} {format_nodes(ids)}"


def _names(names: Sequence[str]) -> str:
    shown = sorted(names)[:_NAMES]
    more = len(names) - len(shown)
    return f"{', '.join(shown)} and {more} more" if more else ", ".join(shown)
