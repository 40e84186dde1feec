# SPDX-License-Identifier: Apache-2.0
"""The worker between the cache and the reports, on the machine of text files."""

from __future__ import annotations

import threading

import pytest
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.world import Cache
from memplace_agent.engine.build import open_ledger
from memplace_agent.engine.worker import Worker, WorkerParts
from memplace_agent.syscalls.features import Features
from memplace_agent.threads import Pulse

from tests.unit.agent_pkg.test_app import Sink
from tests.unit.agent_pkg.test_hidden import hide
from tests.unit.agent_pkg.test_watch import eventually
from tests.unit.agent_pkg.test_world import RUNNING, newer, placement, pod


class Agent:
    """A worker on a node; time passes when the test says so."""

    def __init__(self, node, ledger=None, engine=lambda node, _: node.reconciler):
        self.node, self.cache, self.sink = node, Cache("n1"), Sink()
        node.follows = self.cache.follows
        self.pulse, self.spent = Pulse("worker", 120), 0.0
        self.worker = Worker(
            WorkerParts(
                host=node.machine.host,
                features=Features(473, 2, flags=0xF7, error=node.unsupported),
                open_ledger=ledger or (lambda: node.store),
                make_reconciler=lambda store: engine(node, store),
                metrics=node.metrics,
                source=self.cache,
                sink=self.sink,
                pulse=self.pulse,
                version="0.9",
                clock=node.clock,
                cost=lambda: self.spent,
            )
        )

    def list(self, *pairs):
        for kind in Kind:
            self.cache.replace(kind, [])
        for kind, obj in pairs:
            self.cache.event(kind, "ADDED", obj)
        return self.run(20)

    def run(self, seconds):
        for _ in range(int(seconds * 4)):
            self.worker.step()
            while self.node.mover.step() == 0:
                pass
            self.node.clock.now += 0.25
        return self

    @property
    def status(self):
        return self.sink.published[-1]

    def condition(self, name):
        return next(c for c in self.status.conditions if c.type == name)


@pytest.fixture
def agent(started, kit):
    """An agent that has placed the heap of process 100."""
    started.machine.cgroup("a" * 64, pod="u")
    return Agent(started)


def worked(node, kit):
    """Return an agent with a placement that means a container of one process."""
    node.machine.start(100, "a" * 64, kit.heap(), kit.anon(), pod=pod(RUNNING)["metadata"]["uid"])
    agent = Agent(node)
    return agent.list((Kind.PLACEMENT, placement()), (Kind.POD, pod(RUNNING)))


@pytest.fixture
def at_work(node, kit):
    return worked(node, kit)


def test_a_placement_of_a_newer_version_is_kept_and_said(at_work, node, kit) -> None:
    assert node.machine.policies(100)["[heap]"] == kit.CXL
    at_work.cache.event(Kind.PLACEMENT, "MODIFIED", newer(placement()))
    at_work.run(60)
    assert node.machine.policies(100)["[heap]"] == kit.CXL
    (report,) = at_work.status.placements
    assert (report.reason, report.observed_generation) == ("NotUnderstood", 1)
    assert "0.9" in report.message and "fromTheFuture" in report.message
    assert report.pods[0].containers[0].state == "Placed"


def test_a_placement_that_a_new_agent_does_not_understand_is_neither_acted_on_nor_undone(
    at_work, node, kit
) -> None:
    node.restart()
    calls = len(node.machine.calls)
    fresh = Agent(node).list((Kind.PLACEMENT, newer(placement())), (Kind.POD, pod(RUNNING)))
    fresh.run(120)
    assert node.machine.policies(100)["[heap]"] == kit.CXL
    assert len(node.machine.calls) == calls and node.claims


