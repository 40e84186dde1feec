# SPDX-License-Identifier: Apache-2.0
"""Why the memory of a pod is where it is, or why it is not placed. Pure.

Which placement a container follows, the core's assignment says; how it fares, its node's
report. The order of questions is the operator's (`memplace_operator.verdicts`): nothing an
agent says counts where it is silent, retired or never was, or is about another life.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from memplace.api.conditions import find_condition
from memplace.api.v1alpha1 import (
    ContainerReport,
    ContainerState,
    NodeMemory,
    Placement,
    PlacementReport,
    Rule,
    RuleReport,
    Truncated,
)
from memplace.assignment import Assignment, assign, forecast, gives_way, why_first, would_win
from memplace.explain_rules import human_bytes
from memplace.kinds import OnUnsupported, Pressure
from memplace.pods import bare_id
from memplace.reasons import FAILURES, ConditionType, Reason

from memplace_cli.advice import advise, meaning
from memplace_cli.beats import Pulse
from memplace_cli.facts import Unread, is_retired, unsupported
from memplace_cli.said import ContainerSaid, Loser, PodFacts, PodSaid, RuleSaid
from memplace_cli.selecting import why_not_selected
from memplace_cli.tiers import by_tier, node_sets
from memplace_cli.words import count, joined

# What is measured to be as good as it can be there, whatever else is said.
_DONE = (
    ContainerState.PLACED,
    ContainerState.PLACED_BEST_EFFORT,
    ContainerState.OBSERVED,
    ContainerState.DRY_RUN,
)


# What is said of a container that stalls on memory.
_PRESSURES = {
    Pressure.RAISED: "some of its tasks wait for memory at times, and its pages move slower",
    Pressure.HIGH: "its tasks wait for memory much of the time. None of its pages move until that "
    "is less; look at its limits and at the free memory of the node",
}


@dataclass(frozen=True, slots=True)
class _Finding:
    reason: str
    message: str = ""


def explain_pod(facts: PodFacts, container: str = "") -> PodSaid:
    """Explain a pod.

    Args:
        facts: What was read of it.
        container: Only that one; empty for all.
    """
    pod, node = facts.pod, facts.node
    assigned = assign(facts.here, pod.whole)
    names = [name for name in pod.whole.containers if container in ("", name)]
    backend = node.status.backend if node else None
    said = tuple(_container(name, assigned.get(name), facts) for name in names)
    return PodSaid(
        namespace=pod.ref.namespace,
        name=pod.ref.name,
        node=pod.node,
        life=pod.life,
        backend=backend.name.value if backend else "",
        agent=_agent(facts),
        containers=said,
        regions=_regions(facts) if any(rule.regions for c in said for rule in c.rules) else "",
        left_out=facts.left_out,
    )


def _regions(facts: PodFacts) -> str:
    # Addresses are secrets: the agent tells them on its pod's loopback only.
    ref = facts.pod.ref
    return (
        f"kubectl -n {facts.system} exec {facts.agent_pod or 'AGENT-POD'} -c agent -- "
        f"memplace-agent explain {ref.namespace}/{ref.name}"
    )


def _agent(facts: PodFacts) -> str:
    if not facts.node_readable or not facts.pod.node:
        return Pulse.UNKNOWN
    if not _has_reported(facts.node):
        return "NeverReported"
    return Reason.RETIRED if is_retired(facts.node) else facts.pulse


def _has_reported(node: NodeMemory | None) -> TypeGuard[NodeMemory]:
    return node is not None and node.status.heartbeat_time is not None


def _container(name: str, assigned: Assignment | None, facts: PodFacts) -> ContainerSaid:
    losers = _losers(name, assigned, facts)
    if assigned is None:
        return ContainerSaid(
            name=name,
            losers=losers,
            message=_unselected(facts),
            advice=advise(Reason.NO_PODS) if facts.placements else "",
        )
    winner = assigned.winner
    report = _current(name, winner, facts)
    found = _finding(name, winner, report, facts)
    return ContainerSaid(
        name=name,
        placement=winner.handle,
        losers=losers,
        reason=found.reason,
        sentence=meaning(found.reason),
        message=found.message,
        advice=advise(found.reason),
        notes=tuple(_notes(winner, report, found, facts)),
        new_memory=report.new_memory if report else "",
        tiers=by_tier(report.rules, node_sets(facts.node)) if report and facts.node else (),
        rules=tuple(_rule(rule, report, facts) for rule in winner.spec.rules),
    )


def _unselected(facts: PodFacts) -> str:
    if not facts.placements and not facts.unread:
        return f"namespace {facts.pod.ref.namespace} has no MemoryPlacement"
    return "no placement selects it: its memory is left alone"


def _losers(name: str, assigned: Assignment | None, facts: PodFacts) -> tuple[Loser, ...]:
    lost = assigned.losers if assigned else ()
    known = {each.uid for each in lost} | ({assigned.winner.uid} if assigned else set())
    others = [each for each in facts.placements if each.uid not in known]
    return (
        *(
            Loser(placement=each.handle, why=_outranked(name, each, assigned, facts))
            for each in lost
        ),
        *(
            Loser(
                placement=each.handle,
                why=why_not_selected(each, facts.pod.whole, name, facts.node_labels),
            )
            for each in others
        ),
        *(
            Loser(placement=_handle(each), why=f"not understood: {each.problem}")
            for each in facts.unread
        ),
    )


def _handle(unread: Unread) -> str:
    return f"cluster/{unread.name}" if unread.is_cluster else unread.name.partition("/")[2]


def _outranked(name: str, loser: Placement, assigned: Assignment | None, facts: PodFacts) -> str:
    if assigned is None:
        return ""
    winner = assigned.winner
    if loser.spec.is_dry_run and not loser.spec.paused:
        report = _current(name, loser, facts) if would_win(loser, winner) else None
        return "; ".join(filter(None, (forecast(loser, winner), *_tried(report))))
    conflict = "" if gives_way(loser, winner) else f" ({Reason.CONFLICT})"
    return (
        f"selects it, too, but {winner.handle} {why_first(winner, loser)} and has precedence"
        f"{conflict}"
    )


def _tried(report: ContainerReport | None) -> Iterator[str]:
    # What a dry run would do to a container that it would take.
    if report is None:
        return
    if report.state is not ContainerState.DRY_RUN:
        yield f"{report.state}: {report.message}"
        return
    whole = human_bytes(sum(rule.bytes for rule in report.rules))
    withheld = sum(rule.withheld_bytes for rule in report.rules)
    moving = max(0, sum(rule.misplaced_bytes for rule in report.rules) - withheld)
    yield f"{human_bytes(moving) if moving else 'none'} of {whole} would move"
    if report.reason == Reason.NAMESPACE_LIMIT:
        yield f"{human_bytes(withheld)} would stay for a limit of the namespace ({report.reason})"
    if report.reason == Reason.TIER_FULL:
        yield f"not all of it would fit ({report.reason})"


def _report(winner: Placement, facts: PodFacts) -> PlacementReport | None:
    reports = facts.node.status.placements if facts.node else ()
    return next((each for each in reports if each.uid == winner.uid), None)


def _current(name: str, winner: Placement, facts: PodFacts) -> ContainerReport | None:
    # A report about an earlier life of a container says nothing about this one.
    report, pod = _report(winner, facts), facts.pod
    found = (
        each
        for reported in (report.pods if report else ())
        if reported.uid == pod.ref.uid
        for each in reported.containers
        if each.name == name and bare_id(each.container_id) == pod.container_ids.get(name)
    )
    return next(found, None)


def _finding(
    name: str, winner: Placement, report: ContainerReport | None, facts: PodFacts
) -> _Finding:
    return (
        _of_the_pod(name, facts)
        or _of_the_node(winner, facts)
        or _of_the_placement(winner, facts)
        or _of_the_container(winner, report, facts)
    )


def _of_the_pod(name: str, facts: PodFacts) -> _Finding | None:
    pod = facts.pod
    if pod.life == "Ended":
        return _Finding(Reason.PENDING, "the pod has ended, or is being deleted")
    if not pod.node:
        return _Finding(Reason.PENDING, "the pod has no node yet: see kubectl describe pod")
    if name not in pod.container_ids:
        why = facts.waiting.get(name, "")
        return _Finding(
            Reason.PENDING, f"the container does not run{f': {why}' if why else ' yet'}"
        )
    return None


def _of_the_node(winner: Placement, facts: PodFacts) -> _Finding | None:
    node, name = facts.node, facts.pod.node
    if not facts.node_readable:
        return _by_the_operator(winner)
    if node is None or not _has_reported(node):
        return _Finding(
            Reason.AGENT_NOT_REPORTING,
            f"no agent ever reported from node {name}: check that the agent's DaemonSet has a "
            "running pod there (node selector, tolerations, image)",
        )
    if is_retired(node):
        return _Finding(Reason.AGENT_NOT_REPORTING, f"the agent of node {name} is retired")
    if facts.pulse is Pulse.SILENT:
        return _Finding(
            Reason.AGENT_NOT_REPORTING,
            f"the agent of node {name} is silent; what it reported last is below",
        )
    cannot = unsupported(node)
    if cannot is not None and winner.spec.unsupported is OnUnsupported.FAIL:
        why = f" ({cannot.reason}): {cannot.message}" if cannot.message else f" ({cannot.reason})"
        return _Finding(
            Reason.UNSUPPORTED, f"node {name} can't place memory, its pods are left alone{why}"
        )
    return None


def _by_the_operator(winner: Placement) -> _Finding:
    # All that who may not read NodeMemories can know: what the worst pod of the placement says.
    ready = find_condition(winner.status.conditions, ConditionType.READY)
    if ready is None:
        return _Finding(Reason.PENDING, "the operator has not judged the placement yet")
    return _Finding(ready.reason, f"of the whole placement, the operator says: {ready.message}")


def _of_the_placement(winner: Placement, facts: PodFacts) -> _Finding | None:
    report, name = _report(winner, facts), facts.pod.node
    if report is not None and report.reason == Reason.NOT_UNDERSTOOD:
        return _Finding(Reason.NOT_UNDERSTOOD, report.message)
    left_out = facts.node.status.truncated if facts.node else Truncated()
    if report is None and left_out.placements:
        return _Finding(Reason.PENDING, f"the report of node {name} has no room for the placement")
    if report is None or report.observed_generation != winner.generation:
        return _Finding(
            Reason.PENDING,
            f"the agent of node {name} has not looked at generation {winner.generation} of the "
            "placement yet",
        )
    if left_out.pods and all(each.uid != facts.pod.ref.uid for each in report.pods):
        return _Finding(Reason.PENDING, f"the report of node {name} has no room for the pod")
    return None


def _of_the_container(
    winner: Placement, report: ContainerReport | None, facts: PodFacts
) -> _Finding:
    found = _by_the_agent(report, facts)
    whole = _report(winner, facts)
    if whole is None or not whole.reason:
        return found
    # Trouble of the whole placement on that node; a reason of a newer agent is none known here.
    known = whole.reason if whole.reason in FAILURES else Reason.PENDING
    trouble = _Finding(known, whole.message or whole.reason)
    return min(trouble, found, key=lambda each: Reason(each.reason).rank)


def _by_the_agent(report: ContainerReport | None, facts: PodFacts) -> _Finding:
    if report is None:
        return _Finding(
            Reason.PENDING, f"the agent of node {facts.pod.node} has not reported it yet"
        )
    if report.state is ContainerState.UNSUPPORTED:
        why = f"{report.message} ({report.reason})" if report.reason else report.message
        return _Finding(Reason.UNSUPPORTED, why)
    # Each state is a reason, too; a report may have a more exact one.
    is_exact = report.state not in _DONE and report.reason in FAILURES
    return _Finding(report.reason if is_exact else report.state, report.message)


def _notes(
    winner: Placement, report: ContainerReport | None, found: _Finding, facts: PodFacts
) -> list[str]:
    notes = []
    if facts.node is not None and facts.node.status.tiers:
        has = {tier.name for tier in facts.node.status.tiers}
        for rule in winner.spec.rules:
            lacks = [tier for tier in rule.policy.tiers if tier not in has]
            if lacks:
                notes.append(
                    f"rule {rule.name} names {joined(lacks)}, which node {facts.pod.node} does not "
                    f"have (it has {joined(sorted(has))})"
                )
    for rule_report in report.rules if report else ():
        if rule_report.own_regions and "OwnPolicy" not in found.message:
            notes.append(
                f"rule {rule_report.name} leaves {count(rule_report.own_regions, 'region')} alone, "
                "whose policy the program has set itself; override: true would take them"
            )
    if report is not None and report.memory_pressure in _PRESSURES:
        notes.append(
            f"its memory pressure is {report.memory_pressure}: {_PRESSURES[report.memory_pressure]}"
        )
    if report is not None and facts.pulse is Pulse.SILENT:
        notes.append(
            f"last reported: {report.state}{f', {report.message}' if report.message else ''}"
        )
    if facts.pulse is Pulse.UNKNOWN and facts.node_readable and _has_reported(facts.node):
        notes.append(
            f"whether the agent of node {facts.pod.node} lives can't be told from here: this is "
            "what it reported last"
        )
    return notes


def _rule(rule: Rule, report: ContainerReport | None, facts: PodFacts) -> RuleSaid:
    nothing = RuleReport(name=rule.name)
    held = next((r for r in (report.rules if report else ()) if r.name == rule.name), nothing)
    on = f" on {joined(rule.policy.tiers)}" if rule.policy.tiers else ""
    return RuleSaid(
        name=rule.name,
        wants=f"{rule.policy.mode}{on}",
        regions=held.regions,
        bytes=held.bytes,
        tiers=by_tier((held,), node_sets(facts.node) if facts.node else {}),
        misplaced_bytes=held.misplaced_bytes,
        own_regions=held.own_regions,
    )
