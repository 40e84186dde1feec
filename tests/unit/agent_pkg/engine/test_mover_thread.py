# SPDX-License-Identifier: Apache-2.0
"""The mover's thread: things change while a call is under way."""

import threading
import time
from dataclasses import replace

import pytest
from memplace.pacing import Room, WaitReason

MIB, GIB = 1 << 20, 1 << 30
BASE = 0x100000000


class During:
    """Stops the mover in a call of the machine, does something, and lets it go on."""

    def __init__(self, machine, call_no, act):
        self.machine, self.call_no, self.act = machine, call_no, act
        self.inside, self.go = threading.Event(), threading.Event()
        self.calls = 0
        machine.on_call = self

    def __call__(self):
        self.calls += 1
        if self.calls == self.call_no:
            self.inside.set()
            assert self.go.wait(10)

    def happen(self):
        assert self.inside.wait(10)
        made = self.calls
        result = self.act()
        self.go.set()
        return made, result


@pytest.fixture
def running(bench):
    stop = threading.Event()
    bench.clock.step = 0.01
    thread = threading.Thread(target=bench.mover.run, args=(stop,), daemon=True)
    bench.thread = thread
    yield bench
    stop.set()
    bench.mover.wake()
    thread.join(5)
    assert not thread.is_alive()


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def test_a_cancelled_move_ends_within_one_call(running, region):
    order = running.queue(100, region(BASE, 64 * GIB, pages={0: (64 * GIB) >> 12}))
    during = During(running.machine, 3, lambda: (order.cancel.set(), running.mover.wake()))
    running.thread.start()
    during.happen()
    until(lambda: not running.mover.progress())
    time.sleep(0.05)
    assert during.calls == 3
    assert sum(end - start for _, start, end in running.moved) <= 2 * MIB + 2 * 64 * MIB


def test_only_the_placement_that_is_gone_is_cancelled(running, region):
    gone = running.queue(100, region(BASE, GIB), rule="gone")
    running.queue(101, region(BASE, GIB), rule="stays", container="b" * 64)
    during = During(running.machine, 4, gone.cancel.set)
    running.thread.start()
    during.happen()
    until(lambda: not running.mover.progress())
    moved = [pid for pid, start, end in running.moved]
    total = {pid: sum(e - s for p, s, e in running.moved if p == pid) for pid in set(moved)}
    assert total[101] == GIB
    assert total[100] < GIB


def test_a_process_that_ends_during_a_call_is_forgotten(running, region):
    running.queue(100, region(BASE, GIB))
    during = During(running.machine, 2, lambda: running.machine.end(100))
    running.thread.start()
    during.happen()
    until(lambda: not running.mover.progress())
    assert during.calls == 2
    running.queue(101, region(BASE, 64 * MIB))
    until(lambda: not running.mover.progress())
    assert running.machine.pages(101, BASE)[1] > 0


def test_a_plan_that_changes_during_a_call_takes_the_place_of_the_old(running, region):
    running.queue(100, region(BASE, GIB), region(8 * GIB, 64 * MIB))
    new = running.order(100, (8 * GIB, 8 * GIB + 64 * MIB))
    during = During(running.machine, 2, lambda: running.mover.submit(100, [new]))
    running.thread.start()
    during.happen()
    until(lambda: not running.mover.progress())
    below = sum(end - start for _, start, end in running.moved if start < 8 * GIB)
    assert below <= 2 * MIB + 64 * MIB
    assert running.machine.pages(100, 8 * GIB)[1] > 0


def test_progress_can_be_read_during_a_call(running, region):
    running.queue(100, region(BASE, 12 * GIB))
    during = During(running.machine, 3, running.mover.progress)
    running.thread.start()
    _, (progress,) = during.happen()
    assert 0 < progress.done < progress.total
    assert progress.text in ("Moving: 0 of 11 GiB", "Moving: 0 of 12 GiB")


def test_a_tier_that_fills_during_a_call_stops_the_move(running, region):
    def fill():
        running.senses.room = Room(total=64 * GIB, free=1 * MIB)
        process = running.machine.processes[100]
        process.vmas = [replace(vma, stuck=True) for vma in process.vmas]

    running.queue(100, region(BASE, 4 * GIB))
    during = During(running.machine, 3, fill)
    running.thread.start()
    during.happen()
    until(lambda: running.progress.wait is WaitReason.TIER_FULL)
    time.sleep(0.05)
    assert during.calls == 3
    assert running.progress.stuck == 0, "what finds no room is not pinned"


def test_pressure_that_jumps_during_a_call_stops_the_move(running, region):
    def press():
        running.senses.pod_pressure = 60.0

    running.queue(100, region(BASE, 4 * GIB))
    during = During(running.machine, 3, press)
    running.thread.start()
    during.happen()
    until(lambda: running.progress.wait is WaitReason.PRESSURE)
    assert during.calls == 3
    running.senses.pod_pressure = 0.0
    running.clock.now += 60
    running.mover.wake()
    until(lambda: not running.mover.progress())


def test_no_error_ends_the_thread(running, region):
    real, broken = running.senses.node, [True]

    def node(now, *, fresh=False):
        if broken:
            broken.pop()
            raise OSError(5, "Input/output error")
        return real(now, fresh=fresh)

    running.senses.node = node
    running.queue(100, region(BASE, 64 * MIB))
    running.thread.start()
    until(lambda: not broken)
    running.mover.wake()
    until(lambda: not running.mover.progress())


def test_many_threads_submit_and_cancel_while_it_works(running, region):
    """Nothing is lost: what was not cancelled arrives, and nothing else is left queued."""
    running.thread.start()
    orders = {}

    def tenant(first):
        for pid in range(first, first + 8):
            orders[pid] = running.queue(pid, region(BASE, 8 * MIB), container=f"{pid:064x}")
            if pid % 2:
                orders[pid].cancel.set()
            running.mover.progress()

    threads = [threading.Thread(target=tenant, args=(n * 100 + 100,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    running.mover.wake()
    until(lambda: not running.mover.progress())
    moved = {pid for pid, _, _ in running.moved}
    assert moved >= {pid for pid in orders if pid % 2 == 0}
