# SPDX-License-Identifier: Apache-2.0
"""What fails in one step is done in another; edits wait for their turn, and for each other."""

from __future__ import annotations

import threading
import time

import pytest
from memplace_agent.cluster.kinds import Kind
from memplace_agent.engine.build import open_ledger
from memplace_agent.threads import Threads

from tests.unit.agent_pkg.test_watch import eventually
from tests.unit.agent_pkg.test_worker import Agent, worked
from tests.unit.agent_pkg.test_world import RUNNING, placement, pod


@pytest.fixture
def at_work(node, kit):
    return worked(node, kit)


def once(monkeypatch, owner, name, error):
    """Have something fail the first time."""
    real, left = getattr(owner, name), [error]

    def failing(*args, **kwargs):
        if left:
            raise left.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)


def counted(monkeypatch, owner, name, then=lambda: None):
    """Have calls counted, and something done with each."""
    real, calls = getattr(owner, name), []

    def counting(*args, **kwargs):
        calls.append(args)
        then()
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, counting)
    return calls


def bear(agent, seconds):
    """Let time pass, errors or not; returns those that came."""
    errors = []
    for _ in range(int(seconds * 4)):
        try:
            agent.run(0.25)
        except Exception as err:
            errors.append(err)
            agent.node.clock.now += 0.25
    return errors


NO_FILES = OSError(24, "Too many open files")


@pytest.mark.parametrize("what", ["take", "snapshot"])
def test_what_could_not_be_taken_once_is_taken_without_another_event(
    node, kit, monkeypatch, what
) -> None:
    node.machine.start(100, "a" * 64, kit.heap(), pod=pod(RUNNING)["metadata"]["uid"])
    agent = Agent(node)
    agent.list()
    owner = node.reconciler if what == "take" else agent.cache
    once(monkeypatch, owner, what, NO_FILES)
    agent.cache.event(Kind.PLACEMENT, "ADDED", placement())
    agent.cache.event(Kind.POD, "ADDED", pod(RUNNING))
    assert bear(agent, 60) == [NO_FILES]
    assert node.machine.policies(100)["[heap]"] == kit.CXL


def test_an_edit_whose_take_broke_off_in_the_middle_is_looked_at_at_once(
    at_work, node, kit, monkeypatch
) -> None:
    at_work.run(60)
    once(monkeypatch, node.reconciler._parts.due, "changed", NO_FILES)
    rule = kit.rule({"type": "Heap"}, "PreferredMany", "dram")
    edited = placement(rules=[rule], generation=2)
    at_work.cache.event(Kind.PLACEMENT, "MODIFIED", edited)
    assert bear(at_work, 3) == [NO_FILES]
    assert node.machine.policies(100)["[heap]"] != kit.CXL


def test_memory_that_came_and_could_not_be_taken_is_taken_later(at_work, node, monkeypatch) -> None:
    at_work.run(60)
    taken = counted(monkeypatch, node.reconciler, "take")
    once(monkeypatch, node.reconciler, "take", NO_FILES)
    node.machine.add_node(2, cpus="", tier=6)
    assert bear(at_work, 120) == []  # no other part of the audit waits for it
    assert len(taken) == 1


def test_a_ledger_that_cannot_be_worked_on_once_is_no_other_agents(node, kit) -> None:
    """What was opened for it is closed again: else the agent would wait for itself."""
    errors = [RecursionError("maximum recursion depth exceeded")]

    def engine(node, store):
        if errors:
            raise errors.pop()
        node.store = store
        node.start()
        return node.reconciler

    node.store.close()
    agent = Agent(node, ledger=lambda: open_ledger(node.machine.host), engine=engine).list()
    said = [next(c for c in s.conditions if c.type == "Supported") for s in agent.sink.published]
    assert said[0].status == "False" and "recursion" in said[0].message
    assert {c.reason for c in said} == {"FeatureUnavailable", "ProcessMbindAvailable"}
    assert agent.condition("Supported").status == "True"


def test_a_report_that_could_not_be_made_is_made_later(at_work, monkeypatch) -> None:
    at_work.run(60)
    once(monkeypatch, at_work.sink, "publish", NO_FILES)
    at_work.cache.event(Kind.PLACEMENT, "DELETED", placement())
    assert bear(at_work, 15) == [NO_FILES]
    assert not at_work.status.placements


