# SPDX-License-Identifier: Apache-2.0
"""The mover's turns: what it moves, in which pieces, and what it leaves alone."""

import errno
from dataclasses import replace

import pytest
from memplace.errors import MissingCapability
from memplace.kinds import Mode, Policy
from memplace.pacing import PROBE_BYTES, Room, WaitReason
from memplace_agent.errors import CallFailed, HoleInRange, TryAgain
from memplace_agent.syscalls import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_MF_PRIVATE_ANON

from tests.support.agent.tables import tables

MIB, GIB = 1 << 20, 1 << 30
BASE = 0x100000000


def test_a_probe_goes_first_then_batches_of_64_mib(bench, region):
    bench.queue(100, region(BASE, 512 * MIB))
    bench.run(5)
    sizes = [end - start for _, start, end in bench.moved]
    assert sizes[0] == PROBE_BYTES
    assert max(sizes) == 64 * MIB
    assert sum(sizes) == 512 * MIB
    assert all(start % PROBE_BYTES == 0 for _, start, _ in bench.moved)
    assert bench.mover.progress() == ()


def test_an_order_is_called_finished_once_and_not_before(bench, region):
    bench.queue(100, region(BASE, 512 * MIB))
    bench.mover.step()
    assert bench.finished == []
    bench.run(5)
    assert [order.identity for order in bench.finished] == [100]


def test_nothing_is_moved_faster_than_the_bandwidth(make, region):
    bench = make(bandwidth=100 * MIB)
    bench.queue(100, region(BASE, 4 * GIB))
    bench.run(10)
    moved = sum(end - start for _, start, end in bench.moved)
    assert 900 * MIB <= moved <= 1024 * MIB
    assert bench.progress.done == moved


def test_progress_is_what_was_measured(make, region):
    bench = make(bandwidth=128 * MIB)
    bench.queue(100, region(BASE, 4 * GIB))
    bench.queue(101, region(BASE, 4 * GIB))
    bench.run(16)
    assert bench.progress.total == 8 * GIB
    assert bench.progress.text in ("Moving: 1 of 8 GiB", "Moving: 2 of 8 GiB")
    bench.run(60)
    assert bench.mover.progress() == ()


def test_small_regions_go_together_into_a_call(bench, region):
    bench.queue(100, *(region(BASE + n * MIB, 65536) for n in range(1500)))
    bench.run(5)
    assert len(bench.moved) == 1500
    assert len(bench.machine.calls) <= 6


@pytest.mark.parametrize(("version", "longest"), [(1, 2 * MIB), (2, 64 * MIB)])
def test_a_kernel_that_walks_ranges_as_a_whole_gets_short_ones(bench, region, version, longest):
    bench.machine.version = version
    bench.queue(100, region(BASE, 256 * MIB))
    bench.run(5)
    assert max(end - start for _, start, end in bench.moved) == longest
    assert sum(end - start for _, start, end in bench.moved) == 256 * MIB


def test_a_sparse_region_is_not_gone_through_in_small_steps(bench, region):
    """ZGC and sanitizers reserve terabytes of addresses, and touch little of it."""
    bench.queue(100, region(BASE, 256 * GIB, pages={0: MIB >> 12}))
    bench.run(30)
    assert bench.looks <= 2 * 257
    assert bench.mover.progress() == ()


@pytest.mark.parametrize(
    ("flags", "order", "made"),
    [
        (0xF7, {}, MPOL_MF_MOVE),
        (0xF7, {"move_all": True}, MPOL_MF_MOVE_ALL),
        (0xF7, {"private_anonymous": True}, MPOL_MF_MOVE | MPOL_MF_PRIVATE_ANON),
        (0x06, {"private_anonymous": True}, MPOL_MF_MOVE),
    ],
)
def test_flags_are_those_that_the_kernel_has(make, region, flags, order, made):
    bench = make(flags=flags)
    bench.queue(100, region(BASE, MIB), **order)
    bench.run(1)
    assert {call[3] for call in bench.machine.calls} == {made}


# --- what does not move ---


def test_pinned_pages_are_tried_rarely_and_in_small_pieces(bench, region):
    bench.queue(100, region(BASE, 8 * GIB, stuck=True))
    bench.run(3600)
    made = bench.moved
    assert len(made) <= 24, "probes of 2 MiB, three at a time, put off for twice as long each time"
    assert max(end - start for _, start, end in made) == PROBE_BYTES
    assert bench.progress.wait is WaitReason.BACKOFF


