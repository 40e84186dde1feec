# SPDX-License-Identifier: Apache-2.0
"""Say how a container fares, from what was measured in its processes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from memplace.api.conditions import shorten
from memplace.api.v1alpha1 import ContainerReport, ContainerState
from memplace.calls import actions
from memplace.policy import RuleResult
from memplace.reasons import Reason
from memplace.results import (
    explain_misplaced,
    explain_own,
    merge_results,
    rule_report,
    uneven_bytes,
)

from memplace_agent.place import Outcome

__all__ = ["SETTLING_TRIES", "judge"]

# A page can be busy for a moment. This many passes have to find bytes misplaced before
# they count as not movable.
SETTLING_TRIES = 3
# A running program allocates between two looks at it. So little of a rule that was placed
# is put right by the next pass; until then the placement is not called unplaced again.
_NEWLY_ALLOCATED_BYTES = 1 << 20
_NEWLY_ALLOCATED_SHARE = 0.01


def judge(
    name: str,
    container_id: str,
    outcomes: Sequence[Outcome],
    *,
    tries: int,
    was_placed: bool,
    free: Mapping[int, int],
) -> ContainerReport:
    """Sum up the processes of a container.

    Args:
        name: The container's name.
        container_id: Its id.
        outcomes: One per process; none when there was no process.
        tries: Passes in a row, this one included, that left something to do.
        was_placed: Whether the last report, under the same spec, called it Placed.
        free: Free bytes per NUMA node, read afterwards.
    """
    results = merge_results(outcome.results for outcome in outcomes)
    state, reason, message = _verdict(outcomes, results, tries, was_placed, free)
    return ContainerReport(
        name=name,
        state=state,
        container_id=container_id,
        reason=reason,
        message=shorten(message),
        rules=tuple(rule_report(result) for result in results),
    )


def _verdict(
    outcomes: Sequence[Outcome],
    results: Sequence[RuleResult],
    tries: int,
    was_placed: bool,
    free: Mapping[int, int],
) -> tuple[ContainerState, Reason, str]:
    if not outcomes:
        return ContainerState.PENDING, Reason.PENDING, "the container has no process yet"
    problem = next((p for outcome in outcomes for p in outcome.plan.problems), None)
    if problem:
        return ContainerState.FAILED, problem.reason, f"rule {problem.rule}: {problem.message}"
    errors = [error for outcome in outcomes for error in outcome.errors]
    if errors:
        return ContainerState.FAILED, Reason.FAILED, errors[0]
    moved = tries >= SETTLING_TRIES
    if was_placed and not moved and all(map(_newly_allocated, results)):
        return ContainerState.PLACED, Reason.PLACED, explain_own(results)
    found = [explain_misplaced(result, free, moved=moved) for result in results]
    why = next((explanation for explanation in found if explanation), None)
    if why:
        state = ContainerState.MOVING if why.reason is Reason.MOVING else ContainerState.FAILED
        return state, why.reason, why.message
    left = sum(len(actions(outcome.plan)) for outcome in outcomes)
    if left:
        return ContainerState.MOVING, Reason.MOVING, f"{left} mappings changed meanwhile"
    return ContainerState.PLACED, Reason.PLACED, explain_own(results)


def _newly_allocated(result: RuleResult) -> bool:
    return not uneven_bytes(result) and result.misplaced_bytes <= max(
        _NEWLY_ALLOCATED_BYTES, _NEWLY_ALLOCATED_SHARE * result.bytes
    )
