# SPDX-License-Identifier: Apache-2.0
"""Nothing one process, container or tenant does stops the work for others, and what the agent
does is bounded, whatever a program does meanwhile."""

import errno
import logging
import os
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from memplace.rebind import STATIC
from memplace_agent.containers import members
from memplace_agent.containers.index import CgroupIndex
from memplace_agent.engine.pool import Pool
from memplace_agent.procfs.query import Way
from memplace_agent.syscalls import MPOL_MF_MOVE

from tests.support.agent import machine
from tests.support.agent.machine import CXL

A, B = "a" * 64, "b" * 64
ONE, TWO = ("mp", "p", "c0"), ("mp", "p", "c1")
OURS = replace(CXL, flags=frozenset({STATIC}))


def both(node, kit, **spec):
    return node.full(kit.placement(**spec), pods=[kit.pod(ids="ab")])


def test_a_process_that_cannot_be_read_is_tried_ever_more_rarely(started, kit):
    tries = []

    def denied(directory):
        if directory.name == "101":
            tries.append(1)
            raise PermissionError(errno.EACCES, "Permission denied")

    started.machine.start(101, A, kit.heap())
    started.machine.on_read = denied
    started.full(kit.placement(), seconds=600)
    assert 3 <= len(tries) <= 12
    assert started.reports()[ONE].reason == "MissingCapability"
    assert started.machine.policies(100)["[heap]"] == kit.CXL


