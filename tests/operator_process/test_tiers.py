# SPDX-License-Identifier: Apache-2.0
"""The operator says of each MemoryTier where it is in force, by what agents report."""

from __future__ import annotations

from typing import Any

import pytest
from memplace.topology import said_by
from memplace_lab.product.apiserver import ApiServer
from memplace_lab.product.operating import API, Operator

from tests.support.cluster import Cluster, eventually

TIERS = f"{API}/memorytiers"
GIB = 1 << 30


def make(cluster: Cluster, name: str, **spec: Any) -> str:
    body = {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "MemoryTier",
        "metadata": {"name": name},
        "spec": {"numaNodes": [1], "nodeNames": [cluster.node], **spec},
    }
    assert cluster.api.call("POST", TIERS, body).ok
    cluster.made(f"{TIERS}/{name}")
    return name


def report(cluster: Cluster, tier: str) -> None:
    """Be the agent: NUMA node 1 is in a tier, because its MemoryTier says so."""
    cluster.report()
    numa_nodes = [
        {"id": 0, "cpus": "0-1", "totalBytes": GIB, "tier": "dram", "evidence": "it has CPUs"},
        {"id": 1, "totalBytes": 2 * GIB, "tier": tier, "evidence": said_by(tier)},
    ]
    path = f"{API}/nodememories/{cluster.node}/status"
    assert cluster.api.call("PATCH", path, {"status": {"numaNodes": numa_nodes}}).ok


def status(api: ApiServer, name: str) -> dict[str, Any]:
    found: dict[str, Any] = api.call("GET", f"{TIERS}/{name}").body.get("status", {})
    return found


def reason(api: ApiServer, name: str) -> str:
    conditions = status(api, name).get("conditions") or [{}]
    return str(conditions[0].get("reason", ""))


@pytest.fixture(autouse=True)
def _running(operator: Operator) -> None:
    assert operator.is_ready()


def test_a_tier_is_in_force_once_an_agent_says_so(api: ApiServer, cluster: Cluster) -> None:
    name = make(cluster, "status-far")
    eventually(lambda: reason(api, name) == "NotInForce")
    report(cluster, name)
    eventually(lambda: reason(api, name) == "InForce")
    found = status(api, name)
    assert (found["nodes"], found["capacityBytes"]) == (1, 2 * GIB)
    assert found["summary"] == "2.0 GiB on 1 node"
    assert found["observedGeneration"] == 1


def test_of_two_that_claim_a_numa_node_one_says_who_has_it(
    api: ApiServer, cluster: Cluster
) -> None:
    first, second = make(cluster, "status-a"), make(cluster, "status-b")
    report(cluster, first)
    eventually(lambda: reason(api, first) == "InForce")
    eventually(lambda: reason(api, second) == "NotInForce")
    message = status(api, second)["conditions"][0]["message"]
    assert message == f"on no node; on {cluster.node} MemoryTier {first} has NUMA node 1"


def writes(api: ApiServer) -> int:
    """Return how many writes of statuses of tiers the API server has counted."""
    text = api.kubectl("get", "--raw", "/metrics").stdout
    lines = [line for line in text.splitlines() if line.startswith("apiserver_request_total{")]
    ours = [line for line in lines if 'resource="memorytiers"' in line and "PATCH" in line]
    return sum(int(line.split()[-1]) for line in ours if 'subresource="status"' in line)


def test_what_does_not_change_is_not_written(api: ApiServer, cluster: Cluster) -> None:
    name = make(cluster, "status-still")
    report(cluster, name)
    eventually(lambda: reason(api, name) == "InForce")
    before = writes(api)
    assert before
    other = make(cluster, "status-other")  # it is told of in a later look, after the first one
    eventually(lambda: reason(api, other) == "NotInForce")
    assert writes(api) == before + 1


def test_an_edit_is_answered(api: ApiServer, cluster: Cluster) -> None:
    name = make(cluster, "status-edit")
    report(cluster, name)
    eventually(lambda: reason(api, name) == "InForce")
    assert api.call("PATCH", f"{TIERS}/{name}", {"spec": {"numaNodes": [1, 7]}}).ok
    eventually(lambda: status(api, name)["observedGeneration"] == 2)
    assert reason(api, name) == "PartlyInForce"
    message = status(api, name)["conditions"][0]["message"]
    assert f"on {cluster.node} there is no memory in NUMA node 7" in message
