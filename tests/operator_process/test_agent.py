# SPDX-License-Identifier: Apache-2.0
"""The agent's side of the wire against a real API server."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from memplace.api.v1alpha1 import NodeMemoryStatus, PlacementReport
from memplace_agent.cluster.collections import collections
from memplace_agent.cluster.following import followers
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.lease import Heartbeat
from memplace_agent.cluster.publish import Publisher
from memplace_agent.cluster.world import Cache
from memplace_kube.client import ApiClient, Server
from memplace_kube.watch import Watcher, as_mapping
from memplace_lab.cluster.nri import build_adaptation
from memplace_lab.product.apiserver import ApiServer
from memplace_lab.product.operating import API

from tests.operator_process.whole_agent import whole_agent
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.timeout(180)
# Of the API server's metric: not asked of etcd after all, and answered.
FROM_CACHE = ("false", "true")
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


@contextlib.contextmanager
def running(*runs: Any) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=run, args=(stop, lambda: None), daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()


@contextlib.contextmanager
def agent(server: Server, cluster: Cluster) -> Iterator[tuple[Cache, Publisher, Heartbeat]]:
    node = cluster.node
    cluster.made(f"{API}/nodememories/{node}", f"{LEASES}/{node}")
    cache = Cache(node)
    watchers = followers(server, cache, node)
    beat = Heartbeat(server, node, is_alive=lambda: True, owner=lambda: cache.own_uid)
    publisher = Publisher(server, node, beat.beats_in_report)
    with running(*(watcher.run for watcher in watchers), publisher.run, beat.run):
        eventually(lambda: cache.is_synced)
        yield cache, publisher, beat


def test_an_agent_reports_and_lives(cluster: Cluster, server: Server) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    with agent(server, cluster) as (cache, publisher, _):
        eventually(lambda: cache.snapshot().pods and cache.snapshot().placements)
        (seen,) = cache.snapshot().pods
        assert seen.ref.uid == pod["metadata"]["uid"]
        report = PlacementReport(
            uid=placement["metadata"]["uid"], namespace=cluster.namespace, name="mp"
        )
        publisher.publish(NodeMemoryStatus(agent_version="1", placements=(report,)))
        eventually(lambda: cache.own_uid)
        eventually(lambda: cluster.api.call("GET", f"{LEASES}/{cluster.node}").ok)
    memory = cluster.api.call("GET", f"{API}/nodememories/{cluster.node}").body
    assert memory["status"]["placements"][0]["name"] == "mp"
    assert [c["type"] for c in memory["status"]["conditions"]] == ["Complete"]
    lease = cluster.api.call("GET", f"{LEASES}/{cluster.node}").body
    assert lease["metadata"]["ownerReferences"][0]["uid"] == memory["metadata"]["uid"]
    age = datetime.now(UTC) - datetime.fromisoformat(lease["spec"]["renewTime"])
    assert age.total_seconds() < 60


def test_the_largest_report_is_taken(cluster: Cluster, server: Server) -> None:
    many = tuple(
        PlacementReport(uid=f"u{i}", namespace=f"ns{i % 7}", name=f"mp{i}", message="x" * 1024)
        for i in range(2000)
    )
    with agent(server, cluster) as (cache, publisher, _):
        publisher.publish(NodeMemoryStatus(placements=many))
        eventually(lambda: cache.own_uid)
        path = f"{API}/nodememories/{cluster.node}"
        eventually(lambda: cluster.api.call("GET", path).body.get("status"))
        status = cluster.api.call("GET", path).body["status"]
    assert 150 < len(status["placements"]) <= 512
    assert status["truncated"]["placements"] == 2000 - len(status["placements"])
    assert status["conditions"][0]["reason"] == "ReportTooLarge"


def test_a_list_of_many_pages_is_whole(cluster: Cluster, server: Server) -> None:
    for number in range(12):
        cluster.apply(f"mp{number}")
    watcher = Watcher(server, Cache(), collections("n")[0], as_mapping)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memplace_kube.watch.PAGE", 5)
        pages = list(watcher._pages({"limit": "5"}))
    objects = [as_mapping(item) for page in pages for item in page.items or ()]
    names = {
        o["metadata"]["name"] for o in objects if o["metadata"]["namespace"] == cluster.namespace
    }
    assert names == {f"mp{number}" for number in range(12)}
    assert len(pages) > 2
    assert len({page.metadata.resource_version for page in pages}) == 1


def consistent(api: ApiServer) -> Counter[str]:
    """Return how many lists as new as etcd's came from the API server's cache, by resource."""
    text = api.call("GET", "/metrics").body["message"]
    found = re.findall(
        r'^apiserver_watch_cache_consistent_read_total\{fallback="(\w+)",group="[\w.]*",'
        r'resource="(\w+)",success="(\w+)"\} (\d+)$',
        text,
        re.MULTILINE,
    )
    return Counter(
        {what: int(count) for behind, what, good, count in found if (behind, good) == FROM_CACHE}
    )


def test_first_lists_are_the_newest_and_cost_etcd_nothing(cluster: Cluster, server: Server) -> None:
    before = consistent(cluster.api)
    with agent(server, cluster):
        more = consistent(cluster.api) - before
    kinds = {"memoryplacements", "clustermemoryplacements", "memorytiers", "nodememories", "pods"}
    assert kinds - more.keys() <= {"memoryplacements"}, "before it has pods it follows none"


def test_events_are_seen_as_they_come(cluster: Cluster, server: Server) -> None:
    with agent(server, cluster) as (cache, _, _beat):
        cluster.run_pod("redis-0")
        eventually(lambda: cache.snapshot().pods)
        cache.changed.clear()
        cluster.apply("mp")
        assert cache.changed.wait(10)
        cluster.api.call("DELETE", cluster.placement_path("mp"))
        eventually(
            lambda: not [p for p in cache.snapshot().placements if p.namespace == cluster.namespace]
        )


@pytest.mark.parametrize("kind", Kind)
def test_all_collections_are_served(kind: Kind, server: Server) -> None:
    (found,) = [each for each in collections("n") if each.kind is kind]
    query = {"fieldSelector": found.fields} if found.fields else {}
    assert b'"items"' in ApiClient(server).get(found.path, query)


RULE = {
    "name": "heap",
    "regions": [{"type": "Heap"}],
    "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
}


def test_labels_of_the_node_decide_within_seconds(cluster: Cluster, server: Server) -> None:
    cluster.join()
    cluster.run_pod("redis-0")
    cluster.apply_rules("mp", [RULE], nodeSelector={"pool": "cxl"})
    path = f"/api/v1/nodes/{cluster.node}"
    with agent(server, cluster) as (cache, _, _beat):
        eventually(lambda: cache.snapshot().elsewhere and not cache.snapshot().placements)
        assert cluster.api.call("PATCH", path, {"metadata": {"labels": {"pool": "cxl"}}}).ok
        eventually(lambda: cache.snapshot().placements, timeout_s=5)
        assert cluster.api.call("PATCH", path, {"metadata": {"labels": {"pool": None}}}).ok
        eventually(lambda: not cache.snapshot().placements, timeout_s=5)


def test_of_a_node_no_more_than_its_metadata_is_read(cluster: Cluster, server: Server) -> None:
    cluster.join()
    (found,) = [each for each in collections(cluster.node) if each.kind is Kind.NODE]
    query = {"fieldSelector": found.fields}
    content = ApiClient(server).get(found.path, query, accept=found.accept(is_list=True))
    listed = json.loads(content)
    assert listed["kind"] == "PartialObjectMetadataList" and len(listed["items"]) == 1
    assert listed["items"][0].keys() <= {"kind", "apiVersion", "metadata"}
    watcher = Watcher(server, Cache(), found, as_mapping)
    watcher._version = "0"
    event = json.loads(next(iter(watcher._lines())))
    assert event["object"].keys() <= {"kind", "apiVersion", "metadata"}
    assert event["object"]["metadata"]["name"] == cluster.node


def test_the_whole_agent_as_a_process(cluster: Cluster, api: ApiServer, tmp_path: Path) -> None:
    cluster.made(f"{API}/nodememories/{cluster.node}", f"{LEASES}/{cluster.node}")
    nri = str(tmp_path / "nri.sock")
    with contextlib.ExitStack() as stack:
        place = tmp_path / "agent"
        env = {"MEMPLACE_NRI_SOCKET": nri}
        agent = stack.enter_context(whole_agent(api, cluster.node, place, env=env))
        eventually(lambda: agent.is_ready)
        assert agent.get("/healthz") == (200, "ok\n")
        path = f"{API}/nodememories/{cluster.node}"
        eventually(lambda: cluster.api.call("GET", path).ok)
        eventually(lambda: cluster.api.call("GET", path).body.get("status", {}).get("numaNodes"))
        eventually(lambda: cluster.api.call("GET", f"{LEASES}/{cluster.node}").ok)
        text = agent.get("/metrics")[1]
        for kind in Kind:
            assert f'memplace_agent_watch_age_seconds{{kind="{kind}"}}' in text
        assert "memplace_agent_nri_connected 0.0" in text
        half = [str(build_adaptation("nri-0.12")), "-socket", nri]
        runtime = subprocess.Popen(half, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        stack.callback(runtime.communicate)
        stack.callback(runtime.kill)
        eventually(lambda: "memplace_agent_nri_connected 1.0" in agent.get("/metrics")[1])
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(timeout=5) == 0
    assert agent.log.count("NRI: not connected") == 1