@pytest.mark.parametrize("what", ["audit", "step", "reports"])
def test_a_worker_whose_steps_all_fail_is_not_called_healthy(
    at_work, node, monkeypatch, what
) -> None:
    """Its lease ends, and the kubelet restarts it: that may help where nothing else does."""

    def broken(*_):
        raise NO_FILES

    real = getattr(type(node.reconciler), what)
    broken_one = property(broken) if what == "reports" else broken
    monkeypatch.setattr(type(node.reconciler), what, broken_one)
    monkeypatch.setattr("memplace_agent.engine.worker._STEP_S", 0.01)
    at_work.pulse.limit_s = 0.3
    threads = Threads()
    at_work.cache.changed.set()
    node.clock.now += 30
    threads.start(lambda stop, _: at_work.worker.run(stop), at_work.pulse)

    def is_told():
        node.clock.now += 5
        return any("has failed" in problem for problem in threads.problems())

    eventually(is_told)
    monkeypatch.setattr(type(node.reconciler), what, real)
    eventually(lambda: threads.is_alive)
    threads.stop.set()
    at_work.cache.changed.set()
    threads.join(5)


def edit(agent, generation):
    rule = {"name": "heap", "regions": [{"type": "Heap", "minSize": f"{generation}Ki"}]}
    policy = {"mode": "PreferredMany", "tiers": ["cxl"]}
    edited = placement(rules=[rule | {"policy": policy}], generation=generation)
    agent.cache.event(Kind.PLACEMENT, "MODIFIED", edited)


def test_edits_of_a_second_are_taken_together(at_work, node, kit, monkeypatch) -> None:
    at_work.run(60)
    takes = counted(monkeypatch, node.reconciler, "take")
    for generation in range(2, 102):
        edit(at_work, generation)
        at_work.worker.step()
        assert takes  # the first of a quiet time is taken at once
        node.clock.now += 0.01
    assert len(takes) <= 5
    at_work.run(1)
    assert takes[-1][0].placements[0].generation == 101


def test_who_edits_all_the_time_leaves_others_their_looks(at_work, node, kit, monkeypatch) -> None:
    """As on a node with so many placements that an edit takes 0.3 s, and a report as long."""
    at_work.run(60)
    other = placement("other", namespace="elsewhere")
    theirs = pod({**RUNNING, "containerID": f"containerd://{'b' * 64}"})
    theirs["metadata"] |= {"namespace": "elsewhere", "uid": "theirs", "name": "q"}
    node.machine.start(200, "b" * 64, kit.heap(), pod="theirs")
    at_work.cache.event(Kind.PLACEMENT, "ADDED", other)
    at_work.cache.event(Kind.POD, "ADDED", theirs)
    at_work.run(20)
    assert node.machine.policies(200)["[heap]"] == kit.CXL

    def works(seconds):
        def work():
            node.clock.now += seconds
            at_work.spent += seconds

        return work

    takes = counted(monkeypatch, node.reconciler, "take", works(0.3))
    said = counted(monkeypatch, at_work.sink, "publish", works(0.3))
    node.machine.born(200, kit.anon(0x30000000, kit.MIB))
    end, generation = node.clock.now + 20, 2
    while node.clock.now < end:
        edit(at_work, generation)
        at_work.worker.step()
        generation, node.clock.now = generation + 1, node.clock.now + 0.1
    assert 7 <= len(takes) <= 10 and 5 <= len(said) <= 8
    assert node.machine.policies(200)["0x30000000"] == kit.CXL


def test_a_change_that_waits_ends_no_round_of_looks(at_work, node, monkeypatch) -> None:
    looks = []

    def step():
        at_work.cache.changed.set()
        node.clock.now += 0.01
        looks.append("look")
        return True

    monkeypatch.setattr(node.reconciler, "step", step)
    at_work.cache.changed.set()
    at_work.worker.step()
    assert 20 < len(looks) < 30  # until it may be taken


def test_a_change_that_waits_keeps_no_processor_busy(at_work, monkeypatch) -> None:
    steps, stop = counted(monkeypatch, at_work.worker, "step"), threading.Event()
    at_work.cache.changed.set()
    at_work.worker.step()
    at_work.cache.changed.set()
    thread = threading.Thread(target=at_work.worker.run, args=(stop,), daemon=True)
    began = time.monotonic()
    thread.start()
    time.sleep(0.6)
    assert len(steps) <= 3 + 4 * (time.monotonic() - began)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
