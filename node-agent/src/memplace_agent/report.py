# SPDX-License-Identifier: Apache-2.0
"""What the agent tells the cluster: the status of its NodeMemory. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

import msgspec
from memplace.api.conditions import Condition, set_condition, shorten
from memplace.api.v1alpha1 import (
    Backend,
    ContainerReport,
    ContainerState,
    NodeMemoryStatus,
    NumaNodeStatus,
    Placement,
    PlacementReport,
    PodReport,
    TierNumaNodes,
)
from memplace.assignment import PodRef
from memplace.evidence import Verdict
from memplace.nodes import format_nodes
from memplace.numa import NumaNode
from memplace.reasons import ConditionType, Reason
from memplace.topology import nodes_by_tier
from msgspec import UNSET

from memplace_agent.backends.choice import choose
from memplace_agent.syscalls.features import Features
from memplace_agent.world import NotUnderstood

# Of characters; crds/nodememories.yaml has them as maxLength.
CPUS_MAX = 4096
EVIDENCE_MAX = 256


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
            "placement": self.placement.handle,
        }


@dataclass(frozen=True, slots=True)
class Retirement:
    """How far retiring is."""

    reason: Reason
    message: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing of memplace is left on the host."""
        return self.reason is Reason.RETIRED


@dataclass(slots=True)
class Reports:
    """The reports of a pass, by placement, pod and container."""

    numa_nodes: tuple[NumaNode, ...] = ()
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)
    _containers: dict[tuple[str, str, str], tuple[Subject, ContainerReport]] = field(
        default_factory=dict
    )
    _undoing: dict[str, PlacementReport] = field(default_factory=dict)

    def put(self, subject: Subject, report: ContainerReport) -> None:
        """Set the report of a container under a placement; a long message is cut."""
        key = (subject.placement.uid, subject.pod.uid, subject.container)
        short = msgspec.structs.replace(report, message=shorten(report.message))
        self._containers[key] = (subject, short)

    def undoing(self, placement: tuple[str, str, str], why: str = "") -> None:
        """Say that a placement is not wholly undone, and what is in the way.

        Given as uid, namespace and name.
        """
        uid, namespace, name = placement
        self._undoing[uid] = PlacementReport(
            uid=uid,
            namespace=namespace,
            name=name,
            reason=Reason.UNDOING,
            message=shorten(f"policies are being restored{': ' if why else ''}{why}"),
        )

    def placements(self) -> tuple[PlacementReport, ...]:
        """Return the reports in the API's form, ordered by uid of placement and pod."""
        ordered = [self._containers[key] for key in sorted(self._containers)]
        grouped = groupby(ordered, key=lambda pair: pair[0].placement.uid)
        found = {uid: _placement(list(pairs)) for uid, pairs in grouped}
        return tuple((self._undoing | found).values())


_Pairs = list[tuple[Subject, ContainerReport]]


def _placement(pairs: _Pairs) -> PlacementReport:
    # Whoever makes many placements for the same containers pays a line for each, no more.
    placement = pairs[0][0].placement
    lost = [report for _, report in pairs if report.state is ContainerState.CONFLICT]
    won = [pair for pair in pairs if pair[1].state is not ContainerState.CONFLICT]
    by_pod = groupby(won, key=lambda pair: pair[0].pod.uid)
    only_lost = bool(lost) and not won
    return PlacementReport(
        uid=placement.uid,
        namespace=placement.namespace,
        name=placement.name,
        observed_generation=placement.generation,
        reason=Reason.CONFLICT if only_lost else "",
        message=_conflicts(lost) if only_lost else "",
        conflicts=len(lost),
        pods=tuple(_pod(list(of_pod), placement) for _, of_pod in by_pod),
    )


def _conflicts(lost: list[ContainerReport]) -> str:
    if len(lost) == 1:
        return lost[0].message
    return shorten(f"{len(lost)} containers; the first one: {lost[0].message}")


def with_not_understood(
    placements: Iterable[PlacementReport], odd: Iterable[NotUnderstood], version: str
) -> tuple[PlacementReport, ...]:
    """Return the reports with what the agent can't parse said in them.

    Args:
        placements: The reports.
        odd: Those placements.
        version: The agent's: an upgrade helps.
    """
    found = {report.uid: report for report in placements}
    for each in odd:
        before = found.get(each.uid) or PlacementReport(
            uid=each.uid, namespace=each.namespace, name=each.name
        )
        found[each.uid] = msgspec.structs.replace(
            before, reason=Reason.NOT_UNDERSTOOD, message=_not_understood(each, version)
        )
    return tuple(found.values())


def _not_understood(odd: NotUnderstood, version: str) -> str:
    meanwhile = (
        "the agent goes on with the last spec that it understood"
        if odd.kept
        else "nothing is placed and nothing undone for it"
    )
    return shorten(
        f"version {version} of the agent can't understand it ({odd.problem}): {meanwhile}"
    )


def _pod(pairs: _Pairs, placement: Placement) -> PodReport:
    pod = pairs[0][0].pod
    return PodReport(
        uid=pod.uid,
        name=pod.name,
        namespace=pod.namespace if placement.is_cluster else UNSET,
        containers=tuple(report for _, report in pairs),
    )


def node_status(
    reports: Reports,
    features: Features,
    retirement: Retirement,
    *,
    before: Iterable[Condition],
    version: str,
    now: datetime,
    not_understood: Iterable[NotUnderstood] = (),
) -> NodeMemoryStatus:
    """Put the status of the NodeMemory together, but for the heartbeat.

    Args:
        reports: Of the last pass.
        features: What the probe found.
        retirement: How far retiring is.
        before: The conditions so far; a condition keeps its time while it stays the same.
        version: The agent's.
        now: The time of conditions that change.
        not_understood: Placements that the agent can't parse.
    """
    chosen = choose(features)
    conditions = set_condition(
        before,
        ConditionType.SUPPORTED,
        status="True" if chosen.is_sticky else "False",
        reason=features.reason,
        message=chosen.message,
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
    return NodeMemoryStatus(
        conditions=conditions,
        agent_version=version,
        backend=Backend(
            name=chosen.name,
            reason=features.reason,
            message=shorten(chosen.message),
            capabilities=chosen.capabilities,
            sticky=chosen.is_sticky,
        ),
        numa_nodes=tuple(
            NumaNodeStatus(
                id=node.id,
                cpus=shorten(format_nodes(node.cpus or ()), CPUS_MAX),
                total_bytes=node.total_bytes,
                tier=verdict.tier,
                evidence=shorten(verdict.why, EVIDENCE_MAX),
            )
            for node in reports.numa_nodes
            if (verdict := reports.verdicts.get(node.id)) is not None
        ),
        tiers=tuple(
            TierNumaNodes(name=name, numa_nodes=tuple(sorted(nodes)))
            for name, nodes in nodes_by_tier(reports.verdicts).items()
        ),
        placements=with_not_understood(reports.placements(), not_understood, version),
    )