def tier(**spec):
    made = {"name": "slow", "uid": "t", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": made, "spec": {"numaNodes": [1], **spec}}


@pytest.mark.parametrize("names", [None, ["n1"], ["n2"]])
def test_a_tier_of_a_newer_version_moves_nothing_after_a_restart(at_work, node, kit, names) -> None:
    """Without it node 1 is cxl, and may not be: the rule's pages would be moved there."""
    node.restart()
    node.machine.start(200, "a" * 64, kit.heap(), pod="pod")
    calls = len(node.machine.calls)
    fresh = Agent(node)
    odd = tier(speed="warp", **({"nodeNames": names} if names else {}))
    fresh.cache.event(Kind.TIER, "ADDED", odd)
    fresh.list((Kind.PLACEMENT, placement()), (Kind.POD, pod(RUNNING)), (Kind.TIER, odd))
    fresh.run(120)
    is_about_it = names != ["n2"]
    assert (len(node.machine.calls) == calls) == is_about_it
    assert node.machine.policies(100)["[heap]"] == kit.CXL and node.claims
    (report,) = fresh.status.placements
    assert (report.reason == "NotUnderstood") == is_about_it
    if is_about_it:
        assert "what MemoryTier slow says" in report.message
        fresh.cache.event(Kind.TIER, "DELETED", odd)
        fresh.run(60)
        assert node.machine.policies(200)["[heap]"] == kit.CXL


def test_events_that_concern_nobody_cost_no_look(at_work, node) -> None:
    at_work.run(60)
    reads = []
    node.machine.on_read = reads.append
    for generation in range(20):
        other = placement("other", namespace="elsewhere", app=str(generation))
        at_work.cache.event(Kind.PLACEMENT, "MODIFIED", other)
        at_work.worker.step()
    assert not reads


def test_long_looks_keep_nobody_from_being_felt(at_work, node, monkeypatch) -> None:
    """As on a node where looks take 0.4 s each, for many containers that are due."""
    done = []

    def step():
        node.clock.now += 0.4
        done.append("look")
        return True

    monkeypatch.setattr(node.reconciler, "step", step)
    monkeypatch.setattr(node.reconciler, "audit", lambda: done.append("audit"))
    at_work.worker.step()
    at_work.worker.step()
    assert done == ["audit", *3 * ["look"], "audit", *3 * ["look"]]


def test_a_second_agent_waits_and_says_so(at_work, node, kit) -> None:
    """It knows of no placement, so it would give everything back."""
    made, calls = [], len(node.machine.calls)

    def engine(node, store):
        made.append(store)
        return node.engine.reconciler(store)

    other = Agent(node, lambda: open_ledger(node.machine.host), engine).list()
    condition = other.condition("Supported")
    assert (condition.status, condition.reason) == ("False", "AnotherAgent")
    assert not made and len(node.machine.calls) == calls
    assert node.machine.policies(100)["[heap]"] == kit.CXL
    node.store.close()
    other.run(20)
    assert other.condition("Supported").status == "True"
    (store,) = made
    assert set(node.machine.policies(100).values()) == {None}
    assert not tuple(store)


def test_a_step_that_fails_is_logged_and_the_next_one_made(at_work, node, monkeypatch) -> None:
    def broken(self):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(node.reconciler), "audit", broken)
    stop, before = threading.Event(), len(at_work.sink.published)
    at_work.cache.changed.set()
    node.clock.now += 10
    threading.Thread(target=at_work.worker.run, args=(stop,), daemon=True).start()
    eventually(lambda: len(at_work.sink.published) > before)
    stop.set()


def test_a_container_that_hides_its_processes_keeps_nobody_from_being_looked_at(
    at_work, node, kit
) -> None:
    hide(node.machine, "a" * 64, pod="pod")
    node.machine.start(200, "b" * 64, kit.heap(), pod="pod")
    second = RUNNING | {"name": "d", "containerID": f"containerd://{'b' * 64}"}
    at_work.cache.event(Kind.POD, "MODIFIED", pod(RUNNING, second))
    at_work.run(90)
    assert node.machine.policies(200)["[heap]"] == kit.CXL
    (report,) = at_work.status.placements
    states = {each.name: (each.state, each.message) for each in report.pods[0].containers}
    assert states["d"][0] == "Placed"
    assert states["c"][0] == "Failed" and "/below: Is a directory" in states["c"][1]


@pytest.mark.parametrize(
    ("part", "does"), [("pulse", "beat"), ("explainer", "serve"), ("allotments", "audit")]
)
def test_a_part_of_the_audit_that_fails_ends_no_other(
    at_work, kit, monkeypatch, part, does
) -> None:
    def broken(*_):
        raise ValueError("odd")

    node = at_work.node
    parts = node.reconciler._parts
    about = node.reconciler._allotments if part == "allotments" else getattr(parts, part)
    monkeypatch.setattr(type(about), does, broken)
    before = node.reconciler._state.machine_at
    node.machine.start(200, "b" * 64, kit.heap(), pod="pod")
    second = RUNNING | {"name": "d", "containerID": f"containerd://{'b' * 64}"}
    at_work.cache.event(Kind.POD, "MODIFIED", pod(RUNNING, second))
    at_work.run(90)
    assert node.machine.policies(200)["[heap]"] == kit.CXL
    assert node.reconciler._state.machine_at > before + 30


