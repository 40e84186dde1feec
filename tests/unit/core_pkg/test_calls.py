# SPDX-License-Identifier: Apache-2.0
"""Cutting a plan into calls: small enough, aligned, and nothing lost."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.calls import (
    CUT_ALIGNMENT,
    MAX_CALL_BYTES,
    MAX_CALL_RANGES,
    MAX_MOVE_BYTES,
    Action,
    actions,
    calls,
)
from memplace.kinds import ExistingPages, Mode, Policy
from memplace.policy import Move, Plan, Step

GIB, MIB, KIB = 1 << 30, 1 << 20, 1 << 10
CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}))
DRAM = Policy(Mode.BIND, frozenset({0}))


def action(start, size, *, policy=CXL, page_size=4096, move_all=True, existing="Move"):
    return Action(
        rule="r",
        start=start,
        end=start + size,
        policy=policy,
        existing=ExistingPages(existing),
        move_all=move_all,
        previous=Policy(Mode.DEFAULT),
        page_size=page_size,
    )


@st.composite
def many_actions(draw):
    address, actions = 0x7F0000000000, []
    for _ in range(draw(st.integers(0, 12))):
        page = draw(st.sampled_from([4096, 2 * MIB, GIB]))
        address = -(-address // page) * page + draw(st.integers(0, 3)) * page
        size = page * draw(st.integers(1, {4096: 10**6, 2 * MIB: 2000, GIB: 4}[page]))
        policy = draw(st.sampled_from([CXL, DRAM]))
        actions.append(
            action(
                address,
                size,
                policy=policy,
                page_size=page,
                move_all=draw(st.booleans()),
                existing=draw(st.sampled_from(["Move", "Leave"])),
            )
        )
        address += size
    return actions


def key(item):
    return item.policy, item.existing, item.move_all


def limit(call):
    return MAX_MOVE_BYTES if call.existing is ExistingPages.MOVE else MAX_CALL_BYTES


def size_of(call):
    return sum(end - start for start, end in call.ranges)


def page_of(actions, start):
    return next(a.page_size for a in actions if a.start <= start < a.end)


@given(many_actions(), st.booleans())
def test_every_call_is_within_the_limits(actions, cut_moves):
    for call in calls(actions, cut_moves=cut_moves):
        assert 1 <= len(call.ranges) <= MAX_CALL_RANGES
        assert all(start < end for start, end in call.ranges)
        page = page_of(actions, call.ranges[0][0])
        assert size_of(call) <= limit(call) or (len(call.ranges) == 1 and size_of(call) == page)


@given(many_actions())
def test_a_range_whose_pages_move_is_cut_at_two_mib(actions):
    for call in calls(actions, cut_moves=True):
        for start, end in call.ranges:
            longest = max(CUT_ALIGNMENT, page_of(actions, start))
            assert end - start <= longest or call.existing is ExistingPages.LEAVE


@given(many_actions(), st.booleans())
def test_the_calls_cover_exactly_the_actions_bytes(actions, cut_moves):
    wanted = [(key(a), a.start, a.end) for a in actions]
    done = []
    for call in calls(actions, cut_moves=cut_moves):
        for start, end in call.ranges:
            inside = [w for w in wanted if w[0] == key(call) and w[1] <= start and end <= w[2]]
            assert len(inside) == 1
            done.append((start, end, inside[0]))
    for what in wanted:
        parts = sorted((start, end) for start, end, owner in done if owner == what)
        assert (parts[0][0], parts[-1][1]) == what[1:]
        assert all(a[1] == b[0] for a, b in pairwise(parts))


@given(many_actions(), st.booleans())
def test_cuts_are_aligned_to_huge_pages(actions, cut_moves):
    ends = {a.end for a in actions}
    for call in calls(actions, cut_moves=cut_moves):
        for start, end in call.ranges:
            assert end in ends or end % max(CUT_ALIGNMENT, page_of(actions, start)) == 0


@given(many_actions(), st.booleans())
def test_no_call_could_have_taken_the_next_range_whole(actions, cut_moves):
    made = list(calls(actions, cut_moves=cut_moves))
    for call, following in pairwise(made):
        if key(call) != key(following):
            continue
        first = following.ranges[0]
        assert len(call.ranges) == MAX_CALL_RANGES or size_of(call) + first[1] - first[0] > limit(
            call
        )


def test_a_thousand_small_ranges_and_some():
    sizes = [len(c.ranges) for c in calls(action(i * 8192, 4096) for i in range(2500))]
    assert sizes == [1024, 1024, 452]


def leave(start, size, **kwargs):
    return action(start, size, existing="Leave", **kwargs)


def test_exactly_the_limit_is_one_call():
    (call,) = calls([leave(0, GIB)])
    assert call.ranges == ((0, GIB),)


def test_what_fits_exactly_is_not_cut_though_it_ends_between_huge_pages():
    (call,) = calls([leave(4096, GIB)])
    assert call.ranges == ((4096, GIB + 4096),)


def test_one_page_more_is_two():
    first, second = calls([leave(4096, GIB + 4096)])
    assert first.ranges == ((4096, GIB),)  # cut down to 2 MiB alignment
    assert second.ranges == ((GIB, GIB + 8192),)


def test_a_region_without_an_aligned_address_waits_for_the_next_call():
    filler = leave(0, GIB - 4096)
    unaligned = leave(10 * GIB + 4096, 8192)
    assert [c.ranges for c in calls([filler, unaligned])] == [
        ((0, GIB - 4096),),
        ((10 * GIB + 4096, 10 * GIB + 12288),),
    ]


def test_sixty_four_mib_move_in_one_call_and_one_page_more_in_two():
    (call,) = calls([action(0, 64 * MIB)])
    assert call.ranges == ((0, 64 * MIB),)
    first, second = calls([action(0, 64 * MIB + 4096)])
    assert (first.ranges, second.ranges) == (
        ((0, 64 * MIB),),
        ((64 * MIB, 64 * MIB + 4096),),
    )


def test_a_kernel_that_walks_a_range_as_a_whole_gets_two_mib_at_a_time():
    (call,) = calls([action(4096, 5 * MIB)], cut_moves=True)
    assert call.ranges == (
        (4096, 2 * MIB),
        (2 * MIB, 4 * MIB),
        (4 * MIB, 5 * MIB + 4096),
    )


@pytest.mark.parametrize(
    "policy", [Policy(Mode.DEFAULT), Policy(Mode.LOCAL)], ids=["Default", "Local"]
)
def test_a_policy_without_nodes_moves_nothing_and_is_not_cut(policy):
    (call,) = calls([action(0, GIB, policy=policy)], cut_moves=True)
    assert call.ranges == ((0, GIB),)


def test_gigantic_pages_are_not_cut():
    made = [c.ranges for c in calls([leave(0, 4096), leave(GIB, 2 * GIB, page_size=GIB)])]
    assert made == [((0, 4096),), ((GIB, 2 * GIB),), ((2 * GIB, 3 * GIB),)]


@pytest.mark.parametrize("existing", ["Move", "Leave"])
@pytest.mark.parametrize("cut_moves", [False, True])
def test_a_page_larger_than_a_call_goes_alone(existing, cut_moves):
    huge = action(0, 32 * GIB, page_size=16 * GIB, existing=existing)
    made = [c.ranges for c in calls([huge], cut_moves=cut_moves)]
    assert made == [((0, 16 * GIB),), ((16 * GIB, 32 * GIB),)]


def test_different_policies_and_flags_never_share_a_call():
    mixed = [
        action(0, 4096),
        action(8192, 4096, policy=DRAM),
        action(16384, 4096, move_all=False),
        action(24576, 4096, existing="Leave"),
        action(32768, 4096),
    ]
    made = list(calls(mixed))
    assert [len(c.ranges) for c in made] == [2, 1, 1, 1]
    assert made[0].ranges == ((0, 4096), (32768, 36864))


def test_no_actions_no_calls():
    assert list(calls([])) == []


def step(start, previous=DRAM):
    return Step(rule="r", start=start, end=start + MIB, policy=CXL, previous=previous, own=True)


def move(start):
    return Move(
        rule="r",
        start=start,
        end=start + MIB,
        nodes=CXL.nodes,
        policy=CXL,
        move_all=True,
        bytes=4096,
    )


def test_policy_and_move_of_one_region_are_one_action():
    plan = Plan(policies=(step(0), step(8 * MIB)), moves=(move(0), move(4 * MIB)))
    made = actions(plan)
    assert [(a.start, a.existing, a.move_all) for a in made] == [
        (0, "Move", True),
        (4 * MIB, "Move", True),
        (8 * MIB, "Leave", False),
    ]
    assert [a.previous for a in made] == [DRAM, CXL, DRAM]
    assert {a.policy for a in made} == {CXL}
