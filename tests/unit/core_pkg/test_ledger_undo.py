# SPDX-License-Identifier: Apache-2.0
"""Undo ends, gives back exactly what was there, and leaves to the program what it set itself."""

from dataclasses import replace

import pytest
from memplace.claim_view import View
from memplace.kinds import Mode, Policy
from memplace.ledger import record, record_default

from tests.unit.core_pkg.ledgers import (
    BIND0,
    BIND1,
    CXL,
    DEFAULT,
    EMPTY,
    ONE,
    OTHER,
    OURS,
    Step,
    given_back,
    placed,
    seen,
)
from tests.unit.core_pkg.memory import PAGE

LOCAL = Policy(Mode.LOCAL)


def undone(claim, *regions, process=ONE):
    """Give all of it back; what is mapped then."""
    given = given_back(claim, regions, process)
    assert len(given) == len(regions)
    return [replace(r, policy=p, own=p != DEFAULT) for r, p in zip(regions, given, strict=True)]


def test_a_range_is_not_kept_in_the_form_that_the_program_has_set_itself():
    first, _ = placed(seen(0, policy=BIND0))
    mine = seen(0, policy=OURS)  # set by the program since: plain means bind:0, static is its own
    second, (after,) = placed(mine, claim=first.claim)
    assert after.policy == CXL
    assert undone(second.claim, after) == [mine]
    assert given_back(second.claim, [mine]) == []


def test_forms_that_a_cpuset_makes_look_alike_are_not_kept_for_each_other():
    static = frozenset({"static"})
    first, _ = placed(seen(8, policy=LOCAL), policy=BIND0)
    mine = seen(0, policy=replace(BIND0, flags=static))
    second, (after,) = placed(mine, claim=first.claim, policy=BIND1)
    # Under a cpuset of neither node, both would read as all of its nodes.
    assert after.policy == BIND1
    assert undone(second.claim, after) == [mine]


@pytest.mark.parametrize("wanted", [LOCAL, CXL, DEFAULT], ids=lambda policy: policy.mode)
def test_a_rule_that_wants_what_was_there_before_ends_the_override(wanted):
    before = seen(0, policy=wanted)
    first, (over,) = placed(before, policy=BIND1)
    second, (after,) = placed(over, claim=first.claim, policy=wanted)
    assert replace(after, own=before.own) == before
    assert not View(second.claim, ONE).carries(before)
    assert given_back(second.claim, [before]) == []


def test_what_is_to_be_given_back_is_no_form_of_ours():
    mine, other = seen(0, policy=CXL), seen(8, policy=BIND0)
    first, (over,) = placed(mine, policy=BIND1)
    second, _ = placed(other, claim=first.claim)
    assert undone(second.claim, over) == [mine]
    assert given_back(second.claim, [mine]) == []


def test_a_default_is_no_policy_that_is_to_be_given_back():
    mine = seen(0, policy=LOCAL)
    first, (over,) = placed(mine)
    claim, form = record_default(first.claim, ONE, LOCAL, [over])
    assert form is None
    assert undone(claim, over) == [mine]
    assert given_back(claim, [mine]) == []


def test_an_older_default_of_the_container_is_not_what_this_program_has_set():
    claim, _ = record_default(EMPTY, ONE, LOCAL)
    mine = seen(0, policy=LOCAL)
    claim, form = record_default(claim, OTHER, CXL, [mine])
    now = OTHER._replace(future=form)
    assert View(claim, now).default_is_ours
    assert given_back(claim, [mine], now) == []


def test_a_default_of_another_program_does_not_take_what_this_one_has_set():
    claim, form = record_default(EMPTY, OTHER, CXL)
    now, mine = OTHER._replace(future=form), seen(0, policy=LOCAL)
    claim, _ = record_default(claim, ONE, LOCAL)
    assert View(claim, now).default_is_ours
    assert given_back(claim, [mine], now) == []


def test_a_kept_range_does_not_speak_for_what_took_its_place():
    first, _ = placed(seen(8, policy=BIND0))
    kept, _ = placed(seen(0, policy=OURS), claim=first.claim)
    mine = seen(0, policy=BIND0)  # set by the program since
    again, after = placed(mine, claim=kept.claim)
    assert [r.reason for r in again.refused] == ["ExceptionsAmbiguous"]
    assert after == []


def test_a_kept_range_does_not_speak_for_what_looks_alike_under_another_cpuset():
    own = [seen(20, policy=BIND0), seen(30, policy=replace(BIND0, flags=frozenset({"static"})))]
    first = record(EMPTY, ONE, [Step(0, PAGE, BIND1)], [seen(0), *own])
    mine = seen(0, policy=CXL)  # set by the program since
    second = record(first.claim, ONE, [Step(0, PAGE, BIND0)], [mine, *own])
    assert [r.reason for r in second.refused] == ["ExceptionsAmbiguous"]


def test_a_range_is_not_kept_where_a_relative_has_that_form_for_something_else():
    first, (theirs,) = placed(seen(0, policy=BIND0))
    second, _ = placed(seen(0, policy=OURS), claim=first.claim, relatives=[theirs])
    assert [r.reason for r in second.refused] == ["ExceptionsAmbiguous"]
    assert given_back(second.claim, [theirs]) == [BIND0]


def test_a_range_is_not_kept_where_a_relative_gets_the_same_back():
    first, (over,) = placed(seen(0, policy=LOCAL), policy=BIND1)
    second, _ = placed(seen(0), claim=first.claim, relatives=[over], policy=LOCAL)
    assert [r.reason for r in second.refused] == ["ExceptionsAmbiguous"]
    (back,) = undone(second.claim, over)
    assert given_back(second.claim, [back]) == []


def test_ranges_that_a_cpuset_makes_look_alike_are_all_given_back():
    static = replace(BIND1, flags=frozenset({"static"}))
    own = [seen(20, policy=BIND0), seen(30, policy=static)]  # no form is free
    first = record(EMPTY, ONE, [Step(0, 10 * PAGE, BIND1)], [seen(0, 10), *own])
    whole = seen(0, 10, policy=static)
    second = record(first.claim, ONE, [Step(2 * PAGE, 4 * PAGE, BIND0)], [whole, *own])
    # Neither node is left: one mapping each, since the kernel knows what was asked for.
    now = Policy(Mode.BIND, frozenset({2}), frozenset({"static"}))
    parts = [seen(at, size, policy=now) for at, size in ((0, 2), (2, 2), (4, 6))]
    narrow = ONE._replace(allowed=frozenset({2}))
    assert given_back(second.claim, parts, narrow) == [DEFAULT] * 3


def test_undo_ends_when_no_node_of_what_was_there_may_be_used_any_more():
    recorded, (after,) = placed(seen(0, policy=CXL), policy=DEFAULT)
    narrow = ONE._replace(allowed=frozenset({0}))
    assert given_back(recorded.claim, [replace(after, own=False)], narrow) == []


def test_what_the_kernel_joined_with_ours_stays_the_programs():
    mine = seen(4, policy=LOCAL)
    first, (over,) = placed(seen(0, policy=BIND0), policy=LOCAL)
    joined = seen(0, size=8, policy=LOCAL)
    assert (over.end, over.policy) == (mine.start, mine.policy)
    second = record(first.claim, ONE, [Step(8 * PAGE, 12 * PAGE, LOCAL)], [joined, seen(8)])
    given = View(second.claim, ONE).release([joined])
    assert [(c.start, c.end, c.policy) for c in given] == [(0, 4 * PAGE, BIND0)]
