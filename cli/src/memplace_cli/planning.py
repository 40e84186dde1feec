# SPDX-License-Identifier: Apache-2.0
"""What applying placements would do to pods. Pure.

Who has a container is told twice by the core's assignment, once of what is there and once of
what would be there; the difference is the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from memplace.api.v1alpha1 import Placement
from memplace.assignment import (
    Assignment,
    PlacementIndex,
    PodRef,
    forecast,
    gives_way,
    selects_pod,
    why_first,
    would_win,
)
from memplace.backends import Act, act_of
from memplace.nodes import NumaSet
from memplace.reasons import Reason
from msgspec import UNSET
from msgspec.structs import replace

from memplace_cli.facts import Labels, Unread, capabilities
from memplace_cli.feasible import Finding, Site, node_finding, unknown_tiers
from memplace_cli.planned import (
    DOABLE,
    Change,
    ContainerPlan,
    NodePlan,
    PlacementPlan,
    PlanFacts,
    PodPlan,
    PodSeen,
    TierRoom,
    Wanted,
)
from memplace_cli.planning_limits import Scene, look_at_limits
from memplace_cli.selecting import why_not_selected
from memplace_cli.sizing import Reports, moves_of, room_for
from memplace_cli.tiers import by_tier, node_sets
from memplace_cli.words import joined

_AGENT_ONLY = (
    "which regions its rules mean, and how many bytes, only the agents can tell: apply it with "
    "mode: DryRun first, and see kubectl memplace explain"
)


def plan_placements(
    wanted: Sequence[Wanted], found: PlanFacts, tiers: Mapping[str, Mapping[str, NumaSet]]
) -> tuple[PlacementPlan, ...]:
    """Return what would become of each placement, in their order.

    Args:
        wanted: All that would be applied; those that make no sense are left out.
        found: What is there.
        tiers: Per node its tiers, as they would be.
    """
    planner = _planner(wanted, found, tiers)
    return tuple(
        _placement(each, each.placement, planner) for each in wanted if each.placement is not None
    )


class _Index:
    """Who has a container, on nodes with these labels or those."""

    def __init__(self, placements: Sequence[Placement]) -> None:
        self._placements = placements
        # By the placements that are not there.
        self._indices: dict[frozenset[str], PlacementIndex] = {}

    def assign(self, pod: PodRef, labels: Labels | None) -> dict[str, Assignment]:
        """Give each container of a pod its placement; without labels of its node all count."""
        absent = frozenset(
            each.uid
            for each in self._placements
            if labels is not None and not each.spec.selects_node(labels)
        )
        if absent not in self._indices:
            here = (each for each in self._placements if each.uid not in absent)
            self._indices[absent] = PlacementIndex(here)
        return self._indices[absent].assign(pod)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planner:
    # Before and after, and what is known of machines.
    found: PlanFacts
    before: _Index
    after: _Index
    site: Site
    scene: Scene

    @property
    def reports(self) -> Reports:
        return self.scene.reports


def _planner(
    wanted: Sequence[Wanted], found: PlanFacts, tiers: Mapping[str, Mapping[str, NumaSet]]
) -> _Planner:
    live = found.facts.placements or ()
    new = [each.placement for each in wanted if each.placement is not None]
    replaced = {(each.namespace, each.name) for each in new}
    stay = [each for each in live if (each.namespace, each.name) not in replaced]
    nodes = found.facts.nodes
    names = {each.name for each in found.tiers or ()} | {w.tier.name for w in wanted if w.tier}
    after = _Index([*stay, *new])
    return _Planner(
        found=found,
        before=_Index(live),
        after=after,
        site=Site(
            nodes=None if nodes is None else {each.name: each for each in nodes},
            tiers=tiers,
            memory_tiers=None if found.tiers is None else names,
        ),
        scene=Scene(
            found=found,
            tiers=tiers,
            memory_tiers=found.tiers_after(wanted),
            reports=Reports(nodes or ()),
            assign=after.assign,
        ),
    )


def _placement(wanted: Wanted, placement: Placement, planner: _Planner) -> PlacementPlan:
    pods = tuple(_pods(placement, planner))
    nodes = tuple(_nodes(placement, pods, planner))
    limits = look_at_limits(placement, planner.scene)
    pods = tuple(limits.applied(_with_room(pod, nodes)) for pod in pods)
    trouble = unknown_tiers(placement.spec, planner.site)
    if not trouble.reason and planner.found.pods is not None:
        trouble = _nobody(placement, pods, planner.found)
    return PlacementPlan(
        namespace=placement.namespace,
        name=placement.name,
        exists=wanted.live is not None,
        reason=trouble.reason,
        message=trouble.message,
        changes=wanted.changes,
        kept=wanted.kept,
        pods=pods,
        nodes=nodes,
        notes=(*_notes(placement, pods, planner), *limits.notes),
    )


def _nobody(placement: Placement, pods: Sequence[PodPlan], found: PlanFacts) -> Finding:
    if any(c.change.is_selected for pod in pods for c in pod.containers):
        return Finding()
    where = " on a node that its spec.nodeSelector means" if placement.spec.node_selector else ""
    if placement.is_cluster and found.is_partial:
        where += " of the namespaces that could be read"
    return Finding(Reason.NO_PODS, f"it would select no pod{where}")


def _pods(placement: Placement, planner: _Planner) -> Iterator[PodPlan]:
    for pod in planner.found.pods or ():
        state = pod.state
        is_there = placement.is_cluster or state.ref.namespace == placement.namespace
        if not is_there or state.life == "Ended":
            continue
        labels = planner.found.labels_of(state.node)
        before, after = (
            index.assign(state.whole, labels) for index in (planner.before, planner.after)
        )
        containers = tuple(
            each
            for name in state.whole.containers
            if name not in pod.done
            for each in _container(
                _Of(placement, pod, name, labels), before.get(name), after.get(name), planner
            )
        )
        if containers:
            yield PodPlan(
                namespace=state.ref.namespace,
                name=state.ref.name,
                node=state.node,
                life=state.life,
                containers=containers,
            )


@dataclass(frozen=True, slots=True)
class _Of:
    # A container, and the labels of its node; None if they are not known.
    placement: Placement
    pod: PodSeen
    name: str
    node_labels: Labels | None

    @property
    def is_elsewhere(self) -> bool:
        spec = self.placement.spec
        return (
            self.node_labels is not None
            and not spec.selects_node(self.node_labels)
            and selects_pod(self.placement, self.pod.state.whole)
            and spec.selects_container(self.name)
        )

    @property
    def why_not(self) -> str:
        return why_not_selected(self.placement, self.pod.state.whole, self.name, self.node_labels)


def _container(
    of: _Of, before: Assignment | None, after: Assignment | None, planner: _Planner
) -> Iterator[ContainerPlan]:
    uid = of.placement.uid
    had = before is not None and before.winner.uid == uid
    has = after is not None and after.winner.uid == uid
    loses = after is not None and any(each.uid == uid for each in after.losers)
    if not had and not has and not loses and not of.is_elsewhere:
        return
    change = {
        (True, True): Change.STAYS,
        (False, True): Change.COMES,
        (True, False): Change.LEAVES,
        (False, False): Change.LOSES if loses else Change.ELSEWHERE,
    }[had, has]
    finding = Finding(message=of.why_not)
    if change is not Change.ELSEWHERE:
        finding = _would_be(of, planner) if has else _not_had(of, after)
    yield replace(
        _seen(of, before, planner),
        change=change,
        reason=finding.reason if change.is_selected else "",
        message=finding.message,
        after=after.winner.handle if after else "",
    )


def _seen(of: _Of, before: Assignment | None, planner: _Planner) -> ContainerPlan:
    # Where its memory is, by the report about the placement that it follows now.
    placement, pod, name = of.placement, of.pod, of.name
    state, live = pod.state, before.winner if before else None
    # Of a dry run there may be one, too, of a container that another placement has.
    own = planner.scene.live.get(placement.uid)
    reports = {
        each.uid: planner.reports.of(
            state.ref.uid, name, state.container_ids.get(name, ""), each.uid
        )
        for each in (own, live)
        if each
    }
    mine = reports.get(placement.uid)
    report = mine or (reports.get(live.uid) if live else None)
    node = (planner.site.nodes or {}).get(state.node)
    return ContainerPlan(
        name=name,
        change=Change.STAYS,
        before=live.handle if live else "",
        tiers=by_tier(report.rules, node_sets(node)) if report and node else (),
        measured=report is not None and bool(report.rules),
        would_move_bytes=moves_of(
            mine, own.spec if own else None, placement.spec, planner.site.tiers.get(state.node, {})
        ),
        limit_bytes=pod.limits.get(name, 0),
    )


def _not_had(of: _Of, after: Assignment | None) -> Finding:
    placement, why = of.placement, of.why_not
    if after is not None and not why and placement.spec.is_dry_run and not placement.spec.paused:
        return _would_have(placement, after.winner)
    then = "no placement has it then, and what was done is given back"
    if after is not None:
        first = why_first(after.winner, placement)
        if not why:
            # A default of the cluster is for those who have nothing of their own.
            reason = "" if gives_way(placement, after.winner) else Reason.CONFLICT
            return Finding(reason, f"placement {after.winner.handle} {first} and has it")
        then = f"placement {after.winner.handle} has it then"
    return Finding(message=f"{why}; {then}" if why else then)


def _would_have(trial: Placement, winner: Placement) -> Finding:
    reason = Reason.DRY_RUN if would_win(trial, winner) else Reason.CONFLICT
    if gives_way(trial, winner) and reason is Reason.CONFLICT:
        return Finding(message=forecast(trial, winner))
    return Finding(reason, forecast(trial, winner))


def _would_be(of: _Of, planner: _Planner) -> Finding:
    pod, name = of.pod, of.name
    state, spec = pod.state, of.placement.spec
    if not state.node:
        return Finding(Reason.PENDING, "the pod has no node yet")
    if spec.node_selector and of.node_labels is None:
        return Finding(
            message=f"whether its spec.nodeSelector means node {state.node} can't be told, for "
            "want of the right to read nodes"
        )
    never = planner.reports.never(state.ref.uid, name, state.container_ids.get(name, ""))
    if never is not None:
        return Finding(Reason.UNSUPPORTED, f"{never.reason}: {never.message}")
    found = node_finding(spec, state.node, planner.site)
    if found.reason or planner.site.nodes is None:
        return found
    if name not in state.container_ids:
        return Finding(Reason.PENDING, "it does not run yet")
    if spec.paused:
        return Finding(Reason.PAUSED, "spec.paused: nothing new is done")
    if spec.is_dry_run:
        return Finding(Reason.DRY_RUN, "mode DryRun: nothing is changed")
    node = planner.site.nodes[state.node]
    if act_of(spec.unsupported, capabilities(node)) is Act.MOVE:
        return Finding(Reason.PLACED_BEST_EFFORT, "pages are moved; those to come land anywhere")
    return Finding(Reason.PLACED)


def _nodes(placement: Placement, pods: Sequence[PodPlan], planner: _Planner) -> Iterator[NodePlan]:
    known = planner.site.nodes
    for name in sorted({pod.node for pod in pods if pod.node}):
        mine = [
            each
            for pod in pods
            if pod.node == name
            for each in pod.containers
            if each.change in (Change.COMES, Change.STAYS) or each.reason == Reason.DRY_RUN
        ]
        if not mine or known is None:
            continue
        found, node = node_finding(placement.spec, name, planner.site), known.get(name)
        good = [each for each in mine if each.reason in DOABLE]
        tiers = planner.site.tiers.get(name, {})
        room = room_for(placement.spec, node, tiers, good) if node and good else None
        backend = node.status.backend if node else None
        yield NodePlan(
            name=name,
            backend=backend.name.value if backend else "",
            reason=found.reason,
            message=found.message,
            room=room,
        )


def _with_room(pod: PodPlan, nodes: Sequence[NodePlan]) -> PodPlan:
    # What is measured and does not fit is TierFull; what might not is said of the node.
    room = next((node.room for node in nodes if node.name == pod.node), None)
    if room is None or not _is_full(room):
        return pod
    containers = tuple(
        replace(each, reason=Reason.TIER_FULL, message=room.message)
        if each.reason in DOABLE and each.would_move_bytes
        else each
        for each in pod.containers
    )
    return replace(pod, containers=containers)


def _is_full(room: TierRoom) -> bool:
    left = room.capacity_bytes - room.placed_bytes
    return bool(room.capacity_bytes) and room.would_move_bytes > left


def _notes(placement: Placement, pods: Sequence[PodPlan], planner: _Planner) -> Iterator[str]:
    containers = [each for pod in pods for each in pod.containers if each.after == placement.handle]
    if placement.spec.is_dry_run:
        yield "mode DryRun: nothing would be changed; what would be is measured"
    elif any(each.reason in DOABLE and each.would_move_bytes is None for each in containers):
        yield _AGENT_ONLY
    if placement.spec.paused:
        yield "spec.paused: nothing new would be done, and nothing given back"
    if placement.spec.rollout is not UNSET:
        yield "spec.rollout: nodes take it one step after the other, so not all of this is at once"
    taken = sorted({each.before for each in containers if each.before != placement.handle} - {""})
    if taken:
        yield f"it takes containers from {joined(taken)}, whose work on them is given back"
    inside = [u.about for u in planner.found.facts.unread if _may_matter(u, placement)]
    if inside:
        yield f"not counted, for this version does not understand them: {joined(sorted(inside))}"


def _may_matter(unread: Unread, placement: Placement) -> bool:
    # NodeMemories have no namespace, and are none that could win.
    if unread.is_cluster or placement.is_cluster:
        return unread.is_cluster or "/" in unread.name
    return unread.name.startswith(f"{placement.namespace}/")
