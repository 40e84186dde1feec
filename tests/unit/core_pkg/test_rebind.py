# SPDX-License-Identifier: Apache-2.0
"""What a change of the cpuset does to policies, against the kernel's own comments and code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.kinds import Mode, Policy
from memplace.nodes import parse_cut_nodes, parse_nodes, places, remap
from memplace.rebind import rebind, roll, settable

nodes = st.frozensets(st.integers(0, 9), max_size=6)
some_nodes = st.frozensets(st.integers(0, 9), min_size=1, max_size=6)


def policy(mode, text, *flags):
    return Policy(mode, parse_nodes(text), frozenset(flags))


@pytest.mark.parametrize(
    ("source", "old", "new", "mapped"),
    [
        ("1,5,7", "4-7", "12-15", "1,13,15"),  # the example of bitmap_remap()
        ("0-3", "0-3", "0-1", "0-1"),  # counting starts again
        ("2", "0-2", "4,6", "4"),
        ("1", "0-1", "", "1"),
        ("1", "", "0", "1"),
        ("0-1", "0-1", "0-3", "0-1"),  # a tier is plugged in
        ("0-1", "1-2", "0,3", "0"),  # 0 is outside, 1 the first
    ],
)
def test_places_are_kept_as_bitmap_remap_does(source, old, new, mapped):
    args = (parse_nodes(text) for text in (source, old, new))
    assert remap(*args) == parse_nodes(mapped)


@given(some_nodes, some_nodes)
def test_a_cpuset_maps_onto_one_of_its_size(old, new):
    assert remap(old, old, new) <= new
    if len(old) == len(new):
        assert remap(remap(old, old, new), new, old) == old


@pytest.mark.parametrize(
    ("text", "sure"), [("0-3,7,1", "0-3,7"), ("1,3,", "1,3"), ("1,3-", "1"), ("12", "")]
)
def test_the_last_entry_of_a_cut_list_is_not_sure(text, sure):
    assert parse_cut_nodes(text) == parse_nodes(sure)


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        (policy(Mode.BIND, "1"), "0-1", "0,2", "2"),
        (policy(Mode.BIND, "0-1"), "0-1", "3", "3"),
        (policy(Mode.INTERLEAVE, "0-1"), "0-1", "0-2", "0-1"),
        (policy(Mode.WEIGHTED_INTERLEAVE, "1"), "0-1", "2-3", "3"),
        (policy(Mode.BIND, "1", "static"), "0-1", "0,2", "0,2"),  # none left: all
        (policy(Mode.BIND, "1", "static"), "0,2", "0-2", "1"),  # and it comes back
        (policy(Mode.BIND, "3", "relative"), "1,3", "4,6", "6"),
        (policy(Mode.BIND, "1", "balancing"), "0-1", "0,2", "2"),
        # mpol_rebind_preferred() and mpol_rebind_default() touch no nodes.
        (policy(Mode.PREFERRED_MANY, "1"), "0-1", "0,2", "1"),
        (policy(Mode.PREFERRED_MANY, "1", "static"), "0-1", "0,2", "1"),
        (policy(Mode.PREFERRED, "1"), "0-1", "0,2", "1"),
        (policy(Mode.LOCAL, ""), "0-1", "0,2", ""),
        (policy(Mode.DEFAULT, ""), "0-1", "0,2", ""),
    ],
)
def test_a_policy_after_a_change_of_the_cpuset(before, old, new, after):
    now = rebind(before, parse_nodes(old), parse_nodes(new))
    assert (now.mode, now.flags, now.nodes) == (before.mode, before.flags, parse_nodes(after))


def test_two_changes_are_not_one_unless_static():
    wide, narrow = frozenset({0, 1}), frozenset({0})
    plain, static = policy(Mode.BIND, "0-1"), policy(Mode.BIND, "0-1", "static")
    twice = [rebind(roll(p, wide, narrow), narrow, wide) for p in (plain, static)]
    assert [p.nodes for p in twice] == [{0}, {0, 1}]
    assert [rebind(p, wide, wide).nodes for p in (plain, static)] == [{0, 1}, {0, 1}]


@pytest.mark.parametrize(
    ("previous", "old", "new", "arguments"),
    [
        (policy(Mode.BIND, "1"), "0-1", "0,2", "2"),
        (policy(Mode.BIND, "1", "relative"), "1,3,5", "1,3,5", "0"),
        (policy(Mode.BIND, "3", "relative"), "1,3,5", "2,4,6", "1"),
        (policy(Mode.PREFERRED_MANY, "0-1"), "0-1", "1-2", "1"),
    ],
)
def test_what_gives_a_policy_back(previous, old, new, arguments):
    call = settable(previous, parse_nodes(old), parse_nodes(new))
    assert (call.mode, call.flags, call.nodes) == (
        previous.mode,
        previous.flags,
        parse_nodes(arguments),
    )


def test_a_policy_none_of_whose_nodes_is_left_becomes_the_default():
    gone = policy(Mode.PREFERRED_MANY, "1")
    assert settable(gone, frozenset({0, 1}), frozenset({0})) == Policy(Mode.DEFAULT)


def test_a_home_node_comes_back():
    home = Policy(Mode.BIND, frozenset({0, 1}), home_node=1)
    assert settable(home, home.nodes, home.nodes) == home


@given(nodes, some_nodes)
def test_places_are_counted_within_the_cpuset(source, allowed):
    ordered = sorted(allowed)
    assert {ordered[place] for place in places(source, allowed)} == source & allowed