def test_plans_that_come_again_do_not_make_it_faster(bench, region):
    """A program that maps all the time is planned anew every second."""
    order = bench.queue(100, region(BASE, 8 * GIB, stuck=True))
    for _ in range(300):
        bench.mover.submit(100, [replace(order)])
        bench.run(1)
    assert len(bench.moved) <= 14


def test_a_new_region_does_not_wait_for_pinned_ones(bench, region, kit):
    order = bench.queue(100, region(BASE, GIB, stuck=True))
    bench.run(20)
    bench.machine.map(100, region(8 * GIB, 64 * MIB))
    again = bench.order(100, (BASE, BASE + GIB), (8 * GIB, 8 * GIB + 64 * MIB))
    bench.mover.submit(100, [again])
    bench.run(9)
    assert bench.machine.pages(100, 8 * GIB)[1] > 0
    assert order.cancel is not again.cancel


def test_one_pinned_piece_holds_up_nothing(bench, region):
    bench.queue(
        100,
        region(BASE, 64 * MIB),
        region(BASE + GIB, 2 * MIB, stuck=True),
        region(BASE + 2 * GIB, 512 * MIB),
    )
    bench.run(5)
    assert bench.progress.total - bench.progress.done == 2 * MIB
    assert bench.progress.stuck == 0, "the first time it can have been at work"
    bench.run(60)
    assert bench.progress.stuck == 2 * MIB


def test_pages_that_come_loose_are_moved_in_the_end(bench, region):
    bench.queue(100, region(BASE, 256 * MIB, stuck=True))
    bench.run(300)
    process = bench.machine.processes[100]
    process.vmas = [replace(v, stuck=False) for v in process.vmas]
    bench.run(3600)
    assert bench.mover.progress() == ()


def test_a_full_tier_gets_no_calls_at_all(bench, region):
    bench.senses.room = Room(total=64 * GIB, free=100 << 10)
    bench.queue(100, region(BASE, GIB))
    bench.run(3600)
    assert bench.machine.calls == []
    assert bench.progress.wait is WaitReason.TIER_FULL
    bench.senses.room = Room(total=64 * GIB, free=32 * GIB)
    bench.run(10)
    assert bench.mover.progress() == ()


def test_a_region_the_program_bound_itself_meanwhile_is_left_alone(bench, region, kit):
    bench.queue(100, region(BASE, 64 * MIB), region(GIB * 8, 64 * MIB))
    process = bench.machine.processes[100]
    process.vmas[0] = replace(process.vmas[0], policy=kit.BIND)
    bench.machine.write(100)
    bench.run(5)
    assert {start >= 8 * GIB for _, start, _ in bench.moved} == {True}
    assert bench.machine.policies(100)[hex(BASE)] == kit.BIND


def test_the_agents_own_cpuset_is_told_and_nothing_tried(bench, region):
    bench.senses.agent_allowed = frozenset({0})
    bench.queue(100, region(BASE, GIB))
    bench.run(60)
    assert bench.machine.calls == []
    assert bench.progress.wait is WaitReason.AGENT_CPUSET
    assert "own cpuset" in bench.progress.message


# --- errors of the call ---


def failing(machine, error, *, below):
    """Ranges that begin below an address fail."""
    real = machine.process_mbind

    def call(pidfd, ranges, policy, flags):
        good = next((n for n, r in enumerate(ranges) if r[0] < below), len(ranges))
        if not good:
            machine.calls.append((0, tuple(ranges[:1]), policy, flags))
            raise error
        return real(pidfd, ranges[:good], policy, flags)

    machine.process_mbind = call


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EIO, errno.EINVAL, 0])
def test_ranges_that_fail_starve_nothing(bench, region, number):
    bad = [region(BASE + n * 4 * MIB, 2 * MIB) for n in range(12)]
    failing(bench.machine, CallFailed(number, "no"), below=BASE + GIB)
    bench.queue(100, *bad, region(BASE + 2 * GIB, 256 * MIB))
    bench.run(10)
    assert bench.progress.total - bench.progress.done == 24 * MIB
    tried = len(bench.machine.calls)
    bench.run(15)
    assert len(bench.machine.calls) == tried, "put off, not hammered"