def test_a_process_that_ends_meanwhile_is_no_warning(started, kit, monkeypatch, caplog):
    """exit() takes the memory first: then move_pages() fails, and the process lives on a while."""

    def ending(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr(machine, "node_at", ending)
        started.full(kit.placement())
    about = [one for one in caplog.records if getattr(one, "pid", 0) == 100]
    assert about and {one.levelname for one in about} == {"INFO"}
    assert "it ends, or its first thread has ended" in about[0].error
    assert started.full(kit.placement())[ONE].state == "Placed"


def test_an_error_nobody_thought_of_is_about_one_process(started, kit, monkeypatch):
    started.machine.start(101, A, kit.heap())
    started.machine.start(200, B, kit.heap())
    real = started.reconciler._parts.looker.placer.place

    def odd(pinned, *rest, **kwargs):
        if pinned.pid == 100:
            raise ValueError("odd")
        return real(pinned, *rest, **kwargs)

    monkeypatch.setattr(type(started.reconciler._parts.looker.placer), "place", staticmethod(odd))
    reports = both(started, kit)
    assert started.machine.policies(101)["[heap]"] == kit.CXL
    assert reports[ONE].rules[0].bytes == kit.MIB  # of the other process
    assert reports[TWO].state == "Placed"
    assert reports[ONE].state == "Failed" and "odd" in reports[ONE].message


def test_an_error_nobody_thought_of_is_about_one_container(started, kit, monkeypatch):
    started.machine.start(200, B, kit.heap())
    real = started.reconciler._parts.looker.look

    def odd(container, ref):
        if container.wanted.container_id == A:
            raise AssertionError("odd")
        return real(container, ref)

    monkeypatch.setattr(type(started.reconciler._parts.looker), "look", staticmethod(odd))
    reports = both(started, kit)
    assert reports[TWO].state == "Placed"
    assert reports[ONE].state == "Failed" and "odd" in reports[ONE].message


@pytest.fixture
def hung(node):
    """A node where reads of process 100 do not come back before the test lets them."""
    free = threading.Event()
    node.pool = Pool(size=2)
    node.start()
    node.reconciler._parts.looker.hands.surveyor.deadline_s = 0.05
    node.machine.on_read = lambda directory: directory.name == "100" and free.wait(30)
    yield node
    free.set()


def test_a_process_that_hangs_is_quarantined_and_said(hung, kit):
    hung.machine.start(100, A, kit.heap())
    hung.machine.start(101, A, kit.heap())
    hung.machine.start(200, B, kit.heap())
    reports = both(hung, kit)
    assert reports[ONE].reason == "Stuck"
    assert reports[TWO].state == "Placed"
    assert hung.machine.policies(101)["[heap]"] == kit.CXL
    assert hung.pool.lost == 1


def test_a_process_is_asked_itself_whether_it_is_a_member(node, kit, monkeypatch):
    for number in range(60):
        node.machine.start(100 + number, A, kit.heap(pages=1))
    reads = []
    real = members._procs
    monkeypatch.setattr(members, "_procs", lambda path: (reads.append(path), real(path))[1])
    node.full(kit.placement(), seconds=0.5)
    assert node.machine.policies(159)["[heap]"] == kit.CXL
    assert len(reads) <= 4


def test_every_process_ticks_the_watchdog(node, kit):
    for number in range(20):
        node.machine.start(100 + number, A, kit.heap(pages=1))
    node.full(kit.placement())
    ticks = []
    node.reconciler._parts.looker.tick = lambda: ticks.append(1)
    node.run(20)
    assert len(ticks) >= 20


def test_patterns_that_cost_too_much_are_about_one_process(node, kit):
    costly = [{"type": "File", "path": f"/*x{number}*"} for number in range(480)]
    rules = [
        kit.rule(costly[at], "PreferredMany", "cxl")
        | {"name": f"r{at}", "regions": costly[at : at + 16], "exclude": costly[at + 16 : at + 32]}
        for at in range(0, 480, 32)
    ]
    rules.append(kit.rule({"type": "Heap"}, "PreferredMany", "cxl"))
    paths = ["/" + "a" * 4000 + f"{number}" for number in range(500)]
    files = [kit.anon((1 << 32) + (n << 21), path=path) for n, path in enumerate(paths)]
    node.machine.start(100, A, kit.heap(), *files)
    node.machine.start(101, A, kit.heap())
    node.machine.start(200, B, kit.heap())
    ticks = []
    node.reconciler._parts.looker.tick = lambda: ticks.append(time.thread_time())
    began = time.thread_time()
    reports = both(node, kit, rules=rules)
    assert node.machine.policies(101)["[heap]"] == kit.CXL
    assert reports[TWO].state == "Placed"
    assert reports[ONE].reason == "RulesTooCostly"
    assert "entries of regions and exclude: 481" in reports[ONE].message
    assert "fewer entries" in reports[ONE].message
    # It is tried again later; meanwhile each look is short.
    assert len(ticks) >= 3
    assert max(b - a for a, b in pairwise([began, *ticks, time.thread_time()])) < 5


def test_whether_pages_are_merged_is_asked_once_for_many_moves(node, kit, monkeypatch):
    ksm = node.machine.host.ksm / "pages_sharing"
    ksm.parent.mkdir(parents=True)
    ksm.write_text("1000\n")
    regions = [kit.anon((1 << 32) + (n << 21)) for n in range(500)]
    node.machine.start(100, A, *regions)
    read, real = [], Path.read_text

    def read_text(path, *args, **kwargs):
        read.extend([path] if path == ksm else [])
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    node.full(kit.placement(), seconds=0.5)
    assert any(call[3] & MPOL_MF_MOVE for call in node.machine.calls)
    assert 1 <= len(read) <= 4


@pytest.mark.parametrize("undo", [False, True])
def test_ranges_behind_bad_ones_are_done(node, kit, undo):
    bad = [kit.anon(0x20000000 + i * 0x1000000) for i in range(10)]
    node.machine.start(100, A, *bad, kit.anon(0x90000000))
    if undo:
        node.full(kit.placement())
    real = node.machine.process_mbind

    def some_fail(pidfd, ranges, policy, flags):
        if ranges[0][0] < 0x90000000:
            raise kit.CallFailed(errno.ENOMEM, "no memory")
        return real(pidfd, ranges, policy, flags)

    node.machine.process_mbind = some_fail
    node.full(*([] if undo else [kit.placement()]))
    assert node.machine.policies(100)["0x90000000"] == (None if undo else kit.CXL)


def test_a_program_that_allocates_all_the_time_is_not_called_failed(node, kit):
    node.machine.start(100, A, kit.heap())
    where = iter(range(0x100000000, 0x900000000, 16 << 20))
    node.machine.on_call = lambda: (
        len(node.machine.calls) < 200 and node.machine.map(100, kit.anon(next(where), 2 << 20))
    )
    node.full(kit.placement(), seconds=1)
    for _ in range(10):
        assert node.run(3)[ONE].state in ("Moving", "Placed")


def test_shared_memory_of_another_pod_is_refused_with_a_reason(node, kit):
    shm = kit.Vma(0x40000000, 0x40200000, "/dev/shm/ring", "rw-s", 7, pages={0: 512}, device=(0, 1))
    node.machine.start(100, A, shm)
    node.machine.start(900, "c" * 64, shm, pod="uid_q")
    rule = kit.rule({"type": "Shared"}, "Bind", "cxl")
    assert node.full(kit.placement(rules=[rule]))[ONE].reason == "SharedWithOthers"
    assert not node.machine.calls


def test_containers_that_are_gone_are_forgotten(node, kit):
    for number in range(20):
        node.machine.start(1000 + number, f"{number:064x}", kit.heap())
        pod = kit.pod()
        node.full(
            kit.placement(), pods=[replace(pod, container_ids={"c0": f"{number:064x}"})], seconds=2
        )
        node.machine.end(1000 + number)
    node.full()
    state = node.reconciler._state
    assert not node.claims and not state.followed and not state.undoing
    node.run(60)
    assert len(node.reconciler._parts.looker.hands.surveyor._known) == 0


def test_a_process_without_its_first_thread_is_said_and_nothing_forgotten(started, kit):
    started.full(kit.placement())
    process = started.machine.processes[100]
    process.vmas, process.state, process.threads = [], "Z", 3
    started.machine.write(100)
    report = started.full(kit.placement())[ONE]
    assert (report.state, report.reason) == ("Failed", "LeaderExited")
    started.full()
    assert started.claims and started.said["mp"].reason == "Undoing"
    assert "the first thread of a process has ended" in started.said["mp"].message


def test_an_empty_view_is_never_placed(started, kit):
    started.machine.processes[100].vmas = []
    started.machine.write(100)
    report = started.full(kit.placement())[ONE]
    assert report.state == "Moving" and not report.rules


def test_growth_next_to_a_placed_region_is_placed(node, kit):
    rule = kit.rule({"type": "Anonymous", "minSize": "4Mi"}, "PreferredMany", "cxl")
    node.machine.start(100, A, kit.anon(0x20000000, 4 * kit.MIB))
    node.full(kit.placement(rules=[rule]))
    node.machine.map(100, kit.anon(0x20400000, kit.MIB))
    node.full(kit.placement(rules=[rule]))
    assert node.machine.policies(100)["0x20400000"] == kit.CXL


def test_undo_works_on_a_full_run(started, kit, monkeypatch):
    started.full(kit.placement())
    started.machine.map(100, kit.anon(0x70000000, policy=OURS))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(started.store.directory), "replace", full)
    started.full()
    assert set(started.machine.policies(100).values()) == {None}


