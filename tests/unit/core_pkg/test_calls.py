# SPDX-License-Identifier: Apache-2.0
"""Cutting a plan into calls: small enough, aligned, and nothing lost."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from memplace.kinds import ExistingPages, Mode, Policy
from memplace.policy import CUT_ALIGNMENT, MAX_CALL_BYTES, MAX_CALL_RANGES, Action, calls

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


@given(many_actions())
def test_every_call_is_within_the_limits(actions):
    for call in calls(actions):
        assert 1 <= len(call.ranges) <= MAX_CALL_RANGES
        assert sum(end - start for start, end in call.ranges) <= MAX_CALL_BYTES
        assert all(start < end for start, end in call.ranges)


@given(many_actions())
def test_the_calls_cover_exactly_the_actions_bytes(actions):
    wanted = [(key(a), a.start, a.end) for a in actions]
    done = []
    for call in calls(actions):
        for start, end in call.ranges:
            inside = [w for w in wanted if w[0] == key(call) and w[1] <= start and end <= w[2]]
            assert len(inside) == 1
            done.append((start, end, inside[0]))
    for what in wanted:
        parts = sorted((start, end) for start, end, owner in done if owner == what)
        assert (parts[0][0], parts[-1][1]) == what[1:]
        assert all(a[1] == b[0] for a, b in pairwise(parts))


@given(many_actions())
def test_cuts_are_aligned_to_huge_pages(actions):
    ends = {a.end for a in actions}
    for call in calls(actions):
        for start, end in call.ranges:
            owner = next(a for a in actions if a.start <= start < a.end)
            assert end in ends or end % max(CUT_ALIGNMENT, owner.page_size) == 0


@given(many_actions())
def test_no_call_could_have_taken_the_next_range_whole(actions):
    made = list(calls(actions))
    for call, following in pairwise(made):
        if key(call) != key(following):
            continue
        size = sum(end - start for start, end in call.ranges)
        first = following.ranges[0]
        assert len(call.ranges) == MAX_CALL_RANGES or size + first[1] - first[0] > MAX_CALL_BYTES


def test_a_thousand_small_ranges_and_some():
    sizes = [len(c.ranges) for c in calls(action(i * 8192, 4096) for i in range(2500))]
    assert sizes == [1024, 1024, 452]


def test_exactly_the_limit_is_one_call():
    (call,) = calls([action(0, GIB)])
    assert call.ranges == ((0, GIB),)


def test_one_page_more_is_two():
    first, second = calls([action(4096, GIB + 4096)])
    assert first.ranges == ((4096, GIB),)  # cut down to 2 MiB alignment
    assert second.ranges == ((GIB, GIB + 8192),)


def test_a_region_without_an_aligned_address_waits_for_the_next_call():
    filler = action(0, GIB - 4096)
    unaligned = action(10 * GIB + 4096, 8192)
    assert [c.ranges for c in calls([filler, unaligned])] == [
        ((0, GIB - 4096),),
        ((10 * GIB + 4096, 10 * GIB + 12288),),
    ]


def test_gigantic_pages_are_not_cut():
    made = [c.ranges for c in calls([action(0, 4096), action(GIB, 2 * GIB, page_size=GIB)])]
    assert made == [((0, 4096),), ((GIB, 2 * GIB),), ((2 * GIB, 3 * GIB),)]


def test_a_page_larger_than_a_call_goes_alone():
    made = [c.ranges for c in calls([action(0, 32 * GIB, page_size=16 * GIB)])]
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
