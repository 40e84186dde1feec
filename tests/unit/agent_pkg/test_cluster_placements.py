# SPDX-License-Identifier: Apache-2.0
"""Placements of the cluster on a node: whose they are, what a label of a namespace does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from memplace_agent.app import _Cluster
from memplace_agent.cluster.collections import collections
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.world import Cache
from memplace_agent.hostfs import HostFs
from memplace_agent.settings import Settings
from memplace_agent.threads import Threads
from memplace_kube import client, watch
from memplace_kube.watch import Watcher, as_mapping

from tests.unit.agent_pkg.answers import Request, reply, serving, stream
from tests.unit.agent_pkg.test_shared import BUFFERS, buffers, other_pod, pages_of, rules
from tests.unit.agent_pkg.test_world import RUNNING, newer, placement, pod

A, B = "a" * 64, "b" * 64
BATCH, WEB = {"kind": "batch"}, {"kind": "web"}


# --- the engine ----------------------------------------------------------------------------


def to_dram(kit, **spec):
    return kit.placement("own", rules=[kit.rule({"type": "Heap"}, "PreferredMany", "dram")], **spec)


def default(kit, **spec):
    given = {"rules": [kit.rule({"type": "Heap"}, "PreferredMany", "cxl")]} | spec
    return kit.cluster_placement("common", **given)


def test_a_default_acts_where_its_namespaces_say_nothing(started, kit):
    found = started.full(default(kit, means=BATCH), pods=[kit.pod(its_labels=BATCH)])
    assert found["common", "p", "c0"].state == "Placed"
    assert started.machine.pages(100, kit.HEAP) == {1: 256}
    said = started.said["common"]
    assert (said.namespace, said.pods[0].namespace) == ("", "ns")
    (claim,) = started.claims
    assert claim.placement == ("uid-common", "", "common")


def test_a_namespaces_own_comes_first_and_nobody_is_told_of_a_conflict(started, kit):
    pods = [kit.pod(its_labels=BATCH)]
    found = started.full(default(kit), to_dram(kit, priority=-5), pods=pods)
    assert {name for name, *_ in found} == {"own"} == set(started.said)
    assert started.machine.pages(100, kit.HEAP) == {0: 256}


def test_one_that_is_enforced_turns_it_round_and_back(started, kit):
    pods = [kit.pod(its_labels=BATCH)]
    own = to_dram(kit, priority=5)
    started.full(default(kit), own, pods=pods)
    started.full(default(kit, enforced=True), own, pods=pods, seconds=60)
    assert started.machine.pages(100, kit.HEAP) == {1: 256}
    lost = started.said["own"]
    assert (lost.reason, lost.message) == (
        "Conflict",
        "follows cluster placement common, which is enforced, this one is not",
    )
    assert started.claims[0].placement[0] == "uid-common"
    started.full(default(kit), own, pods=pods, seconds=60)
    assert started.machine.pages(100, kit.HEAP) == {0: 256}
    assert set(started.said) == {"own"}


def test_a_label_of_its_namespace_places_a_running_pod_and_gives_it_back(started, kit):
    batch = default(kit, means=BATCH)
    assert started.full(batch, pods=[kit.pod(its_labels=WEB)]) == {}
    assert started.claims == ()
    started.full(batch, pods=[kit.pod(its_labels=BATCH)])
    assert started.machine.pages(100, kit.HEAP) == {1: 256}
    started.full(batch, pods=[kit.pod(its_labels=WEB)], seconds=30)
    assert started.claims == ()
    assert set(started.machine.policies(100).values()) == {None}


def test_nothing_ends_while_the_labels_are_not_known(started, kit):
    started.full(default(kit), pods=[kit.pod(its_labels=BATCH)])
    made = len(started.machine.calls)
    started.restart()
    started.full(default(kit), pods=[kit.pod()], held=frozenset({A}), seconds=60)
    assert len(started.machine.calls) == made and len(started.claims) == 1


@pytest.mark.parametrize(("namespace", "state"), [("ns", "Placed"), ("elsewhere", "Failed")])
def test_memory_is_shared_within_a_pods_namespace_only(node, kit, namespace, state):
    # The placement is for both namespaces; who shares is asked of the pod's.
    node.machine.start(100, A, buffers())
    node.machine.start(102, "c" * 64, buffers(), pod="uid_q")
    common = kit.cluster_placement("common", rules=rules())
    pods = [kit.pod(its_labels=BATCH), other_pod(namespace)]
    found = node.full(common, pods=pods, seconds=60)["common", "p", "c0"]
    assert found.state == state, found
    assert pages_of(node, 100) == ({1: 64 * 256} if state == "Placed" else {0: 64 * 256})
    assert bool(node.machine.objects.ranges(BUFFERS)) is (state == "Placed")


def test_namespaces_have_equal_shares_of_the_bandwidth(node, kit):
    node.bandwidth = 64 << 20
    node.restart()
    for pid, container in ((100, A), (101, B)):
        node.machine.start(
            pid, container, kit.anon(0x100000000, 1 << 30), pod="uid_q" if pid == 101 else "uid_p"
        )
    pods = [
        kit.pod(its_labels=BATCH),
        kit.pod("q", ids=("b",), namespace="other", its_labels=BATCH),
    ]
    node.full(default(kit), pods=pods, seconds=5)
    assert {each.namespace for each in node.mover.progress()} == {"ns", "other"}


# --- what the API server says --------------------------------------------------------------


def common(uid: str = "cmp", *, generation: int = 1, **spec: Any) -> dict[str, Any]:
    found = placement(uid, generation=generation)
    del found["metadata"]["namespace"]
    meant = {"namespaceSelector": {"matchLabels": BATCH}}
    return found | {"spec": found["spec"] | meant | spec}


def namespace(name: str = "ns", uid: str = "n1", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid, "labels": labels}}


@pytest.fixture
def cache() -> Cache:
    """A node with a pod and a placement of the cluster that selects it, and nothing new."""
    found = Cache("n")
    for kind in Kind:
        found.replace(kind, [])
    found.event(Kind.CLUSTER_PLACEMENT, "ADDED", common())
    found.event(Kind.NAMESPACE, "ADDED", namespace(kind="batch"))
    found.event(Kind.POD, "ADDED", pod(RUNNING))
    found.changed.clear()
    return found


def labels(cache: Cache) -> Any:
    (found,) = cache.snapshot().pods
    return found.ref.namespace_labels


@pytest.mark.parametrize(
    ("news", "wakes"),
    [
        (namespace(kind="batch"), False),
        (namespace(kind="web"), True),
        (namespace(), True),
        (namespace("other", "n2", kind="batch"), False),
    ],
)
def test_a_label_of_a_namespace_with_a_pod_here_wakes(
    cache: Cache, news: dict[str, Any], *, wakes: bool
) -> None:
    cache.event(Kind.NAMESPACE, "MODIFIED", news)
    assert cache.changed.is_set() is wakes


def test_without_such_a_placement_no_label_wakes(cache: Cache) -> None:
    cache.event(Kind.CLUSTER_PLACEMENT, "DELETED", common())
    cache.changed.clear()
    cache.event(Kind.NAMESPACE, "MODIFIED", namespace(kind="web"))
    assert not cache.changed.is_set()


@pytest.mark.parametrize(
    ("news", "wakes"),
    [
        (common(generation=2), True),
        (common() | {"status": {"matchedPods": 3}}, False),
        (common("another"), True),
        (common("another", selector={"matchLabels": {"app": "y"}}), False),
        (common("another", namespaceSelector={"matchLabels": WEB}), False),
    ],
)
def test_of_placements_those_that_select_a_pod_here_wake(
    cache: Cache, news: dict[str, Any], *, wakes: bool
) -> None:
    cache.event(Kind.CLUSTER_PLACEMENT, "MODIFIED", news)
    assert cache.changed.is_set() is wakes


def test_the_world_has_both_kinds_and_the_labels(cache: Cache) -> None:
    cache.event(Kind.PLACEMENT, "ADDED", placement())
    world = cache.snapshot()
    assert {each.title for each in world.placements} == {
        "placement ns/mp",
        "cluster placement cmp",
    }
    assert labels(cache) == BATCH
    assert (world.held, world.held_pods) == (frozenset(), frozenset())
    cache.replace(Kind.PLACEMENT, [])
    assert [each.name for each in cache.snapshot().placements] == ["cmp"]
    cache.replace(Kind.CLUSTER_PLACEMENT, [])
    assert cache.snapshot().placements == ()


def test_a_namespace_made_anew_is_the_same_to_its_pods(cache: Cache) -> None:
    cache.event(Kind.NAMESPACE, "DELETED", namespace(kind="batch"))
    assert labels(cache) is None
    cache.event(Kind.NAMESPACE, "ADDED", namespace(uid="n2", kind="web"))
    assert labels(cache) == WEB


@pytest.mark.parametrize(
    ("spec", "own", "held"),
    [
        ({}, None, {A}),
        ({"selector": {"matchLabels": {"app": "y"}}}, None, set()),
        # A namespace's own comes before a default, whatever its namespace's labels are.
        ({}, placement(), set()),
        ({"enforced": True}, placement(), {A}),
    ],
)
def test_while_the_labels_are_not_known_what_may_be_meant_is_held(
    spec: Any, own: Any, held: set[str]
) -> None:
    cache = Cache("n")
    for kind in Kind:
        if kind is not Kind.NAMESPACE:
            cache.replace(kind, [])
    assert cache.is_synced, "nobody waits for namespaces: an older role may not allow it"
    assert not cache.needs_namespaces.is_set()
    cache.event(Kind.CLUSTER_PLACEMENT, "ADDED", common(**spec))
    assert cache.needs_namespaces.is_set()
    cache.event(Kind.POD, "ADDED", pod(RUNNING))
    if own:
        cache.event(Kind.PLACEMENT, "ADDED", own)
    world = cache.snapshot()
    assert world.held == held
    assert world.not_understood == ()
    cache.replace(Kind.NAMESPACE, [namespace(kind="batch")])
    assert cache.changed.is_set()
    assert cache.snapshot().held == frozenset()


def test_one_of_a_version_to_come_is_held_where_it_may_mean_a_namespace() -> None:
    cache = Cache("n")
    for kind in Kind:
        cache.replace(kind, [])
    cache.event(Kind.NAMESPACE, "ADDED", namespace(kind="batch"))
    cache.event(Kind.POD, "ADDED", pod(RUNNING))
    cache.event(Kind.CLUSTER_PLACEMENT, "ADDED", newer(common()))
    world = cache.snapshot()
    assert (set(world.held), set(world.held_placements)) == ({A}, {"cmp"})
    assert [each.namespace for each in world.not_understood] == [""]
    cache.changed.clear()
    cache.event(Kind.NAMESPACE, "MODIFIED", namespace(kind="web"))
    assert cache.changed.is_set()
    assert cache.snapshot().held == frozenset()
    cache.event(Kind.NAMESPACE, "MODIFIED", namespace(kind="batch"))
    # The namespace's own has it, unless the other is enforced, or nobody can tell.
    cache.event(Kind.PLACEMENT, "ADDED", placement())
    assert cache.snapshot().held == frozenset()
    for enforced in (True, "perhaps"):
        cache.event(Kind.CLUSTER_PLACEMENT, "MODIFIED", newer(common(enforced=enforced)))
        assert cache.snapshot().held == {A}
    cache.replace(Kind.PLACEMENT, [placement()])
    assert cache.snapshot().held == {A}, "a list of the other kind says nothing of it"
    cache.replace(Kind.CLUSTER_PLACEMENT, [])
    assert cache.snapshot().held == frozenset()


# --- what is watched -----------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pauses be short: what is waited for is the same."""
    monkeypatch.setattr(watch, "SPREAD_S", 0.05)
    monkeypatch.setattr(watch, "_TOO_SHORT_S", 0.0)
    monkeypatch.setattr("memplace_agent.app._LOOK_S", 0.01)


