# SPDX-License-Identifier: Apache-2.0
"""How one pod fares under one placement, judged from its node's report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from memplace.api.conditions import find_condition
from memplace.api.liveness import STALE_AFTER
from memplace.api.v1alpha1 import ContainerReport, ContainerState, Placement, PlacementReport
from memplace.kinds import OnUnsupported
from memplace.nodes import NodeSet
from memplace.pods import PodState, bare_id
from memplace.reasons import ABOUT_TIERS, FAILURES, ConditionType, Reason

from memplace_operator.world import Node, World

# What becomes of a pod where no policy can be set.
_LESSER = {
    ContainerState.PLACED_BEST_EFFORT: Reason.PLACED_BEST_EFFORT,
    ContainerState.OBSERVED: Reason.OBSERVED,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A container's report that is about its current life, and the node's tiers."""

    report: ContainerReport
    tiers: tuple[tuple[str, NodeSet], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a pod fares.

    Attributes:
        reason: Placed, or why it is not.
        message: Why and what to do, for people; empty when placed.
        cause: Of pods that can't be placed where they are, why; mostly the reason of the node's
            condition Supported. Also of those that are moved on best effort, or observed.
        measured: The reports that count.
    """

    reason: Reason
    message: str = ""
    cause: str = ""
    measured: tuple[Measured, ...] = ()


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict whose reason takes precedence; the first of equals.

    Placed when there is none.
    """
    return min(verdicts, key=lambda verdict: verdict.reason.rank, default=Verdict(Reason.PLACED))


def judge(placement: Placement, pod: PodState, world: World) -> Verdict | None:
    """Judge a running pod that the placement selects.

    Returns:
        None when the placement has none of the pod's running containers to act on and
        loses none: there is nothing to place.
    """
    assignments = world.assignments.get(pod.ref.uid, {})
    won = [name for name, a in assignments.items() if a.winner.uid == placement.uid]
    lost = [
        (name, a.winner)
        for name, a in assignments.items()
        if any(loser.uid == placement.uid for loser in a.losers)
    ]
    conflicts = [_conflict(pod, name, winner) for name, winner in lost]
    if not won:
        return conflicts[0] if conflicts else None
    own = _on_node(placement, pod, won, world)
    found = worst([own, *conflicts])
    message = found.message
    if found.reason in ABOUT_TIERS:
        tiers = dict.fromkeys(t for rule in placement.spec.rules for t in rule.policy.tiers)
        message += f" (tiers the rules name: {', '.join(tiers)})"
    return Verdict(found.reason, message, found.cause or own.cause, own.measured)


def _conflict(pod: PodState, container: str, winner: Placement) -> Verdict:
    return Verdict(
        Reason.CONFLICT,
        f"placement {winner.name} is older and already has container {container} of pod "
        f"{pod.ref.name}: narrow spec.selector or spec.containers of one of the two, "
        "or delete one",
    )


def _on_node(placement: Placement, pod: PodState, won: list[str], world: World) -> Verdict:
    node = world.nodes.get(pod.node)
    if node is None or node.memory.status.heartbeat_time is None:
        return _never_heard(placement, pod, world)
    if node.is_silent or node.is_retired:
        return Verdict(Reason.AGENT_NOT_REPORTING, _silence(node))
    supported = find_condition(node.memory.status.conditions, ConditionType.SUPPORTED)
    if supported is None or supported.status != "False":
        return _on_reporting_node(placement, pod, won, node)
    if placement.spec.unsupported is OnUnsupported.FAIL:
        message = f"node {pod.node} can't place memory, its pods are left alone"
        detail = f"{message}: {supported.message}" if supported.message else message
        return Verdict(Reason.UNSUPPORTED, detail, supported.reason)
    found = _on_reporting_node(placement, pod, won, node)
    return replace(found, cause=found.cause or supported.reason)


def _on_reporting_node(placement: Placement, pod: PodState, won: list[str], node: Node) -> Verdict:
    report = node.reports.get(placement.uid)
    if report is not None and report.reason == Reason.NOT_UNDERSTOOD:
        # About an older generation, or none: the agent could not read this one.
        return Verdict(Reason.NOT_UNDERSTOOD, _located(report.message, f"node {pod.node}"))
    if report is None and node.memory.status.truncated.placements:
        return Verdict(Reason.PENDING, _no_room(pod.node, "it"))
    if report is None or report.observed_generation != placement.generation:
        return Verdict(Reason.PENDING, f"the agent of node {pod.node} has not looked at it yet")
    return _from_report(report, pod, won, node)


def _never_heard(placement: Placement, pod: PodState, world: World) -> Verdict:
    since = max(filter(None, (placement.creation_timestamp, pod.started)))
    if world.now - since <= STALE_AFTER:
        return Verdict(Reason.PENDING, f"waiting for the agent of node {pod.node} to report")
    return Verdict(
        Reason.AGENT_NOT_REPORTING,
        f"no agent ever reported from node {pod.node}: check that the agent's DaemonSet has a "
        "running pod there (node selector, tolerations, image)",
    )


def _silence(node: Node) -> str:
    name = node.memory.name
    if node.is_retired:
        return (
            f"the agent of node {name} is retired: set spec.agent of NodeMemory {name} to Active "
            "to have it place memory again"
        )
    return (
        f"the agent of node {name} has not reported for more than "
        f"{STALE_AFTER.seconds} s: look at its pod and at the node"
    )


def _from_report(report: PlacementReport, pod: PodState, won: list[str], node: Node) -> Verdict:
    found = next((p for p in report.pods if p.uid == pod.ref.uid), None)
    # A report about an earlier life of a container says nothing about this one.
    current = {
        c.name: c
        for c in (found.containers if found else ())
        if c.container_id and bare_id(c.container_id) == pod.container_ids.get(c.name)
    }
    if found is None and node.memory.status.truncated.pods:
        return Verdict(Reason.PENDING, _no_room(pod.node, f"pod {pod.ref.name}"))
    verdicts = [_container(current.get(name), name, pod) for name in won]
    tiers = tuple(node.tiers.items())
    measured = tuple(Measured(current[name], tiers) for name in won if name in current)
    result = worst([*_whole(report, node), *verdicts])
    return Verdict(result.reason, result.message, result.cause, measured)


def _whole(report: PlacementReport, node: Node) -> Iterator[Verdict]:
    # Trouble of the whole placement on that node. Undoing is about a deleted placement
    # of another uid; anything unknown comes from a newer agent.
    if report.reason in FAILURES:
        yield Verdict(Reason(report.reason), _located(report.message, f"node {node.memory.name}"))
    elif report.reason:
        yield Verdict(Reason.PENDING, f"node {node.memory.name}: {report.reason}")


def _container(report: ContainerReport | None, name: str, pod: PodState) -> Verdict:
    where = f"container {name} of pod {pod.ref.name} on node {pod.node}"
    if report is None:
        return Verdict(Reason.PENDING, f"the agent of node {pod.node} has not reported {where} yet")
    if report.state is ContainerState.PLACED:
        return Verdict(Reason.PLACED)
    if report.state is ContainerState.UNSUPPORTED:
        cause = report.reason or Reason.KERNEL_WITHOUT_PROCESS_MBIND
        return Verdict(Reason.UNSUPPORTED, _located(report.message, where), cause)
    if report.state in _LESSER:
        return Verdict(_LESSER[report.state], _located(report.message, where))
    # Each state is a reason too; a report may have a more exact one.
    reason = Reason(report.reason if report.reason in FAILURES else report.state)
    return Verdict(reason, _located(report.message, where))


def _no_room(node: str, what: str) -> str:
    return (
        f"the report of node {node} has no room for {what}: this namespace has many placements "
        "or pods there; the agent's metrics and log have the rest"
    )


def _located(message: str, where: str) -> str:
    return f"{where}: {message}" if message else where
