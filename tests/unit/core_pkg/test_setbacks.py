# SPDX-License-Identifier: Apache-2.0
"""What failed is put off, each time for longer; what did not is never in its way."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.setbacks import FIRST_DELAY_S, LAST_DELAY_S, Setbacks, next_delay
from memplace.shares import Shares

points = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda p: (p[0], p[0] + p[1]))
steps = st.lists(st.tuples(st.booleans(), points, st.floats(0, 100)), max_size=30)


@given(steps, points)
def test_a_part_is_open_exactly_when_nothing_in_it_is_put_off(steps, asked):
    """Against a model that knows each address by itself."""
    setbacks, model, now = Setbacks(), {}, 0.0
    for fails, (start, end), pause in steps:
        now += pause
        if fails:
            until = setbacks.add("k", start, end, why="x", now=now).until
            model |= dict.fromkeys(range(start, end), until)
        else:
            setbacks.clear("k", start, end)
            model = {at: until for at, until in model.items() if not start <= at < end}
    parts = setbacks.open_parts("k", *asked, now)
    opened = [at for start, end in parts for at in range(start, end)]
    assert opened == [at for at in range(*asked) if model.get(at, 0) <= now]
    assert all(a[1] < b[0] for a, b in pairwise(parts))
    known = setbacks.of("k")
    assert all(a.end <= b.start for a, b in pairwise(known))
    due = setbacks.next_time("k", *asked, now)
    assert due == min((t for t in map(model.get, range(*asked)) if t and t > now), default=now)


def test_delays_double_from_half_a_minute_to_an_hour():
    setbacks, now, delays = Setbacks(), 0.0, []
    for _ in range(10):
        delays.append(setbacks.add(1, 0, 10, why="x", now=now).delay)
        now += delays[-1]
    assert delays == sorted(delays)
    assert delays[:3] == [30, 60, 120]
    assert delays[-1] == LAST_DELAY_S
    setbacks.clear(1, 0, 10)
    assert setbacks.add(1, 0, 10, why="x", now=now).delay == FIRST_DELAY_S


@given(st.floats(0, 1e9))
def test_a_delay_is_bounded(delay):
    assert FIRST_DELAY_S <= next_delay(delay) <= LAST_DELAY_S
    assert next_delay(delay) >= min(delay, LAST_DELAY_S)


def test_tries_are_those_of_the_range():
    setbacks = Setbacks()
    setbacks.add(1, 0, 10, why="x", now=0, left=7)
    assert setbacks.add(1, 5, 20, why="x", now=40, left=9).tries == 2
    assert setbacks.add(1, 30, 40, why="x", now=40).tries == 1
    assert setbacks.add(2, 0, 10, why="x", now=40).tries == 1
    assert [(old.start, old.end, old.bytes) for old in setbacks.of(1)] == [
        (0, 5, 3),
        (5, 20, 9),
        (30, 40, 0),
    ]


def test_what_is_remembered_is_bounded():
    setbacks = Setbacks()
    for n in range(4_500):
        setbacks.add(1, 2 * n, 2 * n + 1, why="x", now=float(n))
    assert len(setbacks.of(1)) <= 4096
    setbacks.add(1, 0, 1, why="x", now=0.0, most=100)
    known = setbacks.of(1)
    assert len(known) == 100 and known[-1].start == 2 * 4_499
    assert [old.start for old in known] == sorted(old.start for old in known)
    setbacks.forget(1)
    assert setbacks.of(1) == ()


# --- shares ---


@given(st.lists(st.integers(1, 100), min_size=2, max_size=5), st.integers(50, 300))
def test_shares_are_equal_whatever_the_size_of_a_turn(sizes, turns):
    shares, had = Shares(), dict.fromkeys(range(len(sizes)), 0)
    for _ in range(turns):
        first = shares.order(had)[0]
        shares.charge(first, sizes[first])
        had[first] += sizes[first]
    assert max(had.values()) - min(had.values()) <= max(sizes)


@pytest.mark.parametrize("away", [0, 500])
def test_who_stays_away_saves_nothing_up(away):
    shares = Shares()
    shares.order("ab")
    for _ in range(away):
        shares.order("a")
        shares.charge("a", 10)
    turns = []
    for _ in range(10):
        turns.append(shares.order("ab")[0])
        shares.charge(turns[-1], 10)
    assert turns.count("a") == turns.count("b") == 5