def eventually(holds: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Served:
    """An API server that has one placement of the cluster from some time on, or not the kind."""

    def __init__(self) -> None:
        self.has_kind, self.defaults = True, [common()]

    def __call__(self, request: Request, file: Any) -> None:
        plural = request.path.rpartition("/")[2]
        if plural == "clustermemoryplacements" and not self.has_kind:
            reply(file, {"message": "the server could not find it"}, "404 Not Found")
        elif "watch" in request.query:
            stream(file)
        else:
            items: list[Any] = {
                "clustermemoryplacements": self.defaults,
                "namespaces": [namespace(kind="batch")],
            }.get(plural, [])
            reply(file, {"metadata": {"resourceVersion": "7"}, "items": items})


def following(api: Any) -> tuple[_Cluster, Threads]:
    threads = Threads()
    cluster = _Cluster(api.server, Settings(node_name="n", host=HostFs()), threads)
    for watcher in cluster.watchers:
        run: Any = watcher.run
        if isinstance(watcher, Watcher) and watcher.kind is Kind.NAMESPACE:
            run = cluster._when_needed(watcher)
        threading.Thread(target=run, args=(threads.stop, lambda: None), daemon=True).start()
    return cluster, threads


def asked(api: Any, plural: str) -> bool:
    return any(request.path.endswith(f"/{plural}") for request in list(api.seen))


def test_namespaces_are_followed_once_a_placement_asks_for_them() -> None:
    served = Served()
    served.defaults = []
    with serving(served) as api:
        cluster, threads = following(api)
        eventually(lambda: cluster.cache.is_synced)
        time.sleep(0.2)
        assert not asked(api, "namespaces")
        assert cluster.not_ready() == []
        cluster.cache.event(Kind.CLUSTER_PLACEMENT, "ADDED", common())
        cluster.cache.event(Kind.POD, "ADDED", pod(RUNNING))
        eventually(lambda: labels(cluster.cache) == BATCH)
        threads.stop.set()


def test_a_cluster_without_the_kind_has_none_of_it() -> None:
    served = Served()
    served.has_kind = False
    with serving(served) as api:
        cluster, threads = following(api)
        eventually(lambda: cluster.cache.is_synced)
        (watcher,) = [w for w in cluster.watchers if w.kind is Kind.CLUSTER_PLACEMENT]
        time.sleep(0.3)
        assert watcher.age_s < 0.3, "it was asked, and answered"
        served.has_kind = True
        eventually(lambda: cluster.cache.snapshot().placements)
        # What was there once is not gone for such an answer.
        served.has_kind = False
        time.sleep(0.5)
        assert cluster.cache.snapshot().placements
        threads.stop.set()


def test_of_namespaces_the_metadata_alone_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    (what,) = [each for each in collections("n") if each.kind is Kind.NAMESPACE]
    accepted: dict[bool, str] = {}
    send = client.ApiClient._headers

    def headers(self: Any, method: str, accept: str) -> dict[str, str]:
        # Watchers of the tests before may not have ended yet.
        if threading.current_thread() is asking:
            accepted["List" not in accept] = accept
        return send(self, method, accept)

    monkeypatch.setattr(client.ApiClient, "_headers", headers)
    cache, stop = Cache("n"), threading.Event()
    with serving(Served()) as api:
        watcher = Watcher(api.server, cache, what, as_mapping)
        asking = threading.Thread(target=watcher.run, args=(stop, lambda: None), daemon=True)
        asking.start()
        eventually(lambda: len(accepted) == 2)
        stop.set()
    assert "as=PartialObjectMetadataList" in accepted[False]
    assert "as=PartialObjectMetadata;" in accepted[True]
