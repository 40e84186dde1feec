# SPDX-License-Identifier: Apache-2.0
"""Everything a verdict is made from, at one moment; immutable and indexed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from memplace.api.conditions import is_true
from memplace.api.liveness import STALE_AFTER, is_silent
from memplace.api.v1alpha1 import (
    MemoryTier,
    NodeMemory,
    Placement,
    PlacementReport,
    PlacementStatus,
)
from memplace.assignment import Assignment, assign
from memplace.nodes import NodeSet
from memplace.pods import PodState
from memplace.reasons import ConditionType


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A placement that can't be parsed, with what a status needs."""

    uid: str
    namespace: str
    name: str
    generation: int
    status: PlacementStatus
    problem: str


@dataclass(frozen=True, slots=True)
class Node:
    """A node's report, indexed.

    Attributes:
        memory: The report.
        is_silent: Whether its heartbeat is too old for the rest of it to be believed.
        tiers: Tier name to NUMA nodes.
        reports: Per placement uid what the agent says of it.
    """

    memory: NodeMemory
    is_silent: bool
    tiers: Mapping[str, NodeSet]
    reports: Mapping[str, PlacementReport]

    @property
    def is_retired(self) -> bool:
        """Whether its agent was told to stop placing, or has."""
        # Whether an installation that ends has retired is up to its agents to say.
        told = self.memory.spec.is_retired_for_good
        return told or is_true(self.memory.status.conditions, ConditionType.RETIRED)


@dataclass(frozen=True, slots=True)
class World:
    """What there is.

    Attributes:
        placements: Per namespace the placements that make sense, in any order.
        pods: Per namespace the pods.
        nodes: By Kubernetes node.
        tiers: Names of all MemoryTier objects.
        assignments: Per pod uid which placement each running container follows.
        now: The time, aware.
    """

    placements: Mapping[str, tuple[Placement, ...]]
    pods: Mapping[str, tuple[PodState, ...]]
    nodes: Mapping[str, Node]
    tiers: frozenset[str]
    now: datetime
    assignments: Mapping[str, Mapping[str, Assignment]] = field(default_factory=dict)


def make_world(
    *,
    placements: Iterable[Placement],
    pods: Iterable[PodState],
    nodes: Iterable[NodeMemory],
    tiers: Iterable[MemoryTier],
    now: datetime,
    silent: frozenset[str] | None = None,
) -> World:
    """Index what there is, all in any order.

    Args:
        placements: The MemoryPlacements of all namespaces.
        pods: Pods of at least the placements' namespaces.
        nodes: The NodeMemories.
        tiers: The MemoryTiers.
        now: An aware time.
        silent: Names of nodes whose agents are silent; by default judged by age alone.
    """
    nodes = tuple(nodes)
    quiet = silent_nodes(nodes, now=now) if silent is None else silent
    per_namespace: dict[str, list[Placement]] = defaultdict(list)
    for placement in placements:
        per_namespace[placement.namespace].append(placement)
    pods_there: dict[str, list[PodState]] = defaultdict(list)
    for pod in pods:
        if pod.ref.namespace in per_namespace:
            pods_there[pod.ref.namespace].append(pod)
    return World(
        placements={ns: tuple(found) for ns, found in per_namespace.items()},
        pods={ns: tuple(found) for ns, found in pods_there.items()},
        nodes={node.name: _index(node, is_silent=node.name in quiet) for node in nodes},
        tiers=frozenset(tier.name for tier in tiers),
        now=now,
        assignments={
            pod.ref.uid: assign(per_namespace[ns], pod.ref)
            for ns, found in pods_there.items()
            for pod in found
        },
    )


def silent_nodes(
    nodes: Iterable[NodeMemory],
    *,
    now: datetime,
    before: frozenset[str] = frozenset(),
    listening_since: datetime | None = None,
) -> frozenset[str]:
    """Return the names of the nodes whose agents have been silent for too long.

    While the API server is away no agent can report, so an old heartbeat proves nothing
    until it has been back for as long as an agent may take.

    Args:
        nodes: The NodeMemories; one without any heartbeat is not silent, it is new.
        now: An aware time.
        before: Nodes judged silent the last time; they stay so until they speak.
        listening_since: When the API server came back; None when it was never away.
    """
    may_judge = listening_since is None or now - listening_since > STALE_AFTER
    old = (node.name for node in nodes if is_silent(node, now))
    return frozenset(name for name in old if may_judge or name in before)


def _index(memory: NodeMemory, *, is_silent: bool) -> Node:
    return Node(
        memory=memory,
        is_silent=is_silent,
        tiers={tier.name: frozenset(tier.numa_nodes) for tier in memory.status.tiers},
        reports={report.uid: report for report in memory.status.placements},
    )
