# SPDX-License-Identifier: Apache-2.0
"""Containers have their default while the runtime makes them: real inotify on real directories,
processes of text."""

import errno
import threading
from dataclasses import replace

import pytest
from memplace_agent.errors import CallFailed
from memplace_agent.world import World

from tests.support.agent.build import HEAP_RULE, new_pod, rule
from tests.support.agent.machine import BIND, CXL, MIB
from tests.unit.agent_pkg.test_to_come import plain

PAUSE, A, B = "5" * 64, "a" * 64, "b" * 64
BRK, MMAP = 1, 2
CXL_BOTH = {kind: (CXL.mode, CXL.nodes, frozenset()) for kind in (BRK, MMAP)}


class Ward:
    """A node whose births the test drives."""

    def __init__(self, node, kit):
        self.node, self.kit, self.machine = node, kit, node.machine
        self.births = node.engine.births
        self.machine.start(50, PAUSE, comm="pause")

    def expect(self, *rules, pods=None, **world):
        placement = self.kit.placement(rules=list(rules) or [HEAP_RULE])
        pods = [new_pod()] if pods is None else pods
        self.node.reconciler.take(World(placements=(placement,), pods=tuple(pods), **world))
        self.rounds(2)

    def rounds(self, count=6):
        for _ in range(count):
            self.births.step(0.0)
            self.settle()
            self.node.clock.now += 0.001

    def settle(self):
        """Calls are made by other threads; the clock stands meanwhile."""
        callers = self.births._callers
        while callers and any(call.ended is None for call in callers._calls):
            threading.Event().wait(0.001)

    def full(self, *placements, pods):
        """As `Node.full`, with the thread that births have."""
        self.node.reconciler.take(World(placements=placements, pods=tuple(pods)))
        self.end()
        return self.node.run(15)

    def end(self):
        """Until nobody is being born any more."""
        for _ in range(200):
            self.node.clock.now += 0.05
            self.births.step(0.0)
            self.settle()

    def future(self, pid=100):
        return plain({k: p for k, (p, _) in self.machine.processes[pid].future.items()})

    @property
    def reached(self):
        (family,) = self.node.metrics.births.collect()
        samples = [each for each in family.samples if each.name.endswith("_total")]
        return {each.labels["reached"]: int(each.value) for each in samples}


@pytest.fixture
def ward(node, kit):
    made = Ward(node, kit)
    yield made
    made.births.close()


def test_a_container_that_is_made_gets_it_before_anybody_looks(ward):
    ward.expect()
    ward.machine.start(100, A)
    ward.rounds()
    assert ward.future() == CXL_BOTH
    assert not ward.machine.calls  # no look has been there
    ward.end()
    assert ward.reached == {"early": 1}


def test_what_was_executed_and_mapped_since_is_taken_over_as_ours(ward, kit):
    ward.expect()
    ward.machine.start(100, A)
    ward.rounds()
    ward.machine.execute(100)
    ward.machine.born(100, kit.anon(0x50000000))
    made = len(ward.machine.futures)
    report = ward.full(kit.placement(rules=[HEAP_RULE]), pods=[new_pod("c0", ids=[A])])
    report = report[("mp", "p", "c0")]
    assert report.state == "Placed" and report.rules[0].own_regions == 0
    assert len(ward.machine.futures) == made and not ward.machine.calls
    ward.full(pods=[new_pod("c0", ids=[A])])
    assert ward.future() == {} and set(ward.machine.policies(100).values()) == {None}
    assert not ward.node.claims


def test_one_that_was_never_looked_at_is_undone_after_a_restart(ward, kit):
    ward.expect()
    ward.machine.start(100, A)
    ward.rounds()
    ward.machine.born(100, kit.anon(0x50000000))
    ward.node.restart()
    ward.node.full(pods=[new_pod()])
    assert ward.future() == {} and set(ward.machine.policies(100).values()) == {None}
    assert not ward.node.claims


def test_the_claim_is_on_disk_before_the_call(ward):
    path = ward.machine.host.journal / f"{A}.v2.json"
    seen = []
    ward.machine.on_future = lambda: seen.append(path.exists())
    ward.expect()
    ward.machine.start(100, A)
    ward.rounds()
    assert seen == [True]


