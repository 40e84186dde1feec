# SPDX-License-Identifier: Apache-2.0
"""Say how a container fares, from what was seen in its processes and in the mover's queue. Pure.

Placed means seen: a process that could not be read, or not wholly, is never Placed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from memplace.api.conditions import shorten
from memplace.api.v1alpha1 import ContainerReport, ContainerState
from memplace.backends import Act
from memplace.errors import MemplaceError, ProcessGone
from memplace.future import Future
from memplace.pacing import WaitReason
from memplace.policy import RuleResult
from memplace.reasons import Reason
from memplace.results import (
    explain_misplaced,
    explain_own,
    merge_results,
    rule_report,
    uneven_bytes,
    without_room,
)
from msgspec import UNSET

from memplace_agent.engine.lesser import NOTES
from memplace_agent.engine.orders import Progress
from memplace_agent.engine.placer import Outcome, Problem
from memplace_agent.engine.survey import Survey
from memplace_agent.engine.to_come import sentence
from memplace_agent.errors import told
from memplace_agent.procfs.process import Incomplete
from memplace_agent.procfs.process import Reason as Why

# A running program allocates between two looks at it. So little of a rule that was placed
# is put right by the next look; until then the placement is not called unplaced again.
_NEWLY_ALLOCATED_BYTES = 1 << 20
_NEWLY_ALLOCATED_SHARE = 0.01

# What a sample of pages reaches, unless too few of them are resident.
_PROMISED_ERROR = 0.0201

_PASSES = frozenset({Reason.TRY_AGAIN, Reason.PROCESS_GONE})

_INCOMPLETE = {
    Why.LEADER_EXITED: Problem(
        Reason.LEADER_EXITED,
        "the first thread of a process has ended and others run on: the kernel shows and moves "
        "nothing of them. What was set stays; end the program's main thread last",
    ),
    Why.DENIED: Problem(
        Reason.MISSING_CAPABILITY,
        "the agent may not read a process: give it SYS_PTRACE, and look for AppArmor or SELinux "
        "denials in the node's log (agent.appArmorProfile, agent.seLinuxOptions of the chart)",
    ),
    Why.TOO_LARGE: Problem(Reason.TOO_MANY_MAPPINGS, "a process has too many mappings to read"),
    Why.TOO_LONG: Problem(
        Reason.STUCK,
        "a process is so large that reading its policies would make it wait for a second or more: "
        "this kernel tells them only by a walk of its page tables. A kernel with process_mbind() "
        "tells them at once",
    ),
    Why.DEADLINE: Problem(Reason.STUCK, "a process was not read in time; it is tried again"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state, its reason and a message."""

    state: ContainerState
    reason: Reason
    message: str = ""


_SETTLED = {
    Act.PLACE: (ContainerState.PLACED, Reason.PLACED),
    Act.MOVE: (ContainerState.PLACED_BEST_EFFORT, Reason.PLACED_BEST_EFFORT),
    Act.OBSERVE: (ContainerState.OBSERVED, Reason.OBSERVED),
    Act.PAUSE: (ContainerState.PAUSED, Reason.PAUSED),
    Act.WAIT: (ContainerState.AWAITING_ROLLOUT, Reason.AWAITING_ROLLOUT),
    Act.TRY: (ContainerState.DRY_RUN, Reason.DRY_RUN),
}


def problem_in(survey: Survey) -> Problem | None:
    """Return what keeps a process from being placed; None for nothing.

    Raises:
        ProcessGone: It ended.
    """
    incomplete = survey.incomplete
    if incomplete is not None:
        if incomplete.reason is Why.PROCESS_GONE:
            raise ProcessGone("the process ended while it was read")
        return problem_of(incomplete)
    if not survey.image:
        text = "the kernel hides from the agent which program a process runs"
        return Problem(Reason.MISSING_CAPABILITY, text)
    return None


def problem_of_error(err: Exception) -> Problem:
    """Say what an error is to the process that it is about."""
    return Problem(err.reason if isinstance(err, MemplaceError) else Reason.FAILED, told(err))


def passes(problem: Problem) -> bool:
    """Tell whether a problem goes away by itself, most likely before the next look."""
    return problem.reason in _PASSES


