# SPDX-License-Identifier: Apache-2.0
"""A claim forgets the programs that ended, and none that anybody still runs."""

import errno
from dataclasses import replace

import pytest
from memplace.claims import Claim, Footprint, Ours
from memplace.ledger import images_of
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.census import Census, live_images
from memplace_agent.hostfs import HostFs
from memplace_agent.procfs.image import parse_image

from tests.unit.agent_pkg.ledger_files import BOTH, CXL
from tests.unit.agent_pkg.test_to_come import LATER, ONE, A, placed

SLACK = 64


def images(node):
    return images_of(node.store.get(A))


def image(node, pid):
    return parse_image((node.machine.host.pid(pid) / "stat").read_text())


def run_programs(node, kit, count, *, parent=100, first=1000, seconds=3.0):
    """Have a process run programs one after the other; returns how many images that made."""
    most = 0
    for pid in range(first, first + count):
        node.machine.fork(parent, pid, A)
        node.machine.execute(pid, kit.anon(LATER))
        node.run(seconds)
        most = max(most, len(images(node)))
        node.machine.end(pid)
    return most


def nothing_is_ours(node):
    node.full(seconds=60)
    pids = node.machine.processes
    return not node.claims and all(set(node.machine.policies(p).values()) <= {None} for p in pids)


def test_programs_that_ended_are_forgotten(started, kit):
    placed(started, kit)
    most = run_programs(started, kit, 200)
    assert SLACK <= most <= SLACK + 2 * 2 + 4
    assert image(started, 100) in images(started)
    assert nothing_is_ours(started)


def test_a_claim_of_a_few_programs_is_left_as_it_is(started, kit):
    placed(started, kit)
    run_programs(started, kit, 40)
    started.run(300)
    assert len(images(started)) == 41


def test_a_child_that_is_forked_while_its_parent_is_read_is_given_back(started, kit):
    """The parent is another program by the next read; its child is in no list of that look."""
    machine = started.machine
    placed(started, kit)
    run_programs(started, kit, SLACK - 1)
    shared = image(started, 100)

    def fork(directory):
        if directory.name == "100":
            machine.on_read = None
            machine.fork(100, 101, A)
            machine.execute(100, kit.anon(LATER))

    machine.on_read = fork
    run_programs(started, kit, 100, first=2000)
    assert image(started, 101) == shared != image(started, 100)
    assert shared in images(started)
    assert len(images(started)) <= SLACK + 2 * 3 + 4
    assert nothing_is_ours(started)


def test_a_child_of_a_vfork_keeps_the_image_of_its_parent(started, kit):
    placed(started, kit)
    started.machine.fork(100, 101, A, borrows=True)
    shared = image(started, 101)
    started.machine.end(100)
    run_programs(started, kit, 100, parent=101, first=2000)
    assert shared in images(started) and len(images(started)) <= SLACK + 2 * 2 + 4


def test_programs_are_forgotten_while_an_undo_is_in_the_way(started, kit):
    placed(started, kit)

    def refuse():
        raise kit.CallFailed(errno.EPERM, "no")

    started.machine.on_future = refuse
    started.full(seconds=5)
    for first in range(1000, 1200, 20):
        for pid in range(first, first + 20):
            started.machine.fork(100, pid, A)
            started.machine.execute(pid)
            started.machine.born(pid, kit.anon(LATER))
        started.run(400)  # so that it is tried again
        for pid in range(first, first + 20):
            started.machine.end(pid)
    assert 20 <= len(images(started)) <= SLACK + 2 * 21 + 2 * 20
    started.machine.on_future = None
    started.run(600)
    assert nothing_is_ours(started)


def test_a_claim_that_grows_too_large_is_said_and_undone(started, kit, monkeypatch):
    placed(started, kit)
    size = next(started.machine.host.journal.glob("*.json")).stat().st_size
    monkeypatch.setattr("memplace_agent.ledger_store._LARGEST", size + 100)
    # More at once than fit: none of them ended.
    for pid in range(1000, 1020):
        started.machine.fork(100, pid, A)
        started.machine.execute(pid, kit.anon(LATER))
    report = started.run(60)[ONE]
    assert report.state == "Failed" and "the claim of container" in report.message
    assert "can be given back" in report.message
    started.restart()
    assert not started.store.unread
    assert nothing_is_ours(started)


# --- one census ---


def ref_of(node, name="a"):
    return CgroupRef(node.machine.host.cgroup, node.machine.cgroup(name * 64), "uid-p")


def claim_of(*known):
    footprint = Footprint(images=frozenset(known), ours=(Ours(CXL, BOTH),))
    return Claim(container=A, placement=("u", "ns", "mp"), since=1.5, footprints=(footprint,))