def test_no_call_is_made_if_the_claim_can_not_be_written(ward, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(ward.node.store.directory, "replace", full)
    ward.expect()
    ward.machine.start(100, A)
    ward.end()
    assert not ward.machine.futures and ward.reached == {"missed": 1}


def test_a_stage_forked_before_its_parent_had_it_gets_it_too(ward):
    ward.expect()
    ward.machine.start(100, A)
    ward.rounds(1)  # it is asked for
    ward.machine.fork(100, 101, A, future={})
    ward.machine.end(100)
    ward.rounds()
    assert ward.future(101) == CXL_BOTH


def test_a_stage_that_comes_later_is_waited_for(ward):
    ward.expect()
    ward.machine.start(100, A)
    ward.rounds(50)
    ward.machine.fork(100, 101, A, future={})
    ward.rounds(10)
    assert ward.future(101) == CXL_BOTH


def test_one_that_has_it_from_its_parent_needs_no_call(ward):
    ward.expect()
    ward.machine.start(100, A)
    ward.rounds()
    ward.machine.fork(100, 101, A)
    ward.end()
    assert len(ward.machine.futures) == 1 and ward.reached == {"early": 1}


def test_a_child_of_vfork_is_left_until_it_has_memory_of_its_own(ward):
    ward.expect()
    ward.machine.start(100, A, borrows=True)
    ward.rounds()
    assert ward.future() == {}
    ward.machine.execute(100)
    ward.rounds()
    assert ward.future() == CXL_BOTH


def test_the_sandbox_is_left_alone(ward):
    ward.machine.end(50)
    (ward.machine.cgroup(PAUSE)).joinpath("cgroup.procs").unlink()
    ward.machine.cgroup(PAUSE).rmdir()
    ward.expect()
    ward.machine.start(51, PAUSE)  # it has no name of its own yet
    ward.end()
    assert not ward.machine.futures and ward.reached == {}
    ward.machine.start(100, A)
    ward.rounds()
    assert ward.future() == CXL_BOTH


@pytest.mark.parametrize("comm", ["pause", "conmon"])
def test_programs_of_the_runtime_are_left_alone_wherever_they_are(ward, comm):
    ward.expect()
    ward.machine.start(100, A, comm=comm)
    ward.end()
    assert not ward.machine.futures and ward.reached == {}


def test_the_monitor_of_a_container_is_left_alone(ward):
    ward.expect()
    path = ward.machine.cgroup(A).parent / f"crio-conmon-{A}.scope"
    ward.machine.cgroup(A).rmdir()
    path.mkdir()
    ward.machine.start(100, B, pod="uid_q")
    (path / "cgroup.procs").write_text("100\n")
    ward.end()
    assert not ward.machine.futures


def test_a_process_in_another_cgroup_by_now_is_left_alone(ward):
    ward.expect()
    ward.machine.start(100, A)
    (ward.machine.host.pid(100) / "cgroup").write_text("0::/system.slice\n")
    ward.end()
    assert not ward.machine.futures


def test_one_that_has_a_default_of_its_own_keeps_it(ward):
    ward.expect()
    ward.machine.start(100, A, future={BRK: (BIND, 0), MMAP: (BIND, 0)})
    ward.end()
    assert not ward.machine.futures and ward.reached == {} and not ward.node.claims


def test_one_that_fails_is_counted_as_missed(ward):
    def fail():
        raise CallFailed(errno.EINVAL, "no")

    ward.machine.on_future = fail
    ward.expect()
    ward.machine.start(100, A)
    ward.end()
    assert ward.reached == {"missed": 1}


def test_one_that_was_seen_late_is_counted_as_late(ward):
    ward.expect()
    ward.machine.start(100, A)
    ward.births._wait(0)
    for born in ward.births._events.read():
        ward.births._hear(born)
    ward.node.clock.now += 0.05
    ward.end()
    assert ward.future() == CXL_BOTH and ward.reached == {"late": 1}


def test_nothing_is_watched_without_a_placement_that_implies_a_default(ward):
    ward.expect(rule({"type": "Heap", "process": "a*"}, name="values"))
    assert not ward.births.is_watching
    ward.expect()
    assert ward.births.is_watching and ward.births.watches
    ward.expect(pods=[])
    assert not ward.births.is_watching and not ward.births.watches


def test_nothing_is_watched_where_the_kernel_has_no_defaults(ward):
    ward.node.future = 1
    ward.node.start()
    ward.births = ward.node.engine.births
    ward.expect()
    assert not ward.births.is_watching


def test_a_pod_whose_containers_want_different_things_is_left_to_the_looks(ward, kit):
    one = kit.placement(rules=[HEAP_RULE], containers=["c0"])
    world = World(placements=(one,), pods=(new_pod("c0", "c1"),))
    ward.node.reconciler.take(world)
    ward.machine.start(100, A)
    ward.end()
    assert not ward.machine.futures


def test_a_pod_that_may_follow_a_placement_nobody_understands_is_left(ward):
    ward.expect(held_pods=frozenset({"uid-p"}))
    assert not ward.births.is_watching


def test_bind_is_born_preferred(ward):
    ward.expect(rule({"type": "Heap"}, mode="Bind"))
    ward.machine.start(100, A)
    ward.rounds()
    assert ward.future() == CXL_BOTH


def test_it_ends_with_the_placement_and_no_claim_is_dropped_meanwhile(ward):
    ward.expect()
    ward.machine.start(100, A)
    ward.rounds()
    ward.node.store.drop(A)  # as an undo that found nothing would
    assert ward.node.claims
    ward.expect(pods=[])
    ward.rounds(3)
    ward.node.store.drop(A)
    assert not ward.node.claims


def test_what_a_look_writes_meanwhile_keeps_the_default_of_the_birth(ward):
    ward.expect()
    ward.machine.start(100, A)
    ward.rounds()
    (claim,) = ward.node.claims
    ward.node.store.put(replace(claim, defaults=()))
    assert ward.node.claims == (claim,)


def test_one_that_ends_before_anybody_hears_of_it_leaves_no_claim(ward):
    ward.expect()
    ward.machine.start(100, A)
    ward.end()
    assert ward.node.claims
    ward.machine.end(100)
    ward.node.run(120)
    assert not ward.node.claims


def test_a_pid_that_is_another_process_by_now_is_looked_at_again(ward):
    ward.expect()
    ward.machine.start(100, A)
    ward.rounds()
    ward.machine.end(100)
    ward.rounds(10)
    ward.machine.start(100, A)
    ward.rounds()
    assert ward.future() == CXL_BOTH


def test_a_restarted_container_is_another_one(ward):
    ward.expect()
    for pid, container in ((100, A), (101, B)):
        ward.machine.start(pid, container)
        ward.rounds()
        assert ward.future(pid) == CXL_BOTH
        ward.machine.end(pid)
        ward.end()
    assert ward.reached == {"early": 2}


def test_one_without_a_process_ends_by_itself_and_is_counted(ward):
    """The sandbox runs, so it is one of the pod's containers, of a runtime that is slow."""
    ward.expect()
    (ward.machine.cgroup(A) / "cgroup.procs").touch()
    ward.rounds(1)
    assert ward.births._cradles
    ward.end()
    assert not ward.births._cradles and ward.reached == {"missed": 1}


def test_a_sandbox_without_a_process_is_not(ward):
    ward.machine.end(50)
    ward.expect()
    (ward.machine.cgroup(A) / "cgroup.procs").touch()
    ward.rounds(1)
    ward.end()
    assert not ward.births._cradles and ward.reached == {}


def test_a_birth_that_is_cut_off_in_the_middle_leaves_nothing_unknown(ward, kit):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    ward.expect()
    ward.machine.start(100, A)
    ward.births._tools(ward.node.store).callers.submit = killed
    with pytest.raises(Killed):
        ward.rounds()
    assert ward.node.claims  # it says more than is true
    ward.node.restart()
    ward.node.full(pods=[new_pod()])
    assert not ward.node.claims


def test_many_at_once_are_all_reached(ward, kit):
    ward.expect()
    for number in range(40):
        ward.machine.start(1000 + number, f"{number:064x}", pod="uid_p")
    ward.rounds(30)
    ward.end()
    assert all(ward.future(1000 + number) == CXL_BOTH for number in range(40))
    assert (
        ward.machine.processes[1000].vmas[0].end - ward.machine.processes[1000].vmas[0].start < MIB
    )
