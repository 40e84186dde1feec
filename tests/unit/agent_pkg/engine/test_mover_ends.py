# SPDX-License-Identifier: Apache-2.0
"""What ends a move, and what does not start it anew."""

from dataclasses import replace

from memplace.errors import ProcessGone
from memplace.pacing import Room, WaitReason

MIB, GIB = 1 << 20, 1 << 30
BASE = 0x100000000


def test_a_move_that_is_cancelled_while_it_looks_makes_no_call(bench, region):
    order = bench.queue(100, region(BASE, GIB))
    look = bench.mover._look

    def cancelled_meanwhile(*args):
        order.cancel.set()
        return look(*args)

    bench.mover._look = cancelled_meanwhile
    bench.run(10)
    assert bench.machine.calls == []


def test_what_is_cancelled_is_not_looked_at_again(bench, region):
    order = bench.queue(100, region(BASE, GIB))
    order.cancel.set()
    bench.run(60)
    assert bench.looks == 0


def test_a_process_that_ended_is_asked_for_once(bench, region):
    order, asked = bench.queue(100, region(BASE, GIB), region(8 * GIB, GIB)), []

    def gone():
        asked.append(1)
        raise ProcessGone(3, "gone")

    bench.mover.submit(100, [replace(order, pin=gone)])
    bench.run(60)
    assert len(asked) == 1


def test_a_plan_between_two_probes_does_not_start_them_anew(make, region):
    bench = make(bandwidth=2 * MIB)
    order = bench.queue(100, region(BASE, 8 * GIB, stuck=True))
    for _ in range(50):
        bench.mover.submit(100, [replace(order)])
        bench.run(0.5)
    assert len(bench.moved) == 3


def test_a_tier_that_was_full_for_a_moment_puts_nothing_off(bench, region):
    roomy = bench.senses.room

    def change(room, *, stuck):
        bench.senses.room = room
        process = bench.machine.processes[100]
        process.vmas = [replace(vma, stuck=stuck) for vma in process.vmas]

    bench.queue(100, region(BASE, GIB))
    bench.machine.on_call = lambda: (
        len(bench.machine.calls) == 2 and change(Room(total=GIB, free=0), stuck=True)
    )
    bench.run(3)
    assert bench.progress.wait is WaitReason.TIER_FULL
    bench.machine.on_call = None
    change(roomy, stuck=False)
    bench.run(12)
    assert bench.mover.progress() == ()


def test_what_is_not_wanted_while_it_looks_waits_and_is_not_looked_at_again(bench, region):
    wanted = [True]
    bench.queue(100, region(BASE, GIB), is_wanted=lambda: wanted[0])
    look = bench.mover._look

    def meanwhile(*args):
        wanted[0] = False
        return look(*args)

    bench.mover._look = meanwhile
    bench.run(10)
    assert bench.machine.calls == [] and bench.looks == 1
    bench.mover._look, wanted[0] = look, True
    bench.run(10)
    assert bench.mover.progress() == () and bench.machine.pages(100, BASE) == {1: GIB >> 12}