@pytest.fixture
def taken(node):
    """A census of a claim with many images, and of the two processes that there are."""
    node.machine.start(100, A)
    node.machine.start(200, "b" * 64)
    found = {image(node, 100), image(node, 200)}
    node.store.put(claim_of(*found, *range(1, SLACK + 1)))
    return Census(node.machine.host, node.store)


def test_a_process_that_one_census_left_out_is_not_forgotten(node, taken):
    both = {ref_of(node), ref_of(node, "b")}
    taken.take(A, lambda: {ref_of(node)})
    assert len(images(node)) == SLACK + 2
    taken.take(A, lambda: both)
    assert images(node) == {image(node, 100), image(node, 200)}


def test_images_that_two_in_a_row_have_missed_are_forgotten(node, taken):
    for _ in range(2):
        taken.take(A, lambda: {ref_of(node)})
    assert images(node) == {image(node, 100)}


def test_a_census_of_nobody_forgets_nothing(node, taken):
    for _ in range(3):
        taken.take(A, lambda: {ref_of(node, "c")})
        taken.take(A, lambda: set())
    assert len(images(node)) == SLACK + 2


def test_what_a_birth_adds_meanwhile_stays(node, taken):
    newborn = replace(claim_of(), footprints=(), defaults=(Ours(CXL, BOTH),))

    def refs():
        assert node.store.put_newborn(newborn, 1.0)
        return {ref_of(node)}

    for _ in range(2):
        taken.take(A, refs)
    assert images(node) == {image(node, 100)}
    assert node.store.get(A).defaults == newborn.defaults


def test_a_claim_that_cannot_be_written_is_pruned_later(node, taken, monkeypatch):
    def full(_name, _data):
        raise OSError(errno.ENOSPC, "no room")

    refs = {ref_of(node)}
    with monkeypatch.context() as patched:
        patched.setattr(node.store.directory, "replace", full)
        for _ in range(3):
            taken.take(A, lambda: refs)
    assert len(images(node)) == SLACK + 2
    for _ in range(2):
        taken.take(A, lambda: refs)
    assert images(node) == {image(node, 100)}


class Busy(HostFs):
    """Something happens whenever a process is looked up."""

    happens = staticmethod(lambda _pid: None)

    def pid(self, pid):
        type(self).happens(pid)
        return super().pid(pid)


def busy(node, happens):
    host = node.machine.host
    kind = type("Host", (Busy,), {"happens": staticmethod(happens)})
    return kind(proc=host.proc, cgroup=host.cgroup)


def test_who_is_forked_during_a_census_is_asked_too(node):
    machine = node.machine
    machine.start(100, A)
    shared = image(node, 100)

    def fork(pid):
        if pid == 100 and 101 not in machine.processes:
            machine.fork(100, 101, A)
            machine.execute(100)

    assert live_images(busy(node, fork), [ref_of(node)]) == frozenset({shared, image(node, 100)})


def test_it_is_not_known_who_lives_where_everybody_forks(node):
    machine = node.machine
    machine.start(100, A)
    host = busy(node, lambda pid: machine.fork(pid, pid + 1, A))
    assert live_images(host, [ref_of(node)]) is None


def test_who_ended_has_no_image(node):
    machine = node.machine
    machine.start(100, A)
    machine.fork(100, 101, A)
    machine.execute(101)
    host = busy(node, lambda pid: pid == 101 and pid in machine.processes and machine.end(pid))
    assert live_images(host, [ref_of(node)]) == frozenset({image(node, 100)})


def test_nothing_is_concluded_where_an_image_is_hidden(node, taken):
    stat = node.machine.host.pid(200) / "stat"
    before, _, after = stat.read_text().rpartition(") ")
    fields = after.split()
    fields[23] = "1"  # as the kernel writes an address that it hides
    stat.write_text(f"{before}) {' '.join(fields)}\n")
    refs = {ref_of(node), ref_of(node, "b")}
    assert live_images(node.machine.host, refs) is None
    for _ in range(3):
        taken.take(A, lambda: refs)
    assert len(images(node)) == SLACK + 2


def test_a_process_whose_first_thread_ended_has_that_of_the_others(leaderless, tmp_path):
    (tmp_path / "cgroup.procs").write_text(f"{leaderless.pid}\n")
    host = HostFs()
    images = live_images(host, [CgroupRef(tmp_path.parent, tmp_path, "uid-p")])
    assert images is not None
    (found,) = images
    tasks = (host.pid(leaderless.pid) / "task").iterdir()
    assert found in {parse_image((task / "stat").read_text()) for task in tasks}
    assert parse_image((host.pid(leaderless.pid) / "stat").read_text()) == 0