@pytest.mark.parametrize(
    "error", [HoleInRange(errno.EFAULT, "hole"), TryAgain(errno.ESTALE, "a file by now")]
)
def test_a_range_that_is_something_else_now_is_left_to_the_next_plan(bench, region, error):
    failing(bench.machine, error, below=BASE + GIB)
    bench.queue(100, region(BASE, 2 * MIB), region(BASE + 2 * GIB, 64 * MIB))
    bench.run(5)
    assert bench.mover.progress() == ()
    assert sum(end - start for pid, start, end in bench.moved if pid) == 64 * MIB


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ESRCH])
def test_a_busy_process_is_tried_soon_and_ever_less_often(bench, region, number):
    failing(bench.machine, TryAgain(number, "busy"), below=1 << 60)
    bench.queue(100, region(BASE, 64 * MIB))
    bench.run(1)
    assert 2 <= len(bench.machine.calls) <= 4
    bench.run(299)
    assert len(bench.machine.calls) <= 20


def test_a_process_that_refuses_is_left_alone_and_said(bench, region):
    failing(bench.machine, MissingCapability(errno.EPERM, "not this one"), below=BASE + GIB)
    bench.queue(100, region(BASE, 64 * MIB), region(BASE + MIB * 128, 64 * MIB))
    bench.queue(101, region(2 * BASE, 64 * MIB), rule="other")
    bench.run(29)
    (refused,) = bench.mover.progress()
    assert refused.rule == "r"
    assert "not this one" in refused.message
    assert len([call for call in bench.machine.calls if call[0] == 0]) == 1


def test_a_look_that_fails_is_about_that_process_alone(bench, region):
    def pin():
        raise PermissionError(13, "AppArmor says no")

    order = replace(bench.order(100, (BASE, BASE + MIB), rule="denied"), pin=pin)
    bench.mover.submit(100, [order])
    bench.queue(101, region(BASE, 64 * MIB))
    bench.run(20)
    (denied,) = bench.mover.progress()
    assert (denied.rule, denied.done) == ("denied", 0)
    assert "AppArmor" in denied.message


# --- fairness ---


def test_containers_and_namespaces_share_the_bandwidth(make, region):
    """One namespace with many containers gets no more than another with one."""
    bench = make(bandwidth=64 * MIB)
    for n in range(20):
        bench.queue(100 + n, region(BASE, 8 * GIB), container=f"{n:064x}", namespace="many")
    bench.queue(200, region(BASE, 8 * GIB), container="f" * 64, namespace="one")
    bench.run(60)
    done = {p.container: p.done for p in bench.mover.progress()}
    one = done.pop("f" * 64)
    assert 0.4 <= one / (one + sum(done.values())) <= 0.6
    assert max(done.values()) <= 3 * max(1, min(done.values()))


def test_small_orders_do_not_keep_a_large_one_waiting(make, region):
    bench = make(bandwidth=64 * MIB)
    bench.queue(100, region(BASE, 8 * GIB), namespace="large")
    bench.run(10)
    for n in range(200):
        container = f"{n:064x}"
        bench.queue(200 + n, region(BASE, 2 * MIB), container=container, namespace="small")
    before = bench.mover.progress()[-1].done
    bench.run(4)
    after = max(p.done for p in bench.mover.progress())
    assert after - before >= 64 * MIB


def test_a_slow_placement_does_not_slow_down_others(make, region):
    bench = make(bandwidth=256 * MIB)
    bench.queue(100, region(BASE, 8 * GIB), placement="slow", limit=MIB)
    bench.queue(101, region(BASE, GIB), container="b" * 64, placement="fast")
    bench.run(6)
    (slow,) = bench.mover.progress()
    assert slow.placement == "slow"
    assert slow.done <= 8 * MIB


def test_a_queue_that_is_never_empty_keeps_no_account_of_those_who_left(make, region):
    bench = make(bandwidth=64 * MIB)
    bench.queue(100, region(BASE, 64 * GIB))
    for n in range(50):
        more = {"container": f"{n:064x}", "placement": f"uid-{n}", "limit": GIB}
        bench.queue(200 + n, region(BASE, 2 * MIB), namespace="small", **more)
        bench.run(1)
    bench.run(20)
    assert [p.container for p in bench.mover.progress()] == ["a" * 64]
    assert tables(bench.mover)["._pacer._placements"] == 0


def test_local_policies_never_get_here_but_do_no_harm(bench, region):
    """A policy without nodes says nothing of where pages belong."""
    bench.queue(100, region(BASE, MIB), policy=Policy(Mode.LOCAL))
    bench.run(10)
    assert bench.moved == []
