# SPDX-License-Identifier: Apache-2.0
"""What the agent tells the cluster: the status of its NodeMemory. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from memplace.api.conditions import Condition, set_condition
from memplace.api.v1alpha1 import (
    Backend,
    BackendName,
    ContainerReport,
    NodeMemoryStatus,
    NumaNodeStatus,
    Placement,
    PlacementReport,
    PodReport,
    TierNodes,
)
from memplace.assignment import PodRef
from memplace.nodes import NodeSet, format_nodes
from memplace.reasons import ConditionType, Reason
from memplace.topology import NumaNode, tier_by_node

from memplace_agent.syscalls.features import Features

__all__ = ["Reports", "Retirement", "Subject", "node_status"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A container under a placement."""

    placement: Placement
    pod: PodRef
    container: str
    container_id: str

    @property
    def log(self) -> dict[str, str]:
        """What a log line says of it."""
        return {
            "namespace": self.pod.namespace,
            "pod": self.pod.name,
            "container": self.container,
            "placement": self.placement.name,
        }


@dataclass(frozen=True, slots=True)
class Retirement:
    """How far retiring is; ``done`` when nothing of memplace is left on the host."""

    done: bool
    reason: Reason
    message: str = ""


@dataclass(slots=True)
class Reports:
    """The reports of a pass, by placement, pod and container."""

    numa_nodes: tuple[NumaNode, ...] = ()
    tiers: Mapping[str, NodeSet] = field(default_factory=dict)
    _containers: dict[tuple[str, str, str], tuple[Subject, ContainerReport]] = field(
        default_factory=dict
    )
    _undoing: dict[str, PlacementReport] = field(default_factory=dict)

    def put(self, subject: Subject, report: ContainerReport) -> None:
        """Set the report of a container under a placement."""
        key = (subject.placement.uid, subject.pod.uid, subject.container)
        self._containers[key] = (subject, report)

    def undoing(self, placement: tuple[str, str, str]) -> None:
        """Say that a placement is not wholly undone; given as uid, namespace and name."""
        uid, namespace, name = placement
        self._undoing[uid] = PlacementReport(
            uid=uid,
            namespace=namespace,
            name=name,
            reason=Reason.UNDOING,
            message="policies are being given back",
        )

    def placements(self) -> tuple[PlacementReport, ...]:
        """Return the reports in the API's form, ordered by uid of placement and pod."""
        ordered = [self._containers[key] for key in sorted(self._containers)]
        grouped = groupby(ordered, key=lambda pair: pair[0].placement.uid)
        found = {uid: _placement(list(pairs)) for uid, pairs in grouped}
        return tuple((self._undoing | found).values())


def _placement(pairs: list[tuple[Subject, ContainerReport]]) -> PlacementReport:
    placement = pairs[0][0].placement
    by_pod = groupby(pairs, key=lambda pair: pair[0].pod.uid)
    return PlacementReport(
        uid=placement.uid,
        namespace=placement.namespace,
        name=placement.name,
        observed_generation=placement.generation,
        pods=tuple(_pod(list(of_pod)) for _, of_pod in by_pod),
    )


def _pod(pairs: list[tuple[Subject, ContainerReport]]) -> PodReport:
    pod = pairs[0][0].pod
    return PodReport(uid=pod.uid, name=pod.name, containers=tuple(report for _, report in pairs))


def node_status(
    reports: Reports,
    features: Features,
    retirement: Retirement,
    *,
    before: Iterable[Condition],
    version: str,
    now: datetime,
) -> NodeMemoryStatus:
    """Put the status of the NodeMemory together, but for the heartbeat.

    Args:
        reports: Of the last pass.
        features: What the probe found.
        retirement: How far retiring is.
        before: The conditions so far; a condition keeps its time while it stays the same.
        version: The agent's.
        now: The time of conditions that change.
    """
    supported = features.error is None
    conditions = set_condition(
        before,
        ConditionType.SUPPORTED,
        status="True" if supported else "False",
        reason=features.reason,
        message=features.message,
        generation=0,
        now=now,
    )
    conditions = set_condition(
        conditions,
        ConditionType.RETIRED,
        status="True" if retirement.done else "False",
        reason=retirement.reason,
        message=retirement.message,
        generation=0,
        now=now,
    )
    names = tier_by_node(reports.tiers)
    return NodeMemoryStatus(
        conditions=conditions,
        agent_version=version,
        backend=Backend(
            name=BackendName.PROCESS_MBIND if supported else BackendName.NONE,
            reason=features.reason,
            message=features.message,
        ),
        numa_nodes=tuple(
            NumaNodeStatus(
                id=node.id,
                cpus=format_nodes(node.cpus),
                total_bytes=node.total_bytes,
                tier=names.get(node.id, ""),
            )
            for node in reports.numa_nodes
        ),
        tiers=tuple(
            TierNodes(name=name, numa_nodes=tuple(sorted(nodes)))
            for name, nodes in reports.tiers.items()
        ),
        placements=reports.placements(),
    )
