# SPDX-License-Identifier: Apache-2.0
"""How a container fares, from what was measured in its processes."""

from __future__ import annotations

import pytest
from memplace.policy import Plan, RuleResult
from memplace_agent.judge import SETTLING_TRIES, judge
from memplace_agent.place import Outcome

MIB = 1 << 20
CXL = 1


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
    return Outcome(plan=Plan(rules=(result,)), layout=0)


def reason(*outcomes: Outcome, tries: int = 1, was_placed: bool = True, free: int = 1 << 30) -> str:
    report = judge("app", "id", outcomes, tries=tries, was_placed=was_placed, free={CXL: free})
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
    misplaced: int, size: int, was_placed: bool, expected: str
) -> None:
    assert reason(outcome(misplaced, size=size), was_placed=was_placed) == expected


def test_every_rule_has_to_be_all_but_placed() -> None:
    assert reason(outcome(4096), outcome(2 * MIB, rule="rest")) == "Moving"


def test_what_stays_misplaced_is_said_however_little_it_is() -> None:
    assert reason(outcome(4096), tries=SETTLING_TRIES) == "Failed"
    assert reason(outcome(4096), tries=SETTLING_TRIES, free=4096) == "TierFull"


def test_the_bytes_are_told_as_measured() -> None:
    report = judge("app", "id", [outcome(4096)], tries=1, was_placed=True, free={})
    assert [rule.misplaced_bytes for rule in report.rules] == [4096]


def test_an_error_is_not_overlooked() -> None:
    failed = Outcome(plan=Plan(), layout=0, errors=("EPERM",))
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
    assert reason(Outcome(plan=Plan(rules=(result,)), layout=0)) == "Uneven"
