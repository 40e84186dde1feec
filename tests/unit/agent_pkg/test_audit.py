# SPDX-License-Identifier: Apache-2.0
"""Where policies are told by numa_maps alone, reads of it are rare, and they are said."""

from dataclasses import dataclass, replace

import pytest
from memplace_agent.backends.choice import choose
from memplace_agent.procfs import process
from memplace_agent.procfs.audit import walk_seconds
from memplace_agent.procfs.process import Reader
from memplace_agent.procfs.query import Way
from memplace_agent.syscalls.features import Features

A = "a" * 64
ONE = ("mp", "p", "c0")
TOOK_S = 5.0
LONGER_S = 8.0


@dataclass(frozen=True)
class Slow(Reader):
    """Reads a process of many pages: only how long that took is made up."""

    def read(self, *args):
        view = Reader.read(self, *args)
        return (
            view
            if view.numa is None
            else replace(view, numa_took=LONGER_S if args[0] == 101 else TOOK_S)
        )


@pytest.fixture
def walked(node, kit):
    """A node where policies are in numa_maps alone, with a placement at work."""
    node.way = Way.MAPS
    node.start()
    surveyor = node.reconciler._parts.looker.hands.surveyor
    reader = surveyor.reader
    surveyor.reader = Slow(reader.host, reader.kernel, reader.way, reader.limit, reader.ask)
    node.machine.start(100, A, kit.heap())
    assert node.full(kit.placement())[ONE].state == "Placed"
    return node


def counted(node):
    """Return how many walks were counted, and the seconds they took."""
    return node.metrics.walks._value.get(), node.metrics.walk_seconds._value.get()


def test_walks_take_one_percent_of_the_time_and_are_counted(walked):
    assert counted(walked) == (1, TOOK_S)
    walked.run(TOOK_S * 99 - 20)
    assert counted(walked) == (1, TOOK_S)
    walked.run(TOOK_S * 99 * 3)
    walks, seconds = counted(walked)
    assert 3 <= walks <= 4 and seconds == walks * TOOK_S


def test_an_undo_audits_at_once_and_is_whole(walked):
    walked.full(seconds=5)
    assert walked.claims == ()
    assert set(walked.machine.policies(100).values()) == {None}


def test_an_undo_that_does_not_end_repeats_no_walk_before_its_rest_is_over(walked, kit):
    def refuse():
        tries.append(walked.clock.now)
        raise kit.CallFailed(12, "no memory")

    tries = []
    walked.machine.on_call = refuse
    before, _ = counted(walked)
    walked.full(seconds=5)
    first, _ = counted(walked)
    # It reads again once the default is gone, in the same go.
    assert tries and first == before + 2
    for _ in range(60):
        whole, why = walked.reconciler.undo_all()
        walked.clock.now += 2
        assert not whole and why
    assert counted(walked)[0] == first
    walked.machine.on_call = None
    walked.clock.now += 2 * TOOK_S * 99
    assert walked.reconciler.undo_all() == (True, "")
    assert set(walked.machine.policies(100).values()) == {None}


def test_processes_of_different_size_come_to_an_end_together(walked, kit):
    def refuse():
        walked.machine.on_call = None
        raise kit.CallFailed(12, "no memory")

    walked.machine.start(101, A, kit.heap())
    assert walked.full(kit.placement())[ONE].state == "Placed"
    walked.machine.on_call = refuse
    began, whole = walked.clock.now, False
    while not whole:
        whole, _ = walked.reconciler.undo_all()
        walked.clock.now += 2
        assert walked.clock.now < began + 2 * LONGER_S * 99 + 10
    assert set(walked.machine.policies(101).values()) == {None}


def test_a_process_that_would_wait_too_long_is_not_walked_at_all(node, kit, monkeypatch):
    """The walk of 1 MiB is taken for one that holds a large process up; another is small."""
    monkeypatch.setattr(process, "MOST_WALK_S", walk_seconds(1 << 20, 1 << 20) / 2)
    node.way = Way.MAPS
    node.start()
    node.machine.start(100, A, kit.heap())
    node.machine.start(200, "b" * 64, kit.heap(pages=16))
    found = node.full(kit.placement(), pods=[kit.pod(ids="ab")], seconds=600)
    assert counted(node)[0] >= 1 and set(node.machine.policies(100).values()) == {None}
    assert found[ONE].reason == "Stuck" and "A kernel with process_mbind()" in found[ONE].message
    assert found["mp", "p", "c1"].state == "Placed"
    monkeypatch.undo()
    assert node.run(600)[ONE].state == "Placed"


@pytest.mark.parametrize(
    ("resident", "page_tables", "seconds"),
    [
        (512 << 30, 1 << 30, 4.096),
        (512 << 30, 2 << 20, 0.008),  # huge pages
        (1 << 30, 1 << 30, 0.008),  # little in each of many page tables
        (0, 0, 0),
    ],
)
def test_how_long_a_walk_takes(resident, page_tables, seconds):
    assert walk_seconds(resident, page_tables) == pytest.approx(seconds)


def test_the_backend_says_that_page_tables_are_walked():
    features = Features(473, 1, 0xF7)
    assert "walks page tables" not in choose(features).message
    assert "walks page tables" in choose(replace(features, walks=True)).message
