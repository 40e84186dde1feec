# SPDX-License-Identifier: Apache-2.0
"""Processes whose texts have a form that the agent does not know, or that never get memory."""

from __future__ import annotations

import time
from array import array
from collections import Counter

import pytest
from memplace_agent.containers.identity import Identities
from memplace_agent.containers.pinning import Pinner
from memplace_agent.engine.survey import Surveyor
from memplace_agent.procfs.process import Reader, Reason
from memplace_agent.procfs.query import ReadVmas, Way
from memplace_agent.procfs.vmas import EMPTY, vmas_of
from memplace_agent.syscalls.views import Ended, RawClass, RawView

from tests.support.agent.node import shared_pool
from tests.unit.agent_pkg.test_watch import eventually

A = "a" * 64
ONE = ("mp", "p", "c0")


@pytest.fixture
def two(node, kit):
    """A container of two processes; something is to be odd about the first."""
    node.machine.start(100, A, kit.heap())
    node.machine.start(101, A, kit.heap())
    return node


def odd_numa_maps(node):
    node.way = Way.MAPS
    (node.machine.host.pid(100) / "numa_maps").write_text("10000000 prefer (most):1 anon=1 N0=1\n")


def answers(node, found):
    # For process 100, as long as it is odd.
    node.odd, real = {"100"}, node.machine.read_vmas

    def read_vmas(directory, *rest):
        return (found if directory.name in node.odd else real)(directory, *rest)

    node.machine.read_vmas = read_vmas


def odd_policy(node):
    odd = RawClass(
        permissions=3,
        inode=0,
        device=(0, 0),
        page_size=4096,
        unnamed=False,
        name=b"[heap]",
        policy=b"prefer (most):1",
        source=1,
        flags=b"",
    )
    arrays = array("Q", [0x1000]), array("Q", [0x2000]), array("I", [0])
    view = RawView(Ended.COMPLETE, 0, *arrays, (odd,), array("Q", [0]))
    answers(node, lambda *_: ReadVmas(vmas_of(view), Ended.COMPLETE))


def odd_maps(node):
    answers(node, lambda *_: ReadVmas(EMPTY, Ended.BAD_TEXT))


def no_memory(node):
    answers(node, lambda *_: ReadVmas(EMPTY, Ended.COMPLETE))


def reads_of(node, seconds, kit):
    reads, real = Counter(), node.machine.read_vmas

    def counting(directory, *rest):
        reads[directory.name] += 1
        return real(directory, *rest)

    node.machine.read_vmas = counting
    node.restart()
    return reads, node.full(kit.placement(), seconds=seconds)[ONE]


@pytest.mark.parametrize(
    ("make_odd", "named"),
    [(odd_numa_maps, "prefer (most)"), (odd_policy, "prefer (most)"), (odd_maps, "maps")],
)
def test_what_is_not_understood_is_said_and_read_ever_more_rarely(two, kit, make_odd, named):
    make_odd(two)
    reads, report = reads_of(two, 600, kit)
    assert 3 < reads["100"] <= 15
    assert (report.state, report.reason) == ("Failed", "Failed")
    assert named in report.message
    assert two.machine.policies(101)["[heap]"] == kit.CXL


def test_a_process_that_never_gets_memory_is_tried_at_once_and_then_ever_more_rarely(two, kit):
    no_memory(two)
    reads, report = reads_of(two, 10, kit)
    assert reads["100"] >= 4
    assert report.state == "Moving"
    two.run(590)
    assert reads["100"] <= 15
    assert two.machine.policies(101)["[heap]"] == kit.CXL


def test_what_is_understood_again_is_placed(two, kit):
    odd_policy(two)
    _, report = reads_of(two, 60, kit)
    assert report.state == "Failed"
    two.odd.clear()
    assert two.run(120)[ONE].state == "Placed"
    assert two.machine.policies(100)["[heap]"] == kit.CXL


@pytest.fixture
def surveyor(two):
    host, machine = two.machine.host, two.machine
    reader = Reader(host, machine, Way.MAPS, ask=machine.read_vmas)
    return Surveyor(host, reader, shared_pool(), two.metrics)


@pytest.fixture
def pinned(two):
    pinner = Pinner(two.machine.host, two.machine, Identities(unique_inodes=True))
    with pinner.pin(100, lambda _: True) as found:
        yield found


def test_a_walk_that_fails_is_paid_off_like_any_other(two, surveyor, pinned):
    """As of a process of many GiB: what walks its page tables takes 1 % of the time at most."""
    file, reads = two.machine.host.pid(100) / "numa_maps", []
    lines = (f"{number << 12:x} default anon={number} N0=1\n" for number in range(20_000))
    file.write_text("".join(lines) + "nonsense\n")
    two.machine.on_read = reads.append
    first = surveyor.read(pinned, "ns")
    end = time.monotonic() + 20 * first.view.numa_took
    assert first.incomplete.reason is Reason.BAD_TEXT
    while time.monotonic() < end:
        again = surveyor.read(pinned, "ns", audit=True)
        assert again.incomplete == first.incomplete
    assert len(reads) == 1


def test_what_a_walk_can_read_again_is_read(two, surveyor, pinned):
    file = two.machine.host.pid(100) / "numa_maps"
    before = file.read_text()
    file.write_text("nonsense\n")
    assert surveyor.read(pinned, "ns").incomplete
    file.write_text(before)
    eventually(lambda: surveyor.read(pinned, "ns").incomplete is None)
    assert surveyor.read(pinned, "ns").policies is not None
