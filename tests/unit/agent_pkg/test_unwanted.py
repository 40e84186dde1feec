# SPDX-License-Identifier: Apache-2.0
"""What is not wanted any more ends with the call under way, whatever the worker is busy with."""

from __future__ import annotations

import threading

import pytest
from memplace_agent.cluster.kinds import Kind
from memplace_agent.engine.pool import Pool
from memplace_agent.syscalls import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL

from tests.unit.agent_pkg.test_worker import Agent
from tests.unit.agent_pkg.test_world import RUNNING, pod
from tests.unit.agent_pkg.test_world import placement as any_placement

BASE, MIB = 0x100000000, 1 << 20
OTHER = RUNNING | {"containerID": f"containerd://{'c' * 64}"}
DRAM = {
    "name": "heap",
    "regions": [{"type": "Heap"}],
    "policy": {"mode": "PreferredMany", "tiers": ["dram"]},
}


def placement(uid="mp", *, day=2, **spec):
    return any_placement(uid, day=day, **{"nodeSelector": {"pool": "cxl"}} | spec)


def of_cluster(*, enforced):
    found = placement("cmp", namespaceSelector={}, enforced=enforced)
    del found["metadata"]["namespace"]
    return found


def slow_pod():
    found = pod(OTHER)
    found["metadata"] |= {"name": "q", "uid": "other", "namespace": "slow"}
    return found


def named(name, **labels):
    return {"metadata": {"name": name, "uid": name, "labels": labels}}