def test_nothing_is_set_that_could_not_be_written_down(started, kit, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(started.store.directory), "replace", full)
    report = started.full(kit.placement())[ONE]
    assert report.state == "Failed" and "No space left" in report.message
    assert not started.machine.calls


def test_undo_that_fails_is_not_hammered(started, kit):
    started.full(kit.placement())
    tries = []

    def refuse():
        tries.append(1)
        raise kit.CallFailed(errno.ENOMEM, "no memory")

    started.machine.on_call = refuse
    started.full(seconds=60)
    assert len(tries) <= 6


def test_a_deleted_placement_stops_a_move_within_one_call(node, kit):
    node.machine.start(100, A, kit.anon(0x100000000, 1 << 30))
    node.full(kit.placement(), seconds=0.5)
    moved = len(node.machine.calls)

    def delete():
        if len(node.machine.calls) == moved + 2:
            node.reconciler.take(replace(node.world, placements=()))

    node.machine.on_call = delete
    node.run(30)
    after = [call for call in node.machine.calls[moved + 3 :] if call[3] & 6]
    assert not after


def test_a_moment_without_a_pod_undoes_nothing(started, kit):
    started.full(kit.placement())
    made = len(started.machine.calls)
    started.full(kit.placement(), pods=[], seconds=120)  # a mirror pod is made again
    started.full(kit.placement())
    assert started.machine.policies(100)["[heap]"] == kit.CXL
    assert len(started.machine.calls) == made


