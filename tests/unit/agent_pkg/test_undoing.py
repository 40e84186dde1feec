# SPDX-License-Identifier: Apache-2.0
"""When a claim ends: what was seen for a moment is no order."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace_agent.engine.undoing import Decision, Standing, Undoing

PLACED = Standing(
    is_synced=True, placement_exists=True, winner="mp", pod_is_listed=True, is_populated=True
)


def course(*moments):
    """The decisions over (time, standing)."""
    undoing = Undoing(unselected_s=10, empty_s=5)
    return [undoing.decide("c", standing, now) for now, standing in moments]


def test_a_placed_container_is_followed():
    assert course((0, PLACED), (100, PLACED)) == [Decision.FOLLOW] * 2


def test_a_placement_that_is_gone_is_undone_at_once():
    gone = replace(PLACED, placement_exists=False, winner=None)
    assert course((0, PLACED), (1, gone)) == [Decision.FOLLOW, Decision.UNDO]


def test_it_is_undone_even_if_its_pod_is_not_in_the_api():
    orphan = replace(PLACED, placement_exists=False, winner=None, pod_is_listed=False)
    assert course((0, orphan)) == [Decision.UNDO]


def test_another_placement_takes_over_without_an_undo_between():
    assert course((0, replace(PLACED, placement_exists=False, winner="other"))) == [Decision.FOLLOW]


def test_a_selector_that_no_longer_matches_has_to_stay_so():
    off = replace(PLACED, winner=None)
    assert course((0, off), (9.9, off), (10, off)) == [
        Decision.KEEP,
        Decision.KEEP,
        Decision.UNDO,
    ]


def test_while_its_placement_is_paused_the_time_does_not_pass():
    off = replace(PLACED, winner=None)
    paused = replace(off, is_paused=True)
    assert course((0, paused), (1e6, paused)) == [Decision.KEEP] * 2
    assert course((0, off), (9, paused), (20, off), (29, off), (30, off))[2:] == [
        Decision.KEEP,
        Decision.KEEP,
        Decision.UNDO,
    ]
    gone = replace(paused, placement_exists=False)
    assert course((0, paused), (1, gone)) == [Decision.KEEP, Decision.UNDO]
    assert course((0, replace(paused, is_retired=True))) == [Decision.UNDO]


def test_a_label_that_comes_back_starts_the_time_anew():
    off = replace(PLACED, winner=None)
    assert course((0, off), (8, PLACED), (9, off), (18, off))[-1] is Decision.KEEP


@pytest.mark.parametrize("populated", [True, None])
def test_a_pod_that_is_not_in_the_api_but_runs_is_kept(populated):
    # A mirror pod is made again; a status has no running state; a pod is deleted by force.
    unlisted = replace(PLACED, winner=None, pod_is_listed=False, is_populated=populated)
    assert course((0, unlisted), (1e6, unlisted)) == [Decision.KEEP] * 2


def test_the_time_off_the_api_is_not_time_off_the_selector():
    unlisted = replace(PLACED, winner=None, pod_is_listed=False)
    off = replace(PLACED, winner=None)
    assert course((0, off), (5, unlisted), (50, off), (59, off), (60, off)) == [
        Decision.KEEP,
        Decision.KEEP,
        Decision.KEEP,
        Decision.KEEP,
        Decision.UNDO,
    ]


def test_a_pod_gone_from_the_api_and_from_the_node_is_forgotten():
    ended = replace(PLACED, winner=None, pod_is_listed=False, is_populated=False)
    assert course((0, ended), (4, ended), (5, ended)) == [
        Decision.KEEP,
        Decision.KEEP,
        Decision.FORGET,
    ]


def test_an_empty_group_of_a_pod_that_is_listed_is_not_gone():
    restarting = replace(PLACED, is_populated=False)
    assert course((0, restarting), (100, restarting)) == [Decision.FOLLOW] * 2


def test_a_spec_that_is_not_understood_is_neither_followed_nor_undone():
    newer = replace(PLACED, winner=None, is_understood=False)
    assert course((0, newer), (1e6, newer)) == [Decision.KEEP] * 2


def test_before_the_lists_are_complete_nothing_follows_from_what_is_missing():
    nothing = replace(PLACED, is_synced=False, placement_exists=False, winner=None)
    assert course((0, nothing), (1e6, nothing)) == [Decision.KEEP] * 2
    # and that time does not count
    off = replace(PLACED, winner=None)
    assert course((0, replace(off, is_synced=False)), (20, off))[-1] is Decision.KEEP


def test_a_node_that_is_retired_gives_everything_back():
    assert course((0, replace(PLACED, is_retired=True, is_synced=False))) == [Decision.UNDO]


standings = st.builds(
    Standing,
    is_synced=st.booleans(),
    placement_exists=st.booleans(),
    winner=st.sampled_from([None, "mp"]),
    is_understood=st.booleans(),
    pod_is_listed=st.booleans(),
    is_populated=st.sampled_from([True, False, None]),
)


@given(st.lists(st.tuples(st.floats(0, 8), standings), min_size=1, max_size=12))
def test_an_undo_has_a_reason_that_lasted(moments):
    undoing, now, seen = Undoing(unselected_s=10, empty_s=5), 0.0, []
    for step, standing in moments:
        now += step
        seen.append((now, standing))
        decision = undoing.decide("c", standing, now)
        recent = [s for at, s in seen if at >= now - 10]
        lasted = now - seen[0][0] >= 10 and all(
            s.is_synced and s.pod_is_listed and s.winner is None for s in recent
        )
        if decision is Decision.UNDO:
            assert standing.is_synced and (not standing.placement_exists or lasted)
        if decision is Decision.FORGET:
            assert not standing.pod_is_listed and standing.is_populated is False
        if decision is Decision.FOLLOW:
            assert standing.is_synced and standing.winner is not None


def test_containers_without_a_claim_are_forgotten():
    undoing, off = Undoing(unselected_s=10), replace(PLACED, winner=None)
    undoing.decide("c", off, 0)
    undoing.keep(set())
    assert undoing.decide("c", off, 100) is Decision.KEEP
