# SPDX-License-Identifier: Apache-2.0
"""What would be if a dry run was meant: who would have a container, and who would get room."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.assignment import assign, forecast, meant, precedence, would_win
from memplace.kinds import Enforcement
from memplace.limits import Claimant, Holder, Word, foresee, outlook, share_out
from msgspec import structs

from tests.unit.core_pkg.test_assignment import NAMES, placement, placements, pod

GRANTED, AWAITED, WITHHELD = Word.GRANTED, Word.AWAITED, Word.WITHHELD
DRY = Enforcement.DRY_RUN
CXL = frozenset({1})


@given(placements)
def test_it_would_win_just_if_it_does_once_it_is_meant(placements):
    target = pod(*NAMES, app="redis")
    now = assign(placements, target)
    for trial in (each for each in placements if each.spec.is_dry_run):
        real = meant(trial)
        then = assign([real if each is trial else each for each in placements], target)
        for name, found in now.items():
            if trial in found.losers:
                wins = then[name].winner.uid == trial.uid
                said = forecast(trial, found.winner)
                assert would_win(trial, found.winner) is wins
                assert ("with mode Enforce this one would" in said) is wins


@given(placements)
def test_of_all_that_would_win_the_first_is_the_one_that_is_tried(placements):
    for found in assign(placements, pod(*NAMES, app="redis")).values():
        could = [each for each in found.losers if would_win(each, found.winner)]
        assert found.trial == min(could, key=lambda each: precedence(meant(each)), default=None)


@pytest.mark.parametrize(
    ("winner", "says"),
    [
        (placement("b", priority=3), "with mode Enforce this one would: it has priority 5, that"),
        (placement("b", priority=7), "would have it with mode Enforce, too: it has priority 7, "),
        (placement("b", priority=5, age=1), "would have it with mode Enforce, too: it is older"),
        (placement("b", priority=5, mode=DRY), "would: it acts, that one only tells (mode DryRun)"),
        (placement("z", priority=5), "this one would: it is as old, comes first by name"),
    ],
)
def test_it_is_said_who_has_it_and_who_would(winner, says):
    trial = placement("c", priority=5, mode=DRY)
    said = forecast(trial, winner)
    assert said.startswith(f"placement cache/{winner.name} has it, and ") and says in said
    assert not said.endswith(",")


def test_who_acts_or_is_paused_is_no_dry_run_that_could_win():
    winner = placement("b")
    assert not would_win(placement("a", priority=9), winner)
    trial = placement("a", priority=9, mode=DRY)
    assert would_win(trial, winner)
    paused = structs.replace(trial, spec=structs.replace(trial.spec, paused=True))
    assert not would_win(paused, winner)


# --- room ---

NAMED = st.sampled_from("abcdef")
holders = st.lists(
    st.builds(
        Holder,
        container=NAMED,
        order=st.tuples(st.integers(0, 9), NAMED),
        has=st.integers(0, 9),
        needs=st.none() | st.integers(0, 9),
        asks=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda each: each.container,
)


@given(st.integers(0, 40), holders, holders)
def test_what_is_foreseen_is_what_comes_when_the_dry_run_is_meant(limit, real, tried):
    tried = [replace(each, asks=True) for each in tried]
    names = {each.container for each in tried}
    then = [each for each in real if each.container not in names] + tried
    words = share_out(limit, then, CXL, {})
    found = foresee(limit, real, tried, CXL, {})
    assert found == {name: word for name, word in words.items() if name in names}


def test_what_was_foreseen_does_not_come_and_go():
    one = Holder(container="a", order=(1,), needs=31)
    assert foresee(32, [], [one], CXL, {}) == {"a": GRANTED}
    assert foresee(32, [], [one], CXL, {"a": WITHHELD}) == {"a": WITHHELD}


@st.composite
def bounded(draw):
    """Containers with what each needs, and what is known of that."""
    found = []
    for name in draw(st.lists(NAMED, unique=True, max_size=5)):
        needs, less, more = (draw(st.integers(0, 9)) for _ in range(3))
        most = None if draw(st.booleans()) else needs + more
        known = Claimant(
            container=name,
            order=(draw(st.integers(0, 3)), name),
            least=max(0, needs - less),
            most=most,
        )
        found.append((known, needs))
    return found


@given(st.integers(0, 40), st.integers(0, 9), bounded())
def test_what_is_told_within_bounds_is_so_whatever_is_needed(limit, has, found):
    words = outlook(limit, has, [known for known, _ in found])
    real = [
        Holder(container=known.container, order=known.order, needs=needs) for known, needs in found
    ]
    there = Holder(container="there", order=(), has=has, asks=False)
    truth = share_out(limit, [there, *real], CXL, {})
    assert words.keys() == truth.keys()
    for name, word in words.items():
        assert word in (AWAITED, truth[name])


@given(st.integers(0, 40), st.integers(0, 9), bounded())
def test_where_all_is_known_all_is_told(limit, has, found):
    exact = [replace(known, least=needs, most=needs) for known, needs in found]
    assert AWAITED not in outlook(limit, has, exact).values()


def test_of_whom_nothing_is_known_nothing_is_told_unless_there_is_no_room_at_all():
    who = [Claimant(container="a", order=(1,))]
    assert outlook(8, 3, who) == {"a": AWAITED}
    assert outlook(8, 9, who) == outlook(0, 0, who) == {"a": WITHHELD}
