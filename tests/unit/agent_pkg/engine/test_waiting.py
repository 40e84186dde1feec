# SPDX-License-Identifier: Apache-2.0
"""What waits to be moved is bounded, and who has much of it keeps nobody else waiting."""

import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from threading import Event

from hypothesis import given
from hypothesis import strategies as st
from memplace.kinds import Mode, Policy
from memplace.pacing import NodeState, Room
from memplace_agent.engine.orders import Job, MoveOrder, MoveRange
from memplace_agent.engine.waiting import LEAST, leave_out
from memplace_agent.syscalls import PidFd

from tests.unit.agent_pkg.engine.bench import CXL, Senses

MIB = 1 << 20
BASE, STEP = 0x100000000, 0x10000
DRAM = Policy(Mode.PREFERRED_MANY, frozenset({0}))
FULL = Room(total=1 << 40, free=0)


class CxlIsFull(Senses):
    """Node 1 has no room."""

    def node(self, now, *, fresh=False):
        found = super().node(now, fresh=fresh)
        return NodeState(**vars_of(found) | {"rooms": {0: self.room, 1: FULL}})


def vars_of(state):
    return {name: getattr(state, name) for name in ("rooms", "pressure", "agent_allowed", "at")}


def ranges(count, size=4096):
    return [(BASE + number * STEP, BASE + number * STEP + size) for number in range(count)]


def test_two_hundred_processes_of_a_tenant_fit_and_another_tenant_moves_on(make, kit):
    bench = make(senses=CxlIsFull())
    # Plans go when they were handed over: what is kept of them is what the mover keeps.
    order = bench.order(1, *ranges(3000), namespace="crowd")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for pid in range(1000, 1200):
            bench.mover.submit(pid, [replace(order, identity=pid, pid=pid)])
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 32 * MIB
    assert not any(job.order.ranges for job in bench.mover._all())
    (waiting,) = bench.mover.progress()
    assert waiting.total == 200 * 3000 * 4096  # what is left to later plans counts as well
    bench.machine.start(100, "b" * 64, kit.anon(BASE, 64 * MIB, policy=DRAM, pages={1: 16384}))
    order = bench.order(100, (BASE, BASE + 64 * MIB), container="b" * 64, namespace="other")
    bench.mover.submit(100, [replace(order, policy=DRAM)])
    bench.run(5)
    assert bench.machine.pages(100, BASE) == {0: 16384}
    assert len(bench.mover.progress()) == 1


def left_in(bench, pid):
    vmas = bench.machine.processes[pid].vmas
    return [(v.start, v.end) for v in vmas if v.policy == CXL and v.pages.get(0)]


def plan_again(bench, pids, seconds):
    """Let each process have a new plan each second, as while moves go on."""
    for _ in range(seconds):
        bench.clock.now += 30
        for pid in pids:
            bench.mover.submit(pid, [bench.order(pid, *left_in(bench, pid))])
        bench.run(1)


def test_what_is_left_out_comes_with_a_later_plan(make, region):
    bench, pids = make(most=2 * LEAST), (100, 101, 102)
    for pid in pids:
        bench.machine.start(pid, "a" * 64, *(region(*r) for r in sized(4 * LEAST)))
    plan_again(bench, pids, 1)
    done = [4 * LEAST - len(left_in(bench, pid)) for pid in pids]
    assert done == [LEAST] * 3
    assert len(bench.finished) == 3  # so each has its next plan soon
    plan_again(bench, pids, 4)
    assert not any(left_in(bench, pid) for pid in pids)


def test_what_does_not_move_is_not_in_the_way_of_what_was_left_out(make, region):
    bench = make(most=LEAST)
    stuck, others = sized(4 * LEAST)[: 2 * LEAST], sized(4 * LEAST)[2 * LEAST :]
    bench.machine.start(
        100,
        "a" * 64,
        *(region(*r, stuck=True) for r in stuck),
        *(region(*r) for r in others),
    )
    plan_again(bench, [100], 60)
    assert left_in(bench, 100) == [(start, start + size) for start, size in stuck]


def sized(count):
    return [(start, end - start) for start, end in ranges(count)]


def job(namespace, count):
    order = MoveOrder(
        identity=1,
        pid=1,
        pin=lambda: nullcontext(PidFd(0)),
        namespace=namespace,
        container="c",
        placement="u",
        rule="r",
        policy=CXL,
        ranges=tuple(MoveRange(start, end, 4096) for start, end in ranges(count)),
        cancel=Event(),
    )
    return Job.of(order)


sizes = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 500)), min_size=1, max_size=12)


@given(sizes, st.integers(1, 2000))
def test_namespaces_have_equal_shares_and_their_jobs_as_well(sizes, most):
    jobs = [job(*size) for size in sizes]
    leave_out(jobs, lambda _: {}, most)
    share = most // len({namespace for namespace, _ in sizes})
    for name in {namespace for namespace, _ in sizes}:
        kept = [(len(j.parts), n) for j, (ns, n) in zip(jobs, sizes, strict=True) if ns == name]
        assert sum(have for have, _ in kept) <= max(share, LEAST * len(kept))
        level = max(have for have, _ in kept)
        assert all(have in (asked, level) for have, asked in kept)
        is_cut = any(have < asked for have, asked in kept)
        assert not is_cut or sum(have for have, _ in kept) > share - len(kept)
    assert [j.left for j in jobs] == [n * 4096 for _, n in sizes]
