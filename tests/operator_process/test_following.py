# SPDX-License-Identifier: Apache-2.0
"""An agent at a real API server knows what its pods may follow, and is sent nothing else.

Whatever happens meanwhile: an edit, a deletion, another one of the same name, a roll-out's gate,
namespaces that come and go, an API server that is killed or answers wrongly.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from memplace.api.v1alpha1 import Placement
from memplace_agent.cluster import following
from memplace_agent.cluster.world import Cache
from memplace_kube.client import ApiClient, Server
from memplace_lab.product.apiserver import ADMIN, ApiServer

from tests.operator_process.faulty import FAULTS, Fault, Proxy
from tests.operator_process.test_agent import agent
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.timeout(180)

# What is changed has to be known within this time.
SOON_S = 5.0


def known(cache: Cache, namespace: str) -> dict[str, Placement]:
    return {p.name: p for p in cache.snapshot().placements if p.namespace == namespace}


def edit(cluster: Cluster, name: str, **spec: Any) -> None:
    answer = cluster.api.call("PATCH", cluster.placement_path(name), {"spec": spec})
    assert answer.ok, answer.message


@contextlib.contextmanager
def editing(cluster: Cluster, name: str) -> Iterator[list[int]]:
    """Count up a placement's priority while the block runs; yields how far that has come."""
    stop, edits = threading.Event(), [-1000]

    def keep_editing() -> None:
        while not stop.is_set() and edits[0] < 1000:
            edit(cluster, name, priority=edits[0] + 1)
            edits[0] += 1
            stop.wait(0.01)

    edit(cluster, name, priority=edits[0])
    editor = threading.Thread(target=keep_editing)
    editor.start()
    try:
        yield edits
    finally:
        stop.set()
        editor.join()