def problem_of(incomplete: Incomplete) -> Problem:
    """Say what a view that is not whole means; TryAgain for what passes by itself."""
    known = _INCOMPLETE.get(incomplete.reason)
    if known is not None:
        return known
    if incomplete.reason is Why.BAD_TEXT:
        text = "the kernel describes a process in a form that this agent's version does not know"
        return Problem(Reason.FAILED, f"{text}: {incomplete.text}")
    if incomplete.reason is Why.FAILED:
        return Problem(Reason.FAILED, f"a process can't be read: {incomplete}")
    return Problem(Reason.TRY_AGAIN, f"a process is being changed: {incomplete}")


def judge(
    name: str,
    container_id: str,
    outcomes: Sequence[Outcome],
    *,
    unseen: Sequence[Problem] = (),
    progress: Iterable[Progress] = (),
    contended: str = "",
    was_placed: bool = False,
    is_fresh: bool = False,
    future: Future | None = None,
    act: Act = Act.PLACE,
    room: Mapping[int, int] | None = None,
    refused: Mapping[str, str] | None = None,
) -> ContainerReport:
    """Sum up the processes of a container.

    Args:
        name: The container's name.
        container_id: Its id.
        outcomes: One per process that could be looked at.
        unseen: One per process that could not.
        progress: Of the mover, for this container.
        contended: Who takes turns with memplace over which region; empty if nobody does.
        was_placed: Whether the last report, under the same spec, called it Placed.
        is_fresh: Whether all was in place a moment ago, so that what is not is new memory
            on its way, however much: that is no reason to call the placement unplaced.
        future: What its rules imply for mappings to come; None where the kernel can't keep it.
        act: What is done to it.
        room: Of a dry run, how many bytes would fit on each NUMA node.
        refused: Its rules that a limit of the namespace keeps from anything new, or would in a
            dry run, and why.
    """
    results = merge_results(
        (outcome.results for outcome in outcomes),
        (common for outcome in outcomes for common in outcome.commons),
    )
    moves, refused = {each.rule: each for each in progress}, refused or {}
    verdict = _of_processes(outcomes, unseen)
    if act.changes:
        verdict = (
            verdict
            or _of_rules(results, moves, was_placed=was_placed, is_fresh=is_fresh)
            or _of_changes(outcomes, unseen, is_fresh=was_placed and is_fresh)
        )
    if act is Act.TRY:
        verdict = verdict or _would_be_refused(refused) or _would_not_fit(results, room or {})
    verdict = verdict or _in_place(act, results, outcomes)
    if contended and act.changes and verdict.state is not ContainerState.FAILED:
        # What is left to do is left on purpose, and what is in place will not stay there.
        verdict = Verdict(ContainerState.FAILED, Reason.CONTENDED, contended)
    message = verdict.message or explain_own(results) or _sampled(outcomes)
    return ContainerReport(
        name=name,
        state=verdict.state,
        container_id=container_id,
        reason=verdict.reason,
        message=shorten(message),
        sticky=False if act is Act.MOVE else UNSET,
        new_memory=shorten(sentence(future, (outcome.no_default for outcome in outcomes))),
        rules=tuple(rule_report(each, withheld=each.rule in refused) for each in results),
    )


def _would_be_refused(refused: Mapping[str, str]) -> Verdict | None:
    for rule, why in refused.items():
        message = f"{NOTES[Act.TRY]}; rule {rule}: {why}"
        return Verdict(ContainerState.DRY_RUN, Reason.NAMESPACE_LIMIT, message)
    return None


def _would_not_fit(results: Sequence[RuleResult], room: Mapping[int, int]) -> Verdict | None:
    # Without figures: see `lesser.NOTES`.
    names = without_room(results, room)
    if not names:
        return None
    rules = f"rule {names[0]}" if len(names) == 1 else f"rules {', '.join(names)}"
    message = f"{NOTES[Act.TRY]}; not all of {rules} would fit: its tiers are too full now"
    return Verdict(ContainerState.DRY_RUN, Reason.TIER_FULL, message)


def _in_place(act: Act, results: Sequence[RuleResult], outcomes: Sequence[Outcome]) -> Verdict:
    said = NOTES.get(act, ""), explain_own(results) or _sampled(outcomes)
    return Verdict(*_SETTLED[act], "; ".join(filter(None, said)))


