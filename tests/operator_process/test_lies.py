# SPDX-License-Identifier: Apache-2.0
"""Reports that lie, and objects of a version that this operator does not know."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from memplace_lab.product.apiserver import CRDS, ApiServer
from memplace_lab.product.operating import API, Operator

from tests.support.cluster import Cluster, eventually, result
from tests.support.crds import load_crds

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]

MOST = 2**63 - 1


def send(cluster: Cluster, *placements: Any, **status: Any) -> Any:
    """Write a report as it is, and return what the API server says."""
    path = f"{API}/nodememories/{cluster.node}/status"
    return cluster.api.call("PATCH", path, {"status": {"placements": [*placements], **status}})


def rule_of(report: Any) -> Any:
    return report["pods"][0]["containers"][0]["rules"][0]


@pytest.mark.parametrize("field", ["bytes", "regions", "misplacedBytes", "ownRegions"])
def test_less_than_nothing_is_refused(cluster: Cluster, field: str) -> None:
    placement, pod = cluster.apply("mp"), cluster.run_pod("redis-0")
    cluster.report()
    lie = result(placement, pod)
    rule_of(lie)[field] = -1
    answer = send(cluster, lie)
    assert answer.status == 422
    assert f"rules[0].{field}" in answer.message
    assert "greater than or equal to 0" in answer.message


def test_sums_of_huge_numbers_can_be_written(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pods = [cluster.run_pod(f"redis-{number}") for number in range(2)]
    cluster.report()
    lie = result(placement, *pods)
    rule_of(lie).update(
        dict.fromkeys(("bytes", "regions", "misplacedBytes", "ownRegions"), MOST),
        numaNodes=[{"id": 1, "bytes": MOST}, {"id": 2, "bytes": MOST}],
    )
    assert send(cluster, lie).ok
    cluster.wait("mp", "Ready", "True", "Placed")
    (rule,) = eventually(lambda: cluster.get("mp")["status"].get("rules"))
    assert rule["bytes"] == MOST
    assert {tier["bytes"] for tier in rule["tiers"]} == {MOST}


def test_tiers_and_reasons_without_measure_can_be_written(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pods = [cluster.run_pod("redis-0")]
    here, there = cluster.node, f"{cluster.node}-there"
    for node in (here, there):
        cluster.node = node
        pods.append(cluster.run_pod(f"on-{node[-5:]}"))
        cluster.report()
        lie = result(placement, pods[-1], state="Unsupported", reason="no kernel: \n ä")
        rule_of(lie)["numaNodes"] = [{"id": i, "bytes": 1} for i in range(64)]
        names = ["cxl", *(f"{node[-5:]}-{i:02}-".ljust(63, "x") for i in range(63))]
        tiers = [{"name": name, "numaNodes": [i]} for i, name in enumerate(names)]
        assert send(cluster, lie, tiers=tiers).ok
    cluster.wait("mp", "Ready", "False", "Unsupported")
    eventually(lambda: len(cluster.get("mp")["status"]["rules"][0]["tiers"]) == 65)
    (rule,) = cluster.get("mp")["status"]["rules"]
    assert rule["tiers"][-1]["name"] == "other", "what has no room is somewhere else"
    assert sum(tier["bytes"] for tier in rule["tiers"]) == 128


def test_reports_about_pods_that_are_not_there_or_elsewhere(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod, state="Moving"))
    cluster.wait("mp", "Ready", "False", "Moving")
    none = copy.deepcopy(pod)
    none["metadata"] |= {"uid": "00000000-0000-0000-0000-000000000000", "name": "nobody"}
    # Another node says that it has placed this pod, and one that nobody knows.
    cluster.report(result(placement, pod, none), node=f"{cluster.node}-liar")
    cluster.report(result(placement, pod, state="Moving"), result(placement, none) | {"uid": "u"})
    with pytest.raises(AssertionError, match="is still"):
        cluster.wait("mp", "Ready", "True", "Placed", timeout_s=5)
    status = cluster.get("mp")["status"]
    assert (status["matchedPods"], status["placedPods"]) == (1, 0)
    assert status["rules"][0]["bytes"] == 65 << 20


def test_a_list_for_a_time_is_ignored(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    # The API server takes it for a time, whatever the schema says.
    assert send(cluster, result(placement, pod, state="Moving"), heartbeatTime=["a"]).ok
    with pytest.raises(AssertionError, match="is still"):
        cluster.wait("mp", "Ready", "False", "Moving", timeout_s=3)
    cluster.report(result(placement, pod, state="Moving"))
    cluster.wait("mp", "Ready", "False", "Moving")


@pytest.fixture
def next_version(api: ApiServer) -> Iterator[None]:
    """Have the API server take whatever a version to come may have."""
    for crd in load_crds():
        newer = copy.deepcopy(crd)
        newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
        }
        _replace(api, newer)
    yield
    for crd in load_crds():
        _replace(api, crd)


def _replace(api: ApiServer, crd: Any) -> None:
    path = f"{CRDS}/{crd['metadata']['name']}"
    version = api.call("GET", path).body["metadata"]["resourceVersion"]
    crd["metadata"]["resourceVersion"] = version
    answer = api.call("PUT", path, crd)
    assert answer.ok, answer.message


def _is_taken(cluster: Cluster, spec: Any) -> bool:
    """Tell whether the API server keeps what it does not know."""
    probe: dict[str, Any] = {"apiVersion": "memplace.dev/v1alpha1", "kind": "MemoryPlacement"}
    probe |= {"metadata": {"name": "probe"}, "spec": spec}
    path = cluster.placement_path("").rstrip("/")
    answer = cluster.api.call("POST", path, probe, dryRun="All")
    return bool(answer.ok and answer.body["spec"] == spec)


@pytest.mark.usefixtures("next_version")
def test_what_the_next_version_says(cluster: Cluster, operator: Operator) -> None:
    rule = {
        "name": "heap",
        "regions": [{"type": "Heap"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    right = {"selector": {"matchLabels": {"app": "redis"}}, "rules": [rule]}
    unknown: dict[str, tuple[Any, str]] = {
        "field": (right | {"later": {"a": 1}}, "spec.later: unknown field"),
        "value": (right | {"mode": "Learn"}, "spec.mode"),
        "type": (right | {"rules": {"heap": rule}}, "spec.rules"),
        "hold": (right | {"rollout": {"maxNodes": 1, "holdOn": ["Wind"]}}, "spec.rollout.holdOn"),
        "nothing": ({}, "spec"),
    }
    eventually(lambda: _is_taken(cluster, unknown["field"][0]))
    # Watches that were open before go on without the new fields.
    operator.stop()
    operator.start()
    path = cluster.placement_path("").rstrip("/")
    known = cluster.apply("known")
    for name, (spec, _) in unknown.items():
        body = {"apiVersion": "memplace.dev/v1alpha1", "kind": "MemoryPlacement"}
        cluster._create(path, body | {"metadata": {"name": name}, "spec": spec})
    pod = cluster.run_pod("redis-0")
    tier: dict[str, Any] = {"apiVersion": "memplace.dev/v1alpha1", "kind": "MemoryTier"}
    tier["later"] = [1]
    cluster._create(f"{API}/memorytiers", tier | {"metadata": {"name": "later"}, "spec": "?"})
    cluster.report()
    told = result(known, pod)
    told["later"] = told["pods"][0]["later"] = {"a": [{}]}
    told["pods"][0]["containers"][0]["memoryPressure"] = "Enormous"
    assert send(cluster, told, later={"a": 1}, backend={"name": "Magic", "capabilities": ["X"]}).ok
    spec = {"spec": {"agent": "Asleep", "later": 1}}
    assert cluster.api.call("PATCH", f"{API}/nodememories/{cluster.node}", spec).ok
    cluster.wait("known", "Ready", "True", "Placed")
    for name, (_, words) in unknown.items():
        message = cluster.wait(name, "Ready", "False", "Invalid")
        assert message.startswith(words), message
        assert cluster.condition(name, "Degraded")[:2] == ("True", "Invalid")
    # A state that is not known is one that is not placed; what can't be read changes nothing.
    told["pods"][0]["containers"][0]["state"] = "Dreaming"
    assert send(cluster, told).ok
    cluster.wait("known", "Ready", "False", "Pending")
    assert send(cluster, {"uid": known["metadata"]["uid"], "pods": "many"}).ok
    assert send(cluster, deep(), told).ok
    cluster.report(result(known, pod))
    cluster.wait("known", "Ready", "True", "Placed")
    assert operator.is_ready()


def deep() -> Any:
    """Return something deeper than anybody's stack."""
    found: Any = {}
    for _ in range(700):
        found = {"a": found}
    return {"uid": "deep", "later": found}
