# SPDX-License-Identifier: Apache-2.0
"""The pacer: bounded over any time, never for ever, and gone when it is needed."""

from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from memplace.calls import CUT_ALIGNMENT, MAX_MOVE_BYTES
from memplace.kinds import Mode
from memplace.pacing import (
    PROBE_BYTES,
    Grant,
    Limits,
    NodeState,
    Pacer,
    Request,
    Room,
    Wait,
    WaitReason,
    speed_under,
)

MIB, GIB = 1 << 20, 1 << 30
ROOMY = Room(total=1 << 50, free=1 << 49)
IDLE = NodeState(rooms={1: ROOMY}, pressure=0.0)
WANT = Request(
    placement="p", container="c", mode=Mode.PREFERRED_MANY, nodes=frozenset({1}), probing=False
)


def drive(pacer, seconds, request=WANT, node=IDLE, now=0.0):
    """Move whenever it may; returns (time, bytes) of each batch."""
    made, end = [], now + seconds
    while now < end:
        answer = pacer.ask(request, node, now)
        if isinstance(answer, Grant):
            pacer.spend(request, answer.bytes, now, trickle=answer.trickle)
            made.append((now, answer.bytes))
        else:
            assert answer.until > now, "a wait that is over at once is a busy loop"
            now = answer.until
    return made


def total(made):
    return sum(size for _, size in made)


rates = st.sampled_from([1 * MIB, 3 * MIB, 17 * MIB, 200 * MIB, 256 * MIB, 5 * GIB])
requests = st.builds(
    Request,
    placement=st.sampled_from("pq"),
    container=st.sampled_from("cde"),
    mode=st.sampled_from([Mode.BIND, Mode.PREFERRED_MANY]),
    nodes=st.just(frozenset({1})),
    limit=st.sampled_from([None, MIB, 50 * MIB, 10 * GIB]),
    pressure=st.sampled_from([None, 0.0, 2.0, 9.5, 50.0]),
    probing=st.booleans(),
)
events = st.lists(
    st.tuples(
        requests,
        st.sampled_from([0.0, 0.001, 0.1, 1.0, 30.0]),
        st.sampled_from([None, 0.0, 3.0, 9.0, 12.0]),
        st.sampled_from([ROOMY, replace(ROOMY, free=10 * MIB), replace(ROOMY, reclaimable=GIB)]),
    ),
    max_size=60,
)


def alternating(*limits):
    """One placement whose limit is edited again and again."""
    asked = [replace(WANT, limit=limit) for limit in limits]
    return [(request, 0.1, None, ROOMY) for request in asked * 10]