def memory(mode):
    meta = {"name": "n1", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": meta, "spec": {"agent": mode}}


class Busy:
    """An agent that moves 1 GiB of process 100, and whose worker waits for process 900."""

    def __init__(self, node, kit):
        self.node, self.free, self.hangs = node, threading.Event(), threading.Event()
        node.pool, node.bandwidth = Pool(), 8 * MIB
        node.start()
        node.machine.start(100, "a" * 64, kit.anon(BASE, 1 << 30), pod="pod")
        node.machine.start(900, "c" * 64, kit.heap(), pod="other")
        self.agent = Agent(node)
        self.cache = self.agent.cache
        self.worker = threading.Thread(target=self._work, daemon=True)

    def begin(self):
        self.agent.list(
            (Kind.NODE, named("n1", pool="cxl")),
            (Kind.NODE_MEMORY, memory("Active")),
            (Kind.NAMESPACE, named("ns")),
            (Kind.PLACEMENT, placement()),
            (Kind.PLACEMENT, any_placement("slow", namespace="slow")),
            (Kind.POD, pod(RUNNING)),
            (Kind.POD, slow_pod()),
        )
        return self

    def hang(self):
        """Have the worker begin a look that lasts."""
        looker = self.node.reconciler._parts.looker
        looker.hands.surveyor.deadline_s = 60
        self.node.machine.on_read = self._read
        again = any_placement("slow", namespace="slow", rules=[DRAM])
        self.cache.event(Kind.PLACEMENT, "MODIFIED", again)
        self.worker.start()
        assert self.hangs.wait(20)

    def _work(self):
        while not self.hangs.is_set():
            self.node.clock.now += 0.1
            self.agent.worker.step()

    def _read(self, directory):
        if directory.name == "900":
            self.hangs.set()
            self.free.wait(60)

    def end(self):
        self.free.set()
        if self.worker.ident:
            self.worker.join(20)

    @property
    def moves(self):
        flags = MPOL_MF_MOVE | MPOL_MF_MOVE_ALL
        calls = self.node.machine.calls
        return [call for call in calls if call[0] == 100 and call[3] & flags]

    def move(self, seconds):
        """Let the mover work for a while; returns how many calls it made."""
        before = len(self.moves)
        for _ in range(seconds * 4):
            while self.node.mover.step() == 0:
                pass
            self.node.clock.now += 0.25
        return len(self.moves) - before


@pytest.fixture
def busy(node, kit):
    found = Busy(node, kit)
    yield found
    found.end()


PLACEMENT, POD = Kind.PLACEMENT, Kind.POD

ENDS = {
    "deleted": (PLACEMENT, "DELETED", placement()),
    "paused": (PLACEMENT, "MODIFIED", placement(paused=True)),
    "another tier": (PLACEMENT, "MODIFIED", placement(rules=[DRAM])),
    "a dry run": (PLACEMENT, "MODIFIED", placement(mode="DryRun")),
    "a lower bandwidth": (PLACEMENT, "MODIFIED", placement(migration={"maxBandwidth": "1Mi"})),
    "other nodes": (PLACEMENT, "MODIFIED", placement(nodeSelector={"pool": "none"})),
    "an older one": (PLACEMENT, "ADDED", placement("older", day=1, rules=[DRAM])),
    "the cluster's": (Kind.CLUSTER_PLACEMENT, "ADDED", of_cluster(enforced=True)),
    "a label of the node": (Kind.NODE, "MODIFIED", named("n1", pool="none")),
    "a label of the pod": (POD, "MODIFIED", pod(RUNNING, labels={"app": "y"})),
    "no pod": (POD, "DELETED", pod(RUNNING)),
    "retired": (Kind.NODE_MEMORY, "MODIFIED", memory("Retired")),
}

GOES_ON = {
    "nothing": None,
    "a status": (PLACEMENT, "MODIFIED", placement() | {"status": {"matchedPods": 7}}),
    "a generation": (PLACEMENT, "MODIFIED", placement(generation=2)),
    "what comes at its end": (PLACEMENT, "MODIFIED", placement(onDelete="Leave")),
    "a younger one": (PLACEMENT, "ADDED", placement("younger", day=3, rules=[DRAM])),
    "a default of the cluster": (Kind.CLUSTER_PLACEMENT, "ADDED", of_cluster(enforced=False)),
    "a label of the pod": (POD, "MODIFIED", pod(RUNNING, labels={"app": "x", "b": "1"})),
    "another pod": (POD, "DELETED", slow_pod()),
}


@pytest.mark.parametrize("news", ENDS.values(), ids=ENDS)
def test_no_call_begins_after_the_news(busy, news):
    busy.begin().hang()
    assert busy.move(5) >= 5
    busy.cache.event(*news)
    assert busy.move(30) == 0
    assert busy.worker.is_alive()


@pytest.mark.parametrize("news", [ENDS[each] for each in ("deleted", "paused", "retired")])
def test_only_the_call_under_way_is_finished(busy, news):
    busy.begin().hang()

    def tell():
        busy.node.machine.on_call = None
        busy.cache.event(*news)

    busy.node.machine.on_call = tell
    assert busy.move(30) == 1


def test_what_a_new_list_does_not_have_is_not_moved(busy):
    busy.begin().hang()
    busy.cache.replace(PLACEMENT, [])
    assert busy.move(30) == 0


@pytest.mark.parametrize("news", GOES_ON.values(), ids=GOES_ON)
def test_what_changes_nothing_for_a_container_stops_nothing(busy, news):
    busy.begin().hang()
    if news:
        busy.cache.event(*news)
    assert busy.move(5) >= 5


def test_what_is_wanted_again_goes_on_although_the_worker_has_seen_neither(busy):
    busy.begin().hang()
    busy.cache.event(PLACEMENT, "MODIFIED", placement(paused=True))
    assert busy.move(5) == 0
    busy.cache.event(PLACEMENT, "MODIFIED", placement())
    assert busy.move(5) >= 5


def test_a_look_that_ends_after_the_news_starts_no_move(busy):
    """It plans by what it took before, and orders the moves after the placement is paused."""

    def pause():
        busy.node.machine.on_call = None
        busy.cache.event(PLACEMENT, "MODIFIED", placement(paused=True))

    busy.node.machine.on_call = pause  # while the policy is set
    busy.begin()
    assert not busy.moves


@pytest.mark.parametrize(
    ("news", "ends"),
    [
        ((PLACEMENT, "ADDED", placement("next")), True),
        ((PLACEMENT, "ADDED", placement("next", paused=True)), True),
        ((PLACEMENT, "ADDED", placement("next", mode="DryRun")), False),
        ((Kind.NODE_MEMORY, "MODIFIED", memory("Retired")), False),
    ],
)
def test_what_moves_back_ends_when_somebody_has_the_container(busy, news, *, ends):
    busy.begin()
    busy.cache.event(PLACEMENT, "MODIFIED", placement(onDelete="RestorePages"))
    busy.agent.run(5)
    busy.cache.event(PLACEMENT, "DELETED", placement(onDelete="RestorePages"))
    busy.agent.run(5)
    busy.hang()
    assert busy.move(5) >= 5
    busy.cache.event(*news)
    assert (busy.move(5) == 0) is ends


def test_once_the_worker_goes_on_all_is_as_the_news_want_it(busy, kit):
    busy.begin().hang()
    busy.cache.event(PLACEMENT, "MODIFIED", placement(rules=[DRAM]))
    busy.move(5)
    busy.end()
    busy.agent.run(300)
    assert busy.node.machine.pages(100, BASE) == {0: (1 << 30) >> 12}
    assert not busy.node.mover.progress()