def test_thousands_of_processes_keep_no_other_container_waiting(node, kit):
    for number in range(30):
        node.machine.start(100 + number, A, kit.heap(pages=1))
    node.machine.start(900, B, kit.heap())
    looker = node.reconciler._parts.looker
    ticks = iter(range(1 << 30))
    looker.cost = lambda: next(ticks) * 0.1  # each process takes a tenth of a second
    reports = node.full(kit.placement(), pods=[kit.pod(ids="ab")], seconds=0.3)
    assert node.machine.policies(900)["[heap]"] == kit.CXL
    assert reports[ONE].state == "Moving"
    assert node.machine.policies(129)["[heap]"] is None
    assert node.run(60)[ONE].state == "Placed"
    assert node.machine.policies(129)["[heap]"] == kit.CXL


@pytest.mark.parametrize(("way", "walks"), [(Way.POLICY, 0), (Way.MAPS, 1)])
def test_nothing_that_is_done_regularly_walks_page_tables(node, kit, monkeypatch, way, walks):
    node.way = way
    node.start()
    node.machine.start(100, A, kit.anon(0x100000000, 512 << 20))
    walked = []
    real = Path.read_bytes, os.open

    def see(path):
        walks = Path(path).name in ("numa_maps", "smaps", "smaps_rollup")
        walked.extend([path] if walks else [])

    def read_bytes(path):
        see(path)
        return real[0](path)

    def opened(path, *args, **kwargs):
        see(path)
        return real[1](path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(os, "open", opened)
    node.machine.present = lambda *_: walked.append("pagemap")
    node.full(kit.placement(), seconds=60)
    for number in range(20):
        node.machine.map(100, kit.anon(0x200000000 + number * (1 << 24)))
        node.run(10)
    assert node.reports()[ONE].state == "Placed"
    assert node.machine.policies(100)[hex(0x200000000 + 19 * (1 << 24))] == kit.CXL
    assert len(walked) == walks


def test_containers_that_are_nowhere_do_not_cost_a_walk_each(node, kit, monkeypatch):
    walks, real = [], CgroupIndex.refresh
    monkeypatch.setattr(CgroupIndex, "refresh", lambda index: (walks.append(1), real(index)))
    pods = [replace(kit.pod(f"p{n}"), container_ids={"c0": f"{n:064x}"}) for n in range(100)]
    node.full(kit.placement(), pods=pods, seconds=60)
    assert {report.reason for report in node.reports().values()} == {"CgroupNotFound"}
    assert 30 <= len(walks) <= 2 * 60 + 1


@pytest.mark.parametrize("way", [Way.MAPS, Way.POLICY])
def test_no_page_is_moved_where_no_policy_could_be_set(started, kit, way):
    """The call that moves sets the policy, too, and nobody would ever give that back."""
    limit = started.machine.host.proc / "sys/vm/max_map_count"
    limit.parent.mkdir(parents=True)
    limit.write_text("3\n")
    started.way = way
    started.start()
    found = started.full(kit.placement(), seconds=30)["mp", "p", "c0"]
    assert found.reason == "TooManyMappings"
    assert not started.machine.calls