@given(rates, events)
@example(17 * MIB, alternating(MIB, None))
@example(17 * MIB, alternating(MIB, 50 * MIB))
def test_over_any_time_no_more_passes_than_the_bandwidth_and_one_batch(rate, events):
    pacer, now, made = Pacer(Limits(bandwidth=rate), 0.0), 0.0, []
    for request, pause, pressure, room in events:
        now += pause
        node = NodeState(rooms={1: room}, pressure=pressure, at=now)
        while isinstance(answer := pacer.ask(request, node, now), Grant):
            assert 0 < answer.bytes <= MAX_MOVE_BYTES
            assert answer.bytes % CUT_ALIGNMENT == 0
            pacer.spend(request, answer.bytes, now, trickle=answer.trickle)
            made.append((now, request, answer.bytes))
        made.append((now, request, 0))  # a question that moved nothing tells of a limit too
    for limit, whose in [(rate, made), *per_limit(made)]:
        for i, (start, *_) in enumerate(whose):
            passed, batch = 0, max(PROBE_BYTES, min(MAX_MOVE_BYTES, limit // 4))
            for end, _, size in whose[i:]:
                passed += size
                assert passed <= limit * (end - start) + batch + 1


def per_limit(made):
    # As long as a placement's limit stays as it is: another, or none, counts from then on.
    for name in "pq":
        own = [m for m in made if m[1].placement == name]
        for limit, run in groupby(own, key=lambda m: m[1].limit):
            if limit:
                yield limit, list(run)


@given(rates, st.sampled_from([None, MIB, 100 * MIB]))
def test_the_bandwidth_is_used(rate, limit):
    made = drive(Pacer(Limits(bandwidth=rate), 0.0), 20, replace(WANT, limit=limit))
    assert total(made) >= 0.95 * 20 * min(rate, limit or rate)


def test_a_placement_cannot_raise_the_bandwidth_of_the_node():
    made = drive(Pacer(Limits(bandwidth=10 * MIB), 0.0), 10, replace(WANT, limit=10 * GIB))
    assert total(made) <= 102 * MIB


def test_placements_share_one_budget():
    pacer, now, moved = Pacer(Limits(bandwidth=100 * MIB), 0.0), 0.0, 0
    for n in range(2000):
        now = n / 200
        request = replace(WANT, placement=f"p{n}", container=f"c{n}", limit=100 * MIB)
        if isinstance(answer := pacer.ask(request, IDLE, now), Grant):
            pacer.spend(request, answer.bytes, now)
            moved += answer.bytes
    assert moved <= 100 * MIB * now + MAX_MOVE_BYTES


def test_a_placement_does_not_lose_its_debt_by_coming_anew():
    pacer, request = Pacer(Limits(), 0.0), replace(WANT, limit=2 * MIB)
    moved = 0
    for n in range(100):
        now = n / 10
        if isinstance(answer := pacer.ask(request, IDLE, now), Grant):
            pacer.spend(request, answer.bytes, now)
            moved += answer.bytes
        pacer.prune(now)
    assert moved <= 2 * MIB * 10 + PROBE_BYTES


def test_a_probe_is_small():
    assert Pacer(Limits(), 0.0).ask(replace(WANT, probing=True), IDLE, 0.0) == Grant(PROBE_BYTES)


@pytest.mark.parametrize("where", ["node", "pod"])
def test_pressure_slows_down_and_stops(where):
    def moved(pressure):
        request, node = WANT, IDLE
        if where == "node":
            node = replace(IDLE, pressure=pressure)
        else:
            request = replace(WANT, pressure=pressure)
        return total(drive(Pacer(Limits(bandwidth=64 * MIB), 0.0), 30, request, node))

    full = 30 * 64 * MIB
    assert moved(None) >= moved(0.0) >= 0.95 * full
    assert moved(5.5) <= 0.6 * full
    assert 0 < moved(9.5) <= 0.15 * full
    assert moved(10.0) == moved(80.0) == 0


def test_moves_go_on_after_pressure_and_do_not_flutter():
    pacer = Pacer(Limits(stop_at=10), 0.0)
    for now, pressure, goes in [(0, 20, False), (2, 9, False), (4, 6, False), (6, 4, True)]:
        answer = pacer.ask(WANT, replace(IDLE, pressure=pressure), float(now))
        assert isinstance(answer, Grant) == goes, (pressure, answer)


def test_pressure_of_one_pod_does_not_stop_another():
    pacer = Pacer(Limits(), 0.0)
    answer = pacer.ask(replace(WANT, pressure=90.0), IDLE, 0.0)
    assert isinstance(answer, Wait)
    assert answer.reason is WaitReason.PRESSURE
    assert isinstance(pacer.ask(replace(WANT, container="d", pressure=0.0), IDLE, 0.0), Grant)


@given(st.floats(0, 100), st.floats(0, 100))
def test_more_pressure_is_never_faster(a, b):
    low, high = sorted([a, b])
    assert 1 >= speed_under(low, Limits()) >= speed_under(high, Limits()) >= 0


# --- room ---

# 64 GiB with the watermarks that Linux 6.12 gives it.
BIG = Room(total=64 * GIB, free=32 * GIB, minimum=64 * MIB, low=128 * MIB, high=192 * MIB)


def room(mode=Mode.PREFERRED_MANY, **changes):
    node = NodeState(rooms={1: replace(BIG, **changes)})
    return Pacer(Limits(bandwidth=GIB), 0.0).room(replace(WANT, mode=mode), node)


def test_a_tier_keeps_room_for_the_page_faults_of_others():
    least = 192 * MIB + 64 * MIB
    assert room(free=least + 10 * MIB) == Grant(10 * MIB)
    assert room(free=least) == Grant(0)


def test_a_small_tier_keeps_a_small_part():
    assert room(total=256 * MIB, free=100 * MIB, minimum=0, low=0, high=0).bytes >= MAX_MOVE_BYTES


@pytest.mark.parametrize("mode", [Mode.BIND, Mode.PREFERRED_MANY])
def test_page_cache_gives_way_slowly(mode):
    """kswapd frees it in the background; it works between the low and the high watermark."""
    assert room(mode, free=160 * MIB, reclaimable=30 * GIB) == Grant(PROBE_BYTES, trickle=True)


@given(st.integers(0, 400 * MIB), st.integers(0, 30 * GIB))
def test_bind_never_gets_near_direct_reclaim(free, reclaimable):
    grant = room(Mode.BIND, free=free, reclaimable=reclaimable)
    assert not grant.bytes or free - grant.bytes >= BIG.minimum + 32 * MIB


def test_what_was_moved_since_room_was_read_is_not_there_any_more():
    pacer = Pacer(Limits(bandwidth=100 * GIB), 0.0)
    node = NodeState(rooms={1: replace(BIG, free=256 * MIB + 70 * MIB)})
    made = 0
    while isinstance(answer := pacer.ask(WANT, node, made * 1.0), Grant):
        pacer.spend(WANT, answer.bytes, made * 1.0)
        made += 1
        assert made < 5
    assert answer.reason is WaitReason.TIER_FULL
    assert isinstance(pacer.ask(WANT, replace(node, at=9.0), 9.0), Grant)


def test_a_full_tier_is_said():
    answer = Pacer(Limits(), 0.0).ask(WANT, NodeState(rooms={1: replace(BIG, free=MIB)}), 0.0)
    assert answer.reason is WaitReason.TIER_FULL
    assert answer.message == "NUMA nodes 1 have 1Mi free; moves wait for room"


def test_huge_pages_need_their_pool():
    request = replace(WANT, page_size=2 * MIB)
    some = NodeState(rooms={1: replace(BIG, huge={2 * MIB: 6 * MIB})})
    none = NodeState(rooms={1: replace(BIG, huge={2 * MIB: 0})})
    assert Pacer(Limits(), 0.0).ask(request, some, 0.0) == Grant(6 * MIB)
    assert "no free huge page of 2Mi" in Pacer(Limits(), 0.0).ask(request, none, 0.0).message


def test_a_page_larger_than_a_batch_goes_alone_and_is_paid_for():
    pacer = Pacer(Limits(bandwidth=256 * MIB), 0.0)
    request = replace(WANT, page_size=GIB)
    node = NodeState(rooms={1: replace(BIG, huge={GIB: 8 * GIB})})
    made = drive(pacer, 20, request, node)
    assert {size for _, size in made} == {GIB}
    assert total(made) <= 20 * 256 * MIB + GIB


# --- the agent's own cpuset ---


def test_the_agents_own_cpuset_is_no_silent_failure():
    node = replace(IDLE, agent_allowed=frozenset({0}))
    answer = Pacer(Limits(), 0.0).ask(WANT, node, 0.0)
    assert answer.reason is WaitReason.AGENT_CPUSET
    assert "remove cpuset.mems of its pod" in answer.message
    for allowed in (None, frozenset({0, 1})):
        node = replace(IDLE, agent_allowed=allowed)
        assert isinstance(Pacer(Limits(), 0.0).ask(WANT, node, 0.0), Grant)