def until(holds: Callable[[], Any], timeout_s: float) -> None:
    """As `eventually`, with hardly a pause: what is wrong may be so for a moment only."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def other(api: ApiServer, cluster: Cluster) -> Iterator[Cluster]:
    """Another namespace, whose pods are on the same node."""
    found = Cluster(api, f"{cluster.namespace}-other")
    found.node = cluster.node
    yield found
    found.clean()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What watches of placements bring."""
    found: list[dict[str, Any]] = []
    lines = ApiClient.lines

    def heard(self: ApiClient, path: str, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        for line in lines(self, path, *args, **kwargs):
            if path.endswith("/memoryplacements"):
                found.append(json.loads(line)["object"])
            yield line

    monkeypatch.setattr(ApiClient, "lines", heard)
    return found


def write(cluster: Cluster, name: str, count: int) -> None:
    """Write a status, as the operator does."""
    path = f"{cluster.placement_path(name)}/status"
    answer = cluster.api.call("PATCH", path, {"status": {"matchedPods": count}})
    assert answer.ok, answer.message


def test_of_placements_that_no_pod_here_may_follow_nothing_is_sent(
    cluster: Cluster, other: Cluster, server: Server, sent: list[dict[str, Any]]
) -> None:
    cluster.apply("ours")
    other.apply("theirs")
    cluster.run_pod("redis-0")
    with agent(server, cluster) as (cache, _, _beat):
        assert set(known(cache, cluster.namespace)) == {"ours"}
        for count in range(20):
            write(other, "theirs", count)
        write(cluster, "ours", 7)
        eventually(lambda: any(o.get("status", {}).get("matchedPods") == 7 for o in sent))
        assert {o["metadata"].get("namespace") for o in sent} <= {cluster.namespace, None}
        assert not known(cache, other.namespace)


def test_a_pod_of_a_new_namespace_brings_its_placements(
    cluster: Cluster, other: Cluster, server: Server
) -> None:
    other.apply("theirs")
    cluster.run_pod("redis-0")
    with agent(server, cluster) as (cache, _, _beat):
        assert not known(cache, other.namespace)
        other.run_pod("redis-0")
        eventually(lambda: set(known(cache, other.namespace)) == {"theirs"}, timeout_s=SOON_S)
        assert not cache.snapshot().held
        edit(other, "theirs", paused=True)
        eventually(lambda: known(cache, other.namespace)["theirs"].spec.paused, timeout_s=SOON_S)


def test_one_that_is_deleted_and_made_again_is_another(cluster: Cluster, server: Server) -> None:
    uid = cluster.apply("mp")["metadata"]["uid"]
    cluster.run_pod("redis-0")
    with agent(server, cluster) as (cache, _, _beat):
        assert known(cache, cluster.namespace)["mp"].uid == uid
        for _ in range(3):
            assert cluster.api.call("DELETE", cluster.placement_path("mp")).ok
            uid = cluster.apply("mp")["metadata"]["uid"]
            wait_for_only(cache, cluster, uid)


def wait_for_only(cache: Cache, cluster: Cluster, uid: str, *, timeout_s: float = SOON_S) -> None:
    def holds() -> bool:
        there = cache.snapshot().placements
        return [p.uid for p in there if p.namespace == cluster.namespace] == [uid]

    eventually(holds, timeout_s=timeout_s)


@pytest.mark.usefixtures("operator")
def test_the_gate_of_a_roll_out_comes_with_it(cluster: Cluster, server: Server) -> None:
    """Written by the real operator, which takes the only node at once."""
    rule = {"name": "heap", "regions": [{"type": "Heap"}]}
    policy = {"mode": "PreferredMany", "tiers": ["cxl"]}
    rollout = {"maxNodes": 1, "pauseSeconds": 0}
    cluster.join()
    cluster.report()
    cluster.renew()
    with agent(server, cluster) as (cache, _, _beat):
        cluster.run_pod("redis-0")
        cluster.apply_rules("mp", [{**rule, "policy": policy}], rollout=rollout)
        eventually(lambda: "mp" in known(cache, cluster.namespace))
        eventually(lambda: cluster.get("mp").get("status", {}).get("rollout", {}).get("nodes"))
        eventually(lambda: cluster.get("mp")["status"]["rollout"]["releasedNodes"] == 1)
        eventually(lambda: not known(cache, cluster.namespace)["mp"].waits, timeout_s=SOON_S)


def test_what_changes_while_a_namespace_is_not_followed_is_known_when_it_is(
    cluster: Cluster, other: Cluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LINGER_S", 0.0)
    other.apply("changed")
    gone = other.apply("gone")["metadata"]["uid"]
    pod = f"/api/v1/namespaces/{other.namespace}/pods/redis-0"
    with agent(server, cluster) as (cache, _, _beat):
        other.run_pod("redis-0")
        eventually(lambda: set(known(cache, other.namespace)) == {"changed", "gone"})
        assert cluster.api.call("DELETE", pod, gracePeriodSeconds="0").ok
        eventually(lambda: other.namespace not in (cache.namespaces or ()))
        assert not known(cache, other.namespace)
        assert not cache.snapshot().last_words, "nobody said that it was deleted"
        assert cluster.api.call("DELETE", other.placement_path("gone")).ok
        edit(other, "changed", paused=True)
        other.run_pod("redis-0")
        eventually(lambda: set(known(cache, other.namespace)) == {"changed"}, timeout_s=SOON_S)
        assert known(cache, other.namespace)["changed"].spec.paused
        assert not cache.snapshot().has(gone)


def test_from_some_number_of_namespaces_on_all_are_followed(
    cluster: Cluster, other: Cluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST", 1)
    cluster.apply("ours")
    other.apply("theirs")
    cluster.run_pod("redis-0")
    with agent(server, cluster) as (cache, _, _beat):
        assert cache.namespaces == frozenset({cluster.namespace})
        with editing(cluster, "ours") as edits:
            other.run_pod("redis-0")
            eventually(lambda: cache.namespaces is None)
        eventually(lambda: known(cache, cluster.namespace)["ours"].spec.priority == edits[0])
        edit(other, "theirs", paused=True)
        eventually(lambda: known(cache, other.namespace)["theirs"].spec.paused, timeout_s=SOON_S)


def test_when_there_are_few_again_each_is_followed_by_itself(
    cluster: Cluster,
    other: Cluster,
    server: Server,
    sent: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Meanwhile somebody edits: nothing is lost, goes back, or is held."""
    monkeypatch.setattr(following, "MOST", 1)
    monkeypatch.setattr(following, "FEW", 1)
    monkeypatch.setattr(following, "FEW_FOR_S", 1.0)
    cluster.apply("ours")
    other.apply("theirs")
    cluster.run_pod("redis-0")
    pod = f"/api/v1/namespaces/{other.namespace}/pods/redis-0"
    with agent(server, cluster) as (cache, _, _beat):
        other.run_pod("redis-0")
        eventually(lambda: cache.namespaces is None)
        seen: list[int] = []
        with editing(cluster, "ours") as edits:
            assert cluster.api.call("DELETE", pod, gracePeriodSeconds="0").ok

            def split() -> bool:
                world = cache.snapshot()
                (ours,) = (p for p in world.placements if p.namespace == cluster.namespace)
                seen.append(ours.spec.priority)
                assert not world.held_pods and not world.last_words
                return cache.namespaces is not None

            until(split, 20.0)
            at = len(seen)
            until(lambda: (split(), len(seen) > at + 300)[1], 60.0)
        assert cache.namespaces == frozenset({cluster.namespace}) and not known(
            cache, other.namespace
        )
        assert seen == sorted(seen) and seen[at] < seen[-1]
        eventually(lambda: known(cache, cluster.namespace)["ours"].spec.priority == edits[0])
        sent.clear()
        write(other, "theirs", 7)
        write(cluster, "ours", 7)
        eventually(lambda: any(o.get("status", {}).get("matchedPods") == 7 for o in sent))
        assert {o["metadata"].get("namespace") for o in sent} <= {cluster.namespace, None}
        edit(other, "theirs", paused=True)
        other.run_pod("redis-0")
        eventually(lambda: cache.namespaces is None)
        eventually(lambda: known(cache, other.namespace)["theirs"].spec.paused, timeout_s=SOON_S)


def test_what_changes_while_the_api_server_is_killed_is_known_afterwards(
    cluster: Cluster, other: Cluster, api: ApiServer, server: Server
) -> None:
    for each in (cluster, other):
        each.apply("mp")
        each.run_pod("redis-0")
    with agent(server, cluster) as (cache, _, _beat):
        eventually(lambda: known(cache, other.namespace))
        api.stop()
        api.start()
        edit(cluster, "mp", paused=True)
        assert cluster.api.call("DELETE", other.placement_path("mp")).ok
        eventually(lambda: known(cache, cluster.namespace)["mp"].spec.paused, timeout_s=60)
        eventually(lambda: not known(cache, other.namespace), timeout_s=60)


OF_AN_API_SERVER = [each for each in FAULTS if each.name != f"429-{'9' * 30}"]


@pytest.mark.parametrize("fault", OF_AN_API_SERVER, ids=lambda fault: fault.name)
def test_lost_by_no(
    cluster: Cluster, other: Cluster, api: ApiServer, tmp_path: Path, fault: Fault
) -> None:
    """A fault of the API server."""
    uid = cluster.apply("mp")["metadata"]["uid"]
    other.apply("theirs")
    cluster.run_pod("redis-0")
    (tmp_path / "token").write_text(ADMIN)
    with Proxy(api).running() as proxy:
        port = int(proxy.url.rpartition(":")[2])
        server = Server(host="127.0.0.1", port=port, token=tmp_path / "token", namespace="default")
        with agent(server, cluster) as (cache, _, _beat):
            with proxy.failing(fault):
                other.run_pod("redis-0")
                assert cluster.api.call("DELETE", cluster.placement_path("mp")).ok
                made = cluster.apply("mp")["metadata"]["uid"]
                edit(cluster, "mp", paused=True)
                eventually(lambda: proxy.done[fault.name])
                held = cache.snapshot()
            eventually(lambda: known(cache, other.namespace), timeout_s=60)
            wait_for_only(cache, cluster, made, timeout_s=60)
            eventually(lambda: known(cache, cluster.namespace)["mp"].spec.paused, timeout_s=60)
            assert not cache.snapshot().has(uid)
    assert all(held.knows(p.ref.namespace) or p.ref.uid in held.held_pods for p in held.pods)
