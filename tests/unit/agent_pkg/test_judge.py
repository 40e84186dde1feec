# SPDX-License-Identifier: Apache-2.0
"""How a container fares, from what was measured in its processes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from memplace.backends import Act
from memplace.pacing import WaitReason
from memplace.policy import Plan, RuleResult
from memplace.reasons import Reason
from memplace_agent.engine.judge import judge, problem_of
from memplace_agent.engine.orders import Progress
from memplace_agent.engine.placer import Outcome, Problem
from memplace_agent.engine.survey import Survey
from memplace_agent.procfs.process import Incomplete, ProcessView
from memplace_agent.procfs.process import Reason as Why
from memplace_agent.procfs.query import Way

MIB = 1 << 20
CXL = 1


SURVEY = Survey(pid=1, identity=1, view=ProcessView(pid=1, way=Way.POLICY))


def seen(plan: Plan, *problems: Problem) -> Outcome:
    return Outcome(identity=1, survey=SURVEY, plan=plan, problems=problems)


def stuck(wait: WaitReason = WaitReason.BACKOFF, rule: str = "heap") -> Progress:
    return Progress(
        namespace="ns", container="id", placement="u", rule=rule, done=0, total=4096, wait=wait
    )


def outcome(misplaced: int, *, size: int = 64 * MIB, rule: str = "heap") -> Outcome:
    """One process, `size` bytes of a rule in it, some of them not on its node."""
    result = RuleResult(
        rule=rule,
        regions=1,
        bytes=size,
        numa_bytes={0: misplaced, CXL: size - misplaced},
        misplaced_bytes=misplaced,
        nodes=frozenset({CXL}),
    )
    return seen(Plan(rules=(result,)))


def reason(
    *outcomes: Outcome,
    unseen: tuple[Problem, ...] = (),
    progress: tuple[Progress, ...] = (),
    contended: str = "",
    was_placed: bool = True,
    is_fresh: bool = False,
) -> str:
    report = judge(
        "app",
        "id",
        outcomes,
        unseen=unseen,
        progress=progress,
        contended=contended,
        was_placed=was_placed,
        is_fresh=is_fresh,
    )
    return report.reason


@pytest.mark.parametrize(
    ("misplaced", "size", "was_placed", "expected"),
    [
        (0, 64 * MIB, False, "Placed"),
        (20 << 10, 64 * MIB, False, "Moving"),
        (20 << 10, 64 * MIB, True, "Placed"),
        (MIB, 2 * MIB, True, "Placed"),
        (MIB + 4096, 2 * MIB, True, "Moving"),
        (10 * MIB, 1024 * MIB, True, "Placed"),
        (11 * MIB, 1024 * MIB, True, "Moving"),
    ],
)
def test_what_a_placed_program_allocates_does_not_unplace_it(
    misplaced: int, size: int, *, was_placed: bool, expected: str
) -> None:
    assert reason(outcome(misplaced, size=size), was_placed=was_placed) == expected


def test_every_rule_has_to_be_all_but_placed() -> None:
    assert reason(outcome(4096), outcome(2 * MIB, rule="rest")) == "Moving"


def test_what_stays_misplaced_is_said_however_little_it_is() -> None:
    assert reason(outcome(4096), progress=(stuck(),)) == "Failed"
    assert reason(outcome(4096), progress=(stuck(WaitReason.TIER_FULL),)) == "TierFull"
    assert reason(outcome(4096), progress=(stuck(rule="other"),)) == "Placed"


@pytest.mark.parametrize("wait", [WaitReason.BANDWIDTH, WaitReason.PRESSURE])
def test_a_move_that_waits_for_its_turn_goes_on(wait: WaitReason) -> None:
    moving = judge("app", "id", [outcome(20 << 20)], progress=(stuck(wait),))
    assert moving.reason == "Moving" and "0 of 4 KiB" in moving.message


def test_the_agents_own_cpuset_is_named() -> None:
    assert (
        reason(outcome(20 << 20), progress=(stuck(WaitReason.AGENT_CPUSET),))
        == "AgentCpusetExcludesTier"
    )


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        (Why.LEADER_EXITED, "LeaderExited"),
        (Why.DENIED, "MissingCapability"),
        (Why.DEADLINE, "Stuck"),
        (Why.TOO_LONG, "Stuck"),
        (Why.TOO_LARGE, "TooManyMappings"),
        (Why.FAILED, "Failed"),
        (Why.BAD_TEXT, "Failed"),
        (Why.CUT, "Moving"),
    ],
)
def test_a_process_that_was_not_seen_is_never_placed(why: Why, expected: str) -> None:
    assert reason(outcome(0), unseen=(problem_of(Incomplete(why)),)) == expected


def test_who_takes_turns_with_the_agent_is_said() -> None:
    assert reason(outcome(0), contended="the program") == "Contended"
    # Nobody takes turns while it is paused.
    report = judge("app", "id", [outcome(4096)], contended="the program", act=Act.PAUSE)
    assert (report.state, report.reason) == ("Paused", "Paused")


def test_the_bytes_are_told_as_measured() -> None:
    report = judge("app", "id", [outcome(4096)], was_placed=True)
    assert [rule.misplaced_bytes for rule in report.rules] == [4096]


@pytest.mark.parametrize(
    ("error", "size", "message"),
    [
        (0.02, 64 * MIB, ""),
        (0.3, 64 * MIB, "where bytes are is known to within 30%"),
        (1.0, 0, "none of it was seen"),
        (0.0, 0, ""),
    ],
)
def test_how_well_it_is_known_where_bytes_are_is_said(error, size, message):
    seen_so = replace(outcome(0, size=size), error=error)
    found = judge("app", "id", (seen_so,)).message
    assert message in found and bool(message) == bool(found)


def test_an_error_is_not_overlooked() -> None:
    failed = seen(Plan(), Problem(Reason.FAILED, "EPERM"))
    assert reason(outcome(0), failed) == "Failed"


def test_a_container_without_a_process_waits() -> None:
    assert reason() == "Pending"


def test_pages_that_do_not_interleave_are_not_placed() -> None:
    result = RuleResult(
        rule="i",
        bytes=64 * MIB,
        numa_bytes={0: 64 * MIB},
        nodes=frozenset({0, CXL}),
        weights={0: 1, CXL: 1},
    )
    assert reason(seen(Plan(rules=(result,)))) == "Uneven"


@pytest.mark.parametrize(
    ("was_placed", "is_fresh", "expected"),
    [(True, True, "Placed"), (True, False, "Moving"), (False, True, "Moving")],
)
def test_new_memory_on_its_way_makes_no_placement_unplaced_at_once(
    *, was_placed: bool, is_fresh: bool, expected: str
) -> None:
    new = outcome(32 * MIB)
    assert reason(new, was_placed=was_placed, is_fresh=is_fresh) == expected


def test_new_memory_that_does_not_fit_is_told_at_once() -> None:
    full = [stuck(WaitReason.TIER_FULL)]
    report = judge("app", "id", [outcome(32 * MIB)], progress=full, was_placed=True, is_fresh=True)
    assert report.reason == Reason.TIER_FULL
