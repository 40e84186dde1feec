# SPDX-License-Identifier: Apache-2.0
"""How one pod fares under one placement, judged from its node's report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from memplace.api.conditions import find_condition
from memplace.api.v1alpha1 import ContainerReport, ContainerState, Placement, PlacementReport
from memplace.nodes import NodeSet

from memplace_operator.pods import Pod, bare_id
from memplace_operator.world import STALE_AFTER, Node, World

# What waiting does not mend, the most basic first: mending a later one is pointless
# before the earlier ones.
FAILURES = (
    "Invalid",
    "Conflict",
    "TierUnknown",
    "TierNotOnNode",
    "NotAllowedByCpuset",
    "SharedNotSupported",
    "TierFull",
    "Uneven",
    "Failed",
    "AgentNotReporting",
)
# What is not Placed, the worst first.
ORDER = (*FAILURES, "Unsupported", "Moving", "Pending")
PLACED = "Placed"
# Where a message has to name the tiers; agents speak of NUMA nodes.
_ABOUT_TIERS = frozenset({"TierUnknown", "TierNotOnNode", "TierFull", "NotAllowedByCpuset"})

_WHY_UNSUPPORTED = "KernelWithoutProcessMbind"
_STATES = {
    ContainerState.PLACED: PLACED,
    ContainerState.MOVING: "Moving",
    ContainerState.PENDING: "Pending",
    ContainerState.FAILED: "Failed",
    ContainerState.UNSUPPORTED: "Unsupported",
    ContainerState.CONFLICT: "Conflict",
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
        reason: Placed, or one of ORDER.
        message: Why and what to do, for people; empty when placed.
        cause: For Unsupported, the reason of the node's condition Supported.
        measured: The reports that count.
    """

    reason: str
    message: str = ""
    cause: str = ""
    measured: tuple[Measured, ...] = ()


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict whose reason comes first in ORDER; the first of equals.

    Placed when there is none.
    """
    return min(verdicts, key=_rank, default=Verdict(PLACED))


def _rank(verdict: Verdict) -> int:
    return ORDER.index(verdict.reason) if verdict.reason in ORDER else len(ORDER)


def judge(placement: Placement, pod: Pod, world: World) -> Verdict | None:
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
    if found.reason in _ABOUT_TIERS:
        tiers = dict.fromkeys(t for rule in placement.spec.rules for t in rule.policy.tiers)
        message += f" (tiers the rules name: {', '.join(tiers)})"
    return Verdict(found.reason, message, found.cause, own.measured)


def _conflict(pod: Pod, container: str, winner: Placement) -> Verdict:
    return Verdict(
        "Conflict",
        f"placement {winner.name} is older and already has container {container} of pod "
        f"{pod.ref.name}: narrow spec.selector or spec.containers of one of the two, "
        "or delete one",
    )


def _on_node(placement: Placement, pod: Pod, won: list[str], world: World) -> Verdict:
    node = world.nodes.get(pod.node)
    if node is None or node.memory.status.heartbeat_time is None:
        return _never_heard(placement, pod, world)
    if node.is_silent or node.is_retired:
        return Verdict("AgentNotReporting", _silence(node))
    supported = find_condition(node.memory.status.conditions, "Supported")
    if supported is not None and supported.status == "False":
        message = f"node {pod.node} can't place memory, its pods are left alone"
        detail = f"{message}: {supported.message}" if supported.message else message
        return Verdict("Unsupported", detail, supported.reason)
    report = node.reports.get(placement.uid)
    if report is None or report.observed_generation != placement.generation:
        return Verdict("Pending", f"the agent of node {pod.node} has not looked at it yet")
    return _from_report(report, pod, won, node)


def _never_heard(placement: Placement, pod: Pod, world: World) -> Verdict:
    since = max(filter(None, (placement.creation_timestamp, pod.started)))
    if world.now - since <= STALE_AFTER:
        return Verdict("Pending", f"waiting for the agent of node {pod.node} to report")
    return Verdict(
        "AgentNotReporting",
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


def _from_report(report: PlacementReport, pod: Pod, won: list[str], node: Node) -> Verdict:
    found = next((p for p in report.pods if p.uid == pod.ref.uid), None)
    # A report about an earlier life of a container says nothing about this one.
    current = {
        c.name: c
        for c in (found.containers if found else ())
        if c.container_id and bare_id(c.container_id) == pod.container_ids.get(c.name)
    }
    verdicts = [_container(current.get(name), name, pod) for name in won]
    tiers = tuple(node.tiers.items())
    measured = tuple(Measured(current[name], tiers) for name in won if name in current)
    result = worst([*_whole(report, node), *verdicts])
    return Verdict(result.reason, result.message, result.cause, measured)


def _whole(report: PlacementReport, node: Node) -> Iterator[Verdict]:
    # Trouble of the whole placement on that node. Undoing is about a deleted placement
    # of another uid; anything unknown comes from a newer agent.
    if report.reason in FAILURES:
        yield Verdict(report.reason, _located(report.message, f"node {node.memory.name}"))
    elif report.reason:
        yield Verdict("Pending", f"node {node.memory.name}: {report.reason}")


def _container(report: ContainerReport | None, name: str, pod: Pod) -> Verdict:
    where = f"container {name} of pod {pod.ref.name} on node {pod.node}"
    if report is None:
        return Verdict("Pending", f"the agent of node {pod.node} has not reported {where} yet")
    reason = _STATES[report.state]
    if report.state is ContainerState.PLACED:
        return Verdict(PLACED)
    if report.state is ContainerState.UNSUPPORTED:
        cause = report.reason or _WHY_UNSUPPORTED
        return Verdict("Unsupported", _located(report.message, where), cause)
    if report.reason in FAILURES:
        reason = report.reason
    return Verdict(reason, _located(report.message, where))


def _located(message: str, where: str) -> str:
    return f"{where}: {message}" if message else where
