# SPDX-License-Identifier: Apache-2.0
"""A word for memory pressure is true, and changes seldom."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.kinds import Pressure
from memplace.pacing import Limits, speed_under
from memplace.pressure import FALL_S, RISE_S, Felt

TICK_S = 2.0
ORDER = [Pressure.UNKNOWN, Pressure.LOW, Pressure.RAISED, Pressure.HIGH]


def words(*readings: float | None, felt: Felt = Felt()) -> list[Pressure]:  # noqa: B008  frozen
    """Return the word after each of some readings, two seconds apart."""
    found = []
    for number, reading in enumerate(readings):
        felt = felt.after(reading, number * TICK_S)
        found.append(felt.word)
    return found


def for_s(seconds: float, reading: float | None) -> list[float | None]:
    return [reading] * int(seconds / TICK_S)


@pytest.mark.parametrize(
    ("reading", "word"),
    [
        (0.0, Pressure.LOW),
        (0.99, Pressure.LOW),
        (1.0, Pressure.RAISED),
        (9.99, Pressure.RAISED),
        (10.0, Pressure.HIGH),
        (100.0, Pressure.HIGH),
        (None, Pressure.UNKNOWN),
    ],
)
def test_the_first_reading_is_believed(reading: float | None, word: Pressure) -> None:
    assert words(reading) == [word]


def test_the_thresholds_are_where_moves_slow_down_and_stop() -> None:
    assert 0 < speed_under(1.01, Limits()) < 1 == speed_under(1.0, Limits())
    assert speed_under(10.0, Limits()) == 0 < speed_under(9.99, Limits())


def test_it_rises_after_ten_seconds_of_it_and_not_for_a_peak() -> None:
    found = words(0.0, *for_s(RISE_S + TICK_S, 50.0))
    assert found[-2:] == [Pressure.LOW, Pressure.HIGH]
    assert set(words(0.0, *[50.0, 50.0, 50.0, 50.0, 0.0] * 50)) == {Pressure.LOW}


def test_it_rises_to_what_all_of_that_time_asked_for() -> None:
    found = words(0.0, 50.0, 3.0, *for_s(RISE_S - TICK_S, 50.0))
    assert found[-1] is Pressure.RAISED


def test_it_falls_after_a_minute_and_only_below_the_half() -> None:
    assert set(words(50.0, *for_s(3600, 5.0))) == {Pressure.HIGH}
    assert set(words(5.0, *for_s(3600, 0.5))) == {Pressure.RAISED}
    found = words(50.0, *for_s(FALL_S + TICK_S, 0.0))
    assert found[-2:] == [Pressure.HIGH, Pressure.LOW]
    assert words(50.0, *for_s(FALL_S + TICK_S, 4.9))[-1] is Pressure.RAISED
    assert set(words(50.0, *for_s(FALL_S, 0.0), 50.0, *for_s(FALL_S, 0.0))) == {Pressure.HIGH}


def test_without_a_figure_it_is_unknown_after_a_while_and_known_again_at_once() -> None:
    assert words(50.0, None, 50.0)[1] is Pressure.HIGH
    found = words(50.0, *for_s(FALL_S + TICK_S, None), 0.0)
    assert found[-3:] == [Pressure.HIGH, Pressure.UNKNOWN, Pressure.LOW]


readings = st.lists(
    st.one_of(st.none(), st.floats(0, 100), st.sampled_from([0.49, 0.5, 1.0, 4.9, 5.0, 10.0])),
    min_size=1,
    max_size=300,
)


@given(readings, st.floats(0, 100))
def test_a_steady_state_changes_nothing_after_a_while(before: list[float], steady: float) -> None:
    found = words(*before, *for_s(2 * FALL_S, steady), *for_s(600, steady))
    assert len(set(found[-300:])) == 1


@given(readings)
def test_words_change_seldom(found: list[float | None]) -> None:
    said = words(*found)
    changes = [(n * TICK_S, a, b) for n, (a, b) in enumerate(pairwise(said), 1)]
    changes = [(at, a, b) for at, a, b in changes if a is not b and a is not Pressure.UNKNOWN]
    for (first, _, _), (second, a, b) in pairwise(changes):
        rises = ORDER.index(b) > ORDER.index(a)
        assert second - first >= (RISE_S if rises else FALL_S)


def test_a_word_of_a_newer_agent_is_unknown() -> None:
    assert Pressure("Enormous") is Pressure.UNKNOWN
    assert sorted(Pressure, key=lambda word: word.rank) == ORDER
