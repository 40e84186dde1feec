# SPDX-License-Identifier: Apache-2.0
"""The verdict on a placement: pure, from everything there is to its status.

Nothing here remembers: the same world gives the same status, whoever asks and however
often, so an operator may restart at any time. It costs the pods that the placement selects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec
from memplace.api.conditions import Condition, ConditionStatus, find_condition, set_condition
from memplace.api.v1alpha1 import Placement, PlacementStatus
from memplace.reasons import FAILURES, PATIENT, ConditionType, Reason
from memplace.topology import BUILTIN_TIERS
from memplace.validation import problems

from memplace_operator.objects import Pod
from memplace_operator.pressed import Fare
from memplace_operator.rollout import Progress, progress_of
from memplace_operator.selection import Group
from memplace_operator.summing import rule_status, summary_of, worst_pods
from memplace_operator.trial import trial_of
from memplace_operator.verdicts import Judge, Verdict, worst
from memplace_operator.world import World

_REASON = re.compile("[A-Z][A-Za-z0-9]{0,127}")
_PAUSED = (
    "spec.paused: what is in place stays, nothing new is done to its pods and nothing undone; "
    "set it to false to go on"
)
_NO_POD_OF_THEM = (
    "no pod of a namespace that spec.namespaceSelector selects matches spec.selector: compare them "
    "with the labels of namespaces and pods"
)


# Conditions whose changes become events, the worst first.
_TOLD = (
    ConditionType.DEGRADED,
    ConditionType.UNSUPPORTED,
    ConditionType.PROGRESSING,
    ConditionType.READY,
)


@dataclass(frozen=True, slots=True)
class Transition:
    """A condition that changed in a way that somebody wants to hear of; becomes an event."""

    reason: str
    message: str
    is_warning: bool


@dataclass(frozen=True, slots=True)
class _Finding:
    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _Judged:
    pod: Pod
    verdict: Verdict


def reconcile(
    placement: Placement, world: World, now: datetime, *, quiet_s: float = 0.0
) -> PlacementStatus:
    """Return the status that a placement should have.

    Args:
        placement: It, with the status it has; unchanged conditions keep their times.
        world: Everything else, the placement itself included.
        now: An aware time.
        quiet_s: For how long all that is released of its roll-out has been quiet.
    """
    matched = _matched(placement, world)
    running = [(group, pod) for group, pod in matched if pod.life == "Running"]
    judge = Judge(placement, world)
    found = ((pod, judge.verdict(group, pod)) for group, pod in running)
    judged = [_Judged(pod, verdict) for pod, verdict in found if verdict is not None]
    verdicts = [j.verdict for j in judged]
    measured = [m for verdict in verdicts for m in verdict.measured]
    rules = tuple(rule_status(rule.name, measured) for rule in placement.spec.rules)
    trial = trial_of(rules, verdicts) if placement.spec.is_dry_run else ""
    of_the_spec = list(_of_the_spec(placement, world, trial))
    fares = [Fare(j.pod.node, j.verdict, j.pod.uid, j.pod.name) for j in judged]
    progress = progress_of(placement, fares, of_the_spec, quiet_s=quiet_s, now=now)
    if progress and progress.verdict and not placement.spec.paused:
        of_the_spec.append(progress.verdict)
    trouble = worst([*of_the_spec, *_summary(judged)])
    if placement.spec.paused and trouble.reason is not Reason.PAUSED:
        trouble = replace(trouble, message=f"{trouble.message} (spec.paused: nothing is changed)")
    findings = (
        _ready(trouble, judged, _nothing_to_place(placement, world, matched, judge.yielded)),
        _degraded(trouble),
        _unsupported(judged),
        *_progressing(progress),
    )
    return PlacementStatus(
        conditions=_conditions(
            placement.status, findings, generation=placement.generation, now=now
        ),
        observed_generation=placement.generation,
        matched_pods=len(running),
        placed_pods=sum(j.verdict.reason is Reason.PLACED for j in judged),
        best_effort_pods=sum(j.verdict.reason is Reason.PLACED_BEST_EFFORT for j in judged),
        unsupported_pods=sum(bool(j.verdict.cause) for j in judged),
        rules=rules,
        summary=summary_of(verdicts, rules, yielded=judge.yielded),
        pods=worst_pods(((j.pod, j.verdict) for j in judged), qualified=placement.is_cluster),
        rollout=progress.status if progress else None,
    )


def unreadable(
    status: PlacementStatus, message: str, *, generation: int, now: datetime
) -> PlacementStatus:
    """Return the status of a placement that can't be parsed: Invalid, touching nothing.

    Args:
        status: The one it has.
        message: What is wrong and what to write instead.
        generation: Its metadata.generation.
        now: An aware time.
    """
    findings = (
        _Finding(ConditionType.READY, "False", Reason.INVALID, message),
        _Finding(ConditionType.DEGRADED, "True", Reason.INVALID, message),
        _unsupported([]),
    )
    conditions = _conditions(status, findings, generation=generation, now=now)
    # What it released stays released: agents may be of the version that can read it.
    return PlacementStatus(
        conditions=conditions, observed_generation=generation, rollout=status.rollout
    )


def transitions(old: PlacementStatus, new: PlacementStatus) -> tuple[Transition, ...]:
    """Return what changed between two statuses that deserves an event.

    A status that flips, and a failure that becomes another; not each step of a move. Of
    several with one reason (Ready and Degraded of the same failure) only the first.
    """
    found: dict[str, Transition] = {}
    for type_ in _TOLD:
        before, after = (find_condition(s.conditions, type_) for s in (old, new))
        if after is not None and _is_news(before, after):
            transition = Transition(after.reason, after.message, is_warning=_is_bad(after))
            found.setdefault(after.reason, transition)
    return tuple(found.values())


def _is_news(before: Condition | None, after: Condition) -> bool:
    if after.type == ConditionType.PROGRESSING:
        return before is None or before.reason != after.reason
    if before is None:
        return after.type == ConditionType.READY or after.status == "True"
    if before.status != after.status:
        return True
    if after.type == ConditionType.READY and after.status == "True":
        # Nothing to place is Ready too: that there is something now is news.
        return before.reason != after.reason and Reason.NO_PODS in (before.reason, after.reason)
    return _is_bad(after) and before.reason != after.reason


def _is_bad(condition: Condition) -> bool:
    if condition.type == ConditionType.READY:
        return condition.status == "False" and condition.reason not in PATIENT
    if condition.type == ConditionType.PROGRESSING:
        return condition.reason == Reason.ROLLOUT_HELD
    return condition.status == "True"


def _matched(placement: Placement, world: World) -> list[tuple[Group, Pod]]:
    found = list(world.selection.pods_of(placement))
    if placement.is_cluster:
        found = [(group, _qualified(group, pod)) for group, pod in found]
    # By name, so that messages name the same example whatever the order of a list.
    return sorted(found, key=lambda each: (each[1].name, each[1].uid))


def _qualified(group: Group, pod: Pod) -> Pod:
    # For people: pods of two namespaces may have one name.
    return msgspec.structs.replace(pod, name=f"{group.namespace}/{pod.name}")


def _of_the_spec(placement: Placement, world: World, trial: str) -> Iterable[Verdict]:
    found = problems(placement.spec)
    if found:
        yield Verdict(Reason.INVALID, " ".join(f"{problem}." for problem in found))
    if placement.spec.paused:
        yield Verdict(Reason.PAUSED, _PAUSED)
    elif trial:
        yield Verdict(Reason.DRY_RUN, trial)
    # Before the first agent reports, no tier is on any node, and that means nothing. An agent
    # makes its NodeMemory first, and reports then.
    if world.has_reports:
        yield from _unknown_tiers(placement, world)


def _unknown_tiers(placement: Placement, world: World) -> Iterable[Verdict]:
    known = world.known_tiers()
    offer = ", ".join(sorted(known)) or "none yet"
    for rule in placement.spec.rules:
        missing = [tier for tier in rule.policy.tiers if tier not in known]
        # Naming a built-in tier beside one that exists is how a portable manifest looks.
        if set(missing) <= BUILTIN_TIERS and len(missing) < len(rule.policy.tiers):
            continue
        for tier in missing:
            yield Verdict(
                Reason.TIER_UNKNOWN,
                f"rule {rule.name}: no node has a tier {tier} and no MemoryTier is called that: "
                f"name one that exists ({offer}), or create a MemoryTier {tier}",
            )


def _summary(judged: Sequence[_Judged]) -> Iterable[Verdict]:
    # The worst pod speaks for all; how many others fare alike goes with it.
    if not judged:
        return
    first = worst(j.verdict for j in judged)
    others = sum(j.verdict.reason == first.reason for j in judged) - 1
    suffix = f" (and {others} more pod{'s' if others > 1 else ''})" if others else ""
    yield Verdict(first.reason, first.message + suffix)


def _ready(trouble: Verdict, judged: Sequence[_Judged], without: _Finding) -> _Finding:
    if trouble.reason not in (Reason.PLACED, Reason.PLACED_BEST_EFFORT):
        return _Finding(ConditionType.READY, "False", trouble.reason, trouble.message)
    if judged:
        return _Finding(ConditionType.READY, "True", trouble.reason, _all_placed(judged))
    return without


def _all_placed(judged: Sequence[_Judged]) -> str:
    count = len(judged)
    pods = "1 running pod is" if count == 1 else f"all {count} running pods are"
    placed = f"{pods} placed, read back from the kernel"
    lesser = [j for j in judged if j.verdict.reason is Reason.PLACED_BEST_EFFORT]
    if not lesser:
        return placed
    return (
        f"{placed}; {_on_nodes(lesser)} by best effort (onUnsupported): later pages come from "
        "where the program's own policy says, and are moved when they are found"
    )


def _on_nodes(judged: Sequence[_Judged]) -> str:
    nodes = sorted({j.pod.node for j in judged})
    pods = "1 pod" if len(judged) == 1 else f"{len(judged)} pods"
    if len(nodes) == 1:
        return f"{pods} on node {nodes[0]}"
    return f"{pods} on {len(nodes)} nodes"


def _is_elsewhere(placement: Placement, world: World) -> bool:
    # Whether there are pods, and none on a node that it is about.
    groups = world.selection.groups_of(placement)
    return bool(placement.spec.node_selector) and any(group.pods for group in groups)


def _nothing_to_place(
    placement: Placement, world: World, matched: Sequence[tuple[Group, Pod]], yielded: int
) -> _Finding:
    running = [pod for _, pod in matched if pod.life == "Running"]
    if yielded:
        pods = "pod follows a placement of its namespace"
        if yielded > 1:
            pods = "pods follow placements of their namespaces"
        message = f"{yielded} running {pods}, and no other pod needs this default"
        return _Finding(ConditionType.READY, "True", Reason.NO_PODS, message)
    if running:
        example = ", ".join(running[0].containers) or "none"
        message = (
            f"{len(running)} running pods match spec.selector, but spec.containers names none of "
            f"their running containers (pod {running[0].name} has: {example})"
        )
        return _Finding(ConditionType.READY, "False", Reason.NO_PODS, message)
    waiting = [pod for _, pod in matched if pod.life == "Waiting"]
    if waiting:
        message = f"pod {waiting[0].name} is not running yet: see kubectl describe pod"
        return _Finding(ConditionType.READY, "False", Reason.PENDING, message)
    message = (
        "all pods that match spec.selector have ended"
        if matched
        else _NO_POD_OF_THEM
        if placement.is_cluster
        else "no pod of this namespace matches spec.selector: compare it with the pods' labels"
    )
    if not matched and _is_elsewhere(placement, world):
        message = "no pod that matches spec.selector is on a node that spec.nodeSelector selects"
    # Nothing is left to do: whoever waits for a release with no replicas need not wait.
    return _Finding(ConditionType.READY, "True", Reason.NO_PODS, message)


def _degraded(trouble: Verdict) -> _Finding:
    if trouble.reason in FAILURES:
        return _Finding(ConditionType.DEGRADED, "True", trouble.reason, trouble.message)
    return _Finding(
        ConditionType.DEGRADED,
        "False",
        Reason.AS_EXPECTED,
        "no problem that needs attention",
    )


def _unsupported(judged: Sequence[_Judged]) -> _Finding:
    found = [j for j in judged if j.verdict.cause]
    if not found:
        message = "all nodes with matched pods can place memory"
        return _Finding(ConditionType.UNSUPPORTED, "False", Reason.ALL_NODES_SUPPORTED, message)
    # The smallest name, so that the order of pods in a list does not make it flap.
    first = min(found, key=lambda j: (j.verdict.cause, j.pod.node, j.pod.name))
    message = f"{_on_nodes(found)} can't be placed there; {first.verdict.message}"
    # An agent says it in its own words, and the API server takes one word for machines only.
    cause = first.verdict.cause
    reason = cause if _REASON.fullmatch(cause) else Reason.UNSUPPORTED
    return _Finding(ConditionType.UNSUPPORTED, "True", reason, message)


def _progressing(progress: Progress | None) -> Iterable[_Finding]:
    if progress is not None:
        status, reason = progress.condition
        yield _Finding(ConditionType.PROGRESSING, status, reason, progress.message)


def _conditions(
    status: PlacementStatus, findings: Sequence[_Finding], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    # One that is said no more goes.
    said = {found.type for found in findings}
    conditions = tuple(each for each in status.conditions if each.type in said)
    for found in findings:
        conditions = set_condition(
            conditions,
            found.type,
            status=found.status,
            reason=found.reason,
            message=found.message,
            generation=generation,
            now=now,
        )
    return conditions
