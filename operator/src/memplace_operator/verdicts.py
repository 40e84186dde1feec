# SPDX-License-Identifier: Apache-2.0
"""What one placement has come to in one pod, judged from its node's report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from memplace.api.conditions import find_condition
from memplace.api.v1alpha1 import (
    ContainerReport,
    ContainerState,
    Placement,
    PlacementReport,
    PodReport,
)
from memplace.assignment import forecast, gives_way, why_first, would_win
from memplace.kinds import OnUnsupported
from memplace.nodes import NumaSet
from memplace.reasons import ABOUT_TIERS, FAILURES, ConditionType, Reason

from memplace_operator.beats import Pulse
from memplace_operator.objects import Pod, id_number
from memplace_operator.selection import Group
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
    tiers: Mapping[str, NumaSet]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a placement has come to in a pod.

    Attributes:
        reason: Placed, or why it is not.
        message: Why and what to do, for people; empty when placed.
        cause: Of pods that can't be placed where they are, why; mostly the reason of the node's
            condition Supported. Also of those that are moved on best effort, or observed.
        measured: The reports that count.
        takes_from: The placements that have containers of the pod now which a dry run would take.
    """

    reason: Reason
    message: str = ""
    cause: str = ""
    measured: tuple[Measured, ...] = ()
    takes_from: tuple[str, ...] = ()


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict whose reason takes precedence; the first of equals.

    Placed when there is none.
    """
    return min(verdicts, key=lambda verdict: verdict.reason.rank, default=Verdict(Reason.PLACED))


@dataclass(slots=True)
class _Told:
    """What a node says of the placement, read once for all of its pods."""

    report: PlacementReport | None
    pods: dict[str, PodReport]


@dataclass(slots=True)
class Judge:
    """Judges the pods of one placement.

    Attributes:
        placement: It, with the status it has.
        world: Everything.
        yielded: How many pods it leaves, wholly or in part, to placements of their namespaces.
    """

    placement: Placement
    world: World
    yielded: int = 0
    _told: dict[str, _Told] = field(default_factory=dict)

    def verdict(self, group: Group, pod: Pod) -> Verdict | None:
        """Judge a running pod that the placement selects.

        Returns:
            None when the placement has none of the pod's running containers to act on and
            loses none: there is nothing to place.
        """
        mine, uid = self.placement.spec, self.placement.uid
        won, conflict, gave_way = [], None, False
        taken: dict[str, Placement] = {}
        for name in filter(mine.selects_container, pod.containers):
            winner = self.world.selection.winner(group, name, pod.node)
            if winner is None or winner.uid == uid:
                won.append(name)
            elif would_win(self.placement, winner):
                won.append(name)
                taken[name] = winner
            elif gives_way(self.placement, winner):
                gave_way = True
            elif conflict is None:
                conflict = _conflict(pod, name, winner, self.placement)
        self.yielded += gave_way
        if not won:
            return conflict
        own = self._on_node(pod, won, taken)
        found = own if conflict is None else worst([own, conflict])
        message = found.message
        if found.reason in ABOUT_TIERS:
            tiers = dict.fromkeys(t for rule in mine.rules for t in rule.policy.tiers)
            message += f" (tiers the rules name: {', '.join(tiers)})"
        return replace(own, reason=found.reason, message=message, cause=found.cause or own.cause)

    def _on_node(self, pod: Pod, won: list[str], taken: Mapping[str, Placement]) -> Verdict:
        node = self.world.nodes.get(pod.node)
        silent = self._is_silent(pod.node)
        if node is None or not node.head.has_reported:
            return _never_heard(pod, is_silent=silent)
        if silent or node.head.is_retired:
            return Verdict(Reason.AGENT_NOT_REPORTING, _silence(node))
        if node.head.unsupported is None:
            return self._on_reporting_node(pod, won, taken, node)
        cause, why = node.head.unsupported
        if self.placement.spec.unsupported is OnUnsupported.FAIL:
            message = f"node {pod.node} can't place memory, its pods are left alone"
            return Verdict(Reason.UNSUPPORTED, f"{message}: {why}" if why else message, cause)
        found = self._on_reporting_node(pod, won, taken, node)
        return replace(found, cause=found.cause or cause)

    def _on_reporting_node(
        self, pod: Pod, won: list[str], taken: Mapping[str, Placement], node: Node
    ) -> Verdict:
        told = self._told_by(node)
        report = told.report
        if report is not None and report.reason == Reason.NOT_UNDERSTOOD:
            # About an older generation, or none: the agent could not read this one.
            return Verdict(Reason.NOT_UNDERSTOOD, _located(report.message, f"node {pod.node}"))
        if report is None and node.head.truncated.placements:
            return Verdict(Reason.PENDING, _no_room(pod.node, "it"))
        if report is None or report.observed_generation != self.placement.generation:
            return Verdict(Reason.PENDING, f"the agent of node {pod.node} has not looked at it yet")
        found = told.pods.get(pod.uid)
        judged = _from_report(report, found, pod, won, node)
        lost = [name for name in taken if all(name != c.name for c in _containers(found))]
        if lost and report.conflicts and not (found is None and node.head.truncated.pods):
            # The agent tells of one dry run of a container, and an older one of none.
            why = forecast(self.placement, taken[lost[0]])
            message = (
                f"container {lost[0]} of pod {pod.name}: {why}; what would move is not measured, "
                f"for the agent of node {pod.node} measures another dry run there, or none"
            )
            return replace(judged, reason=Reason.CONFLICT, message=message)
        return replace(judged, takes_from=tuple(dict.fromkeys(w.title for w in taken.values())))

    def _told_by(self, node: Node) -> _Told:
        told = self._told.get(node.name)
        if told is None:
            report = node.report(self.placement.uid)
            told = _Told(report, {each.uid: each for each in report.pods} if report else {})
            self._told[node.name] = told
        return told

    def _is_silent(self, node: str) -> bool:
        # An operator that has just come knows of no agent whether it lives: what was said of
        # a silent one stays until it speaks.
        pulse = self.world.pulse(node)
        if pulse is not Pulse.UNKNOWN:
            return pulse is Pulse.SILENT
        ready = find_condition(self.placement.status.conditions, ConditionType.READY)
        return ready is not None and ready.reason == Reason.AGENT_NOT_REPORTING


def _conflict(pod: Pod, container: str, winner: Placement, loser: Placement) -> Verdict:
    if loser.spec.is_dry_run and not loser.spec.paused:
        return Verdict(
            Reason.CONFLICT,
            f"container {container} of pod {pod.name}: {forecast(loser, winner)}; "
            f"{_todo(winner, loser)}",
        )
    is_near = loser.namespace and not winner.is_cluster
    name = f"placement {winner.name}" if is_near else winner.title
    return Verdict(
        Reason.CONFLICT,
        f"{name} {why_first(winner, loser)} and has container {container} of "
        f"pod {pod.name}: {_todo(winner, loser)}",
    )


def _todo(winner: Placement, loser: Placement) -> str:
    if winner.spec.level is not loser.spec.level:
        return _of_another_level(loser)
    narrow = "narrow spec.selector or spec.containers of one of the two, "
    if loser.spec.is_dry_run and loser.spec.paused and not winner.spec.is_dry_run:
        return f"{narrow}or delete one: a dry run tells of containers that no placement acts on"
    return f"{narrow}change spec.priority, or delete one"


def _of_another_level(loser: Placement) -> str:
    if loser.is_cluster:
        return "narrow spec.selector or spec.namespaceSelector of one of the two, or delete one"
    return "an admin decides on that one; narrow this one, or delete it"


def _never_heard(pod: Pod, *, is_silent: bool) -> Verdict:
    if not is_silent:
        return Verdict(Reason.PENDING, f"waiting for the agent of node {pod.node} to report")
    return Verdict(
        Reason.AGENT_NOT_REPORTING,
        f"no agent ever reported from node {pod.node}: check that the agent's DaemonSet has a "
        "running pod there (node selector, tolerations, image)",
    )


def _silence(node: Node) -> str:
    name = node.name
    if node.head.is_retired:
        return (
            f"the agent of node {name} is retired: set spec.agent of NodeMemory {name} to Active "
            "to have it place memory again"
        )
    return f"the agent of node {name} has not reported for a while: look at its pod and at the node"


def _from_report(
    report: PlacementReport, found: PodReport | None, pod: Pod, won: list[str], node: Node
) -> Verdict:
    # A report about an earlier life of a container says nothing about this one.
    ids = dict(zip(pod.containers, pod.ids, strict=True))
    current = {
        c.name: c
        for c in _containers(found)
        if c.container_id and id_number(c.container_id) == ids.get(c.name)
    }
    if found is None and node.head.truncated.pods:
        return Verdict(Reason.PENDING, _no_room(pod.node, f"pod {pod.name}"))
    verdicts = [_container(current.get(name), name, pod) for name in won]
    measured = tuple(Measured(current[name], node.tiers) for name in won if name in current)
    result = worst([*_whole(report, node), *verdicts])
    return Verdict(result.reason, result.message, result.cause, measured)


def _containers(found: PodReport | None) -> tuple[ContainerReport, ...]:
    return found.containers if found else ()


def _whole(report: PlacementReport, node: Node) -> Iterator[Verdict]:
    # Trouble of the whole placement on that node. Undoing is about a deleted placement
    # of another uid; anything unknown comes from a newer agent.
    if report.reason in FAILURES:
        yield Verdict(Reason(report.reason), _located(report.message, f"node {node.name}"))
    elif report.reason:
        yield Verdict(Reason.PENDING, f"node {node.name}: {report.reason}")


def _container(report: ContainerReport | None, name: str, pod: Pod) -> Verdict:
    where = f"container {name} of pod {pod.name} on node {pod.node}"
    if report is None:
        return Verdict(Reason.PENDING, f"the agent of node {pod.node} has not reported {where} yet")
    if report.state is ContainerState.PLACED:
        return Verdict(Reason.PLACED)
    if report.state is ContainerState.UNSUPPORTED:
        cause = report.reason or Reason.KERNEL_WITHOUT_PROCESS_MBIND
        return Verdict(Reason.UNSUPPORTED, _located(report.message, where), cause)
    if report.state is ContainerState.DRY_RUN:  # what would go wrong has not
        return Verdict(Reason.DRY_RUN, _located(report.message, where))
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
