# SPDX-License-Identifier: Apache-2.0
"""What is said of what came over a channel, whole or not."""

from __future__ import annotations

import pytest

from tests.support import tap

WHOLE = """\
TAP version 14
1..2
# Subtest: one
    TAP version 13
    1..3
    # Starting 3 tests
    # here
    ok 1 one.first
    ok 2 - one.second # SKIP needs 3 nodes
    #  there
    not ok 3 - one.third # timeout
not ok 1 - one # exit status 1
# Subtest: two
    1..1
    ok 1 - two.first
ok 2 - two
"""


def problems(text: str) -> list[str]:
    return tap.read(text).problems(("one", "two"))


def test_cases_come_with_their_verdict_and_what_was_said_before() -> None:
    first, second, third, other = tap.read(WHOLE).cases.values()
    assert first.good and first.notes == ("# Starting 3 tests", "# here")
    assert second.good and second.skipped == "needs 3 nodes"
    assert not third.good and third.why == "timeout" and third.notes == ("#  there",)
    assert (other.name, other.good, other.skipped) == ("two.first", True, "")


def test_a_whole_report_has_no_problem_but_what_it_says_itself() -> None:
    assert problems(WHOLE) == ["one: exit status 1"]


# What is cut, dropped or said twice, and what is said of that.
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    ok 1 - two.first\nok 2 - two\n", "    ok 1 - two.fi", "in the middle of a line"),
        ("    ok 1 - two.first\nok 2 - two\n", "    ok 1 - two.fi", "two: it did not end"),
        ("    ok 1 - two.first\n", "", "two: 1 cases were announced, 0 came (the last: none)"),
        ("    1..1\n", "", "two: no plan"),
        ("    1..1\n", "    1..1\n    1..1\n", "two: a second plan: 1..1"),
        ("1..2\n", "", "no plan"),
        ("ok 2 - two\n", "", "2 cases were announced, 1 came (the last: one)"),
        ("# Subtest: two\n    1..1\n    ok 1 - two.first\nok 2 - two\n", "", "two: it did not be"),
        ("    ok 1 one.first\n", "", "one: 1 cases before this one: ok 2 - one.second"),
        ("one.second", "one.first", "one: twice: one.first"),
        ("# Subtest: two\n", "", "of no program: 1..1"),
        ("# Subtest: one\n", "one\n", "of no program: ok 1 one.first"),
    ],
)
def test_what_is_not_whole_is_told(old: str, new: str, said: str) -> None:
    assert WHOLE.count(old) == 1
    assert said in "\n".join(problems(WHOLE.replace(old, new)))


def test_nothing_that_is_cut_is_whole() -> None:
    for end in range(len(WHOLE) - 1):
        told = tap.read(WHOLE[:end])
        assert told.top.problems, WHOLE[:end]
        # Half a name is no name.
        assert told.cases.keys() <= tap.read(WHOLE).cases.keys(), WHOLE[:end]


def test_nothing_at_all_is_told_too() -> None:
    assert problems("") == ["no plan", "one: it did not begin", "two: it did not begin"]