def retire(agent, mode="Retired"):
    meta = {"name": "n1", "uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    agent.cache.event(Kind.NODE_MEMORY, "ADDED", {"metadata": meta, "spec": {"agent": mode}})


@pytest.fixture
def with_root(at_work, node):
    root = node.machine.host.proc / "1/root"
    root.parent.mkdir(parents=True)
    root.symlink_to("/")
    return at_work


def test_a_retired_node_has_everything_back_and_no_files(with_root, node) -> None:
    retire(with_root)
    with_root.run(10)
    assert with_root.condition("Retired").status == "True"
    assert set(node.machine.policies(100).values()) == {None}
    assert not node.machine.host.journal.exists()


def test_a_node_that_can_not_be_retired_says_what_is_in_the_way(with_root, node) -> None:
    hide(node.machine, "a" * 64, pod="pod")
    retire(with_root)
    with_root.run(10)
    condition = with_root.condition("Retired")
    assert (condition.status, condition.reason) == ("False", "Undoing")
    assert "/below: Is a directory" in condition.message


def test_what_cannot_be_given_back_keeps_nothing_else_from_it(with_root, node, kit) -> None:
    second = pod(RUNNING | {"containerID": f"containerd://{'0' * 64}"})
    second["metadata"] |= {"uid": "second", "name": "q"}
    node.machine.start(200, "0" * 64, kit.heap(), pod="second")
    with_root.cache.event(Kind.POD, "ADDED", second)
    with_root.run(20)
    assert node.machine.policies(200)["[heap]"] == kit.CXL
    procs = node.machine.cgroup(node.claims[0].container, "pod") / "cgroup.procs"
    procs.rename(procs.with_name("kept"))
    procs.mkdir()
    retire(with_root)
    with_root.run(10)
    assert set(node.machine.policies(200).values()) == {None}
    assert "Is a directory" in with_root.condition("Retired").message
    procs.rmdir()
    procs.with_name("kept").rename(procs)
    with_root.run(10)
    assert with_root.condition("Retired").status == "True"


def test_a_file_that_nobody_understands_keeps_a_node_from_retiring(with_root, node) -> None:
    file = node.machine.host.journal / f"{'b' * 64}.v7.json"
    file.write_text("{}")
    node.restart()
    fresh = Agent(node).list()
    retire(fresh)
    fresh.run(10)
    condition = fresh.condition("Retired")
    assert (condition.status, condition.reason) == ("False", "CannotUndo")
    assert file.exists() and "v7.json" in condition.message


def test_a_node_that_lost_the_call_says_that_it_cannot_undo(with_root, node) -> None:
    from memplace.errors import SeccompFiltered

    node.unsupported = SeccompFiltered(38, "hidden")
    node.restart()
    fresh = Agent(node).list()
    retire(fresh)
    fresh.run(10)
    condition = fresh.condition("Retired")
    assert (condition.status, condition.reason) == ("False", "CannotUndo")
    assert "seccomp" in condition.message


def test_numa_nodes_without_memory_are_not_reported(started, agent):
    machine = started.machine
    for number, cpus in ((2, "2-3"), (3, "")):  # sockets without DIMMs, CXL memory offline
        machine.add_node(number, cpus=cpus, tier=10 + number)
        text = f"Node {number} MemTotal: 0 kB\nNode {number} MemFree: 0 kB\n"
        (machine.host.numa_nodes / f"node{number}/meminfo").write_text(text)
    agent.list()
    assert [node.id for node in agent.status.numa_nodes] == [0, 1]


def test_what_the_kernel_moves_by_itself_is_told(at_work, node) -> None:
    demotion = node.machine.host.sysfs / "kernel/mm/numa/demotion_enabled"
    demotion.parent.mkdir(parents=True)
    demotion.write_text("true\n")
    at_work.cache.changed.set()
    at_work.run(5)
    assert "demotes cold pages" in at_work.condition("Supported").message