def _sampled(outcomes: Sequence[Outcome]) -> str:
    # Up to two points is what is promised.
    worst = max((outcome.error for outcome in outcomes if outcome.results), default=0.0)
    if worst <= _PROMISED_ERROR:
        return ""
    if worst >= 1 and not any(r.bytes for o in outcomes for r in o.results):
        return "so little of the memory is resident that none of it was seen"
    return f"where bytes are is known to within {worst:.0%}: so little of the memory is resident"


def _of_processes(outcomes: Sequence[Outcome], unseen: Sequence[Problem]) -> Verdict | None:
    if not outcomes and not unseen:
        return Verdict(ContainerState.PENDING, Reason.PENDING, "the container has no process yet")
    planned = next((p for o in outcomes if o.plan for p in o.plan.problems), None)
    if planned:
        message = f"rule {planned.rule}: {planned.message}"
        return Verdict(ContainerState.FAILED, planned.reason, message)
    found = [*unseen, *(problem for outcome in outcomes for problem in outcome.problems)]
    lasting = [problem for problem in found if problem.reason not in _PASSES]
    if not lasting:
        return None
    worst = min(lasting, key=lambda problem: problem.reason.rank)
    return Verdict(ContainerState.FAILED, worst.reason, worst.message)


def _of_rules(
    results: Sequence[RuleResult],
    moves: Mapping[str, Progress],
    *,
    was_placed: bool,
    is_fresh: bool,
) -> Verdict | None:
    is_stuck = any(_is_stuck(moves.get(result.rule)) for result in results)
    is_new = is_fresh or all(map(_newly_allocated, results))
    if was_placed and not is_stuck and is_new and not any(map(uneven_bytes, results)):
        return None
    found = (_of_rule(result, moves.get(result.rule)) for result in results)
    return min(
        (verdict for verdict in found if verdict),
        key=lambda verdict: verdict.reason.rank,
        default=None,
    )


def _of_rule(result: RuleResult, move: Progress | None) -> Verdict | None:
    if result.misplaced_bytes and move and move.wait is WaitReason.AGENT_CPUSET:
        message = f"rule {result.rule}: {move.message}: remove cpuset.mems of the agent's pod"
        return Verdict(ContainerState.FAILED, Reason.AGENT_CPUSET_EXCLUDES_TIER, message)
    if result.misplaced_bytes and move and move.wait is WaitReason.TIER_FULL:
        # Free memory alone does not tell: page cache is room, huge pages come from a pool.
        message = f"rule {result.rule}: {move.message or 'the tier is full'}"
        return Verdict(ContainerState.FAILED, Reason.TIER_FULL, message)
    # What stayed although the mover had room for it did not stay for want of room.
    room = dict.fromkeys(result.nodes, 1 << 62)
    why = explain_misplaced(result, room, moved=_is_stuck(move))
    if why is None:
        return None
    if why.reason is not Reason.MOVING:
        return Verdict(ContainerState.FAILED, why.reason, why.message)
    message = why.message
    if move:
        message = f"rule {result.rule}: {_counted_once(move, result).text}"
        message += f"; {move.message}" if move.message else ""
    return Verdict(ContainerState.MOVING, Reason.MOVING, message)


def _counted_once(move: Progress, result: RuleResult) -> Progress:
    # Each process that maps a page has it to move; the result counts it once, but is older.
    left = min(move.total - move.done, result.misplaced_bytes)
    if move.done < result.bytes:
        left = min(left, result.bytes - move.done)
    return replace(move, total=move.done + left)


def _is_stuck(move: Progress | None) -> bool:
    # All that is left was tried, and stayed, or there is no room for it.
    return move is not None and move.wait in (WaitReason.BACKOFF, WaitReason.TIER_FULL)


def _of_changes(
    outcomes: Sequence[Outcome], unseen: Sequence[Problem], *, is_fresh: bool
) -> Verdict | None:
    if is_fresh:
        return None
    left = sum(outcome.left for outcome in outcomes)
    passing = [p for p in unseen if p.reason in _PASSES]
    passing += [p for o in outcomes for p in o.problems if p.reason in _PASSES]
    if left:
        message = f"{left} mappings changed meanwhile"
        return Verdict(ContainerState.MOVING, Reason.MOVING, message)
    if passing:
        return Verdict(ContainerState.MOVING, Reason.MOVING, passing[0].message)
    return None


def _newly_allocated(result: RuleResult) -> bool:
    return result.misplaced_bytes <= max(
        _NEWLY_ALLOCATED_BYTES, _NEWLY_ALLOCATED_SHARE * result.bytes
    )
