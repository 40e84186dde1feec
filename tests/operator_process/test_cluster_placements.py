# SPDX-License-Identifier: Apache-2.0
"""ClusterMemoryPlacements and the operator as a process, at a real API server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from memplace_lab.product.apiserver import CRDS, ApiServer
from memplace_lab.product.operating import DEFAULTS, Operator

from tests.support import names
from tests.support.cluster import Cluster, chore, eventually, operating, result
from tests.support.crds import load_crds

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Return a name that no other test uses: the kind has no namespace."""
    return f"default-{names.of_test(request.node.path, request.node.name)}"


def label(cluster: Cluster, **labels: Any) -> None:
    path = f"/api/v1/namespaces/{cluster.namespace}"
    assert cluster.api.call("PATCH", path, {"metadata": {"labels": labels}}).ok


@pytest.mark.usefixtures("operator")
def test_a_default_from_nothing_to_ready(cluster: Cluster, name: str) -> None:
    default = cluster.apply_default(name)
    assert "namespaceSelector selects" in cluster.wait(name, "Ready", "True", "NoPods")
    pod = cluster.run_pod("redis-0")
    cluster.report()
    # Pending is said before the kubelet starts it, too, in other words.
    eventually(lambda: "at it yet" in cluster.condition(name, "Ready")[2])
    (worst,) = eventually(lambda: cluster.get(name)["status"].get("pods"))
    assert (worst["namespace"], worst["name"]) == (cluster.namespace, "redis-0")
    cluster.report(result(default, pod))
    cluster.wait(name, "Ready", "True", "Placed")
    status = cluster.get(name)["status"]
    assert [status[key] for key in ("matchedPods", "placedPods")] == [1, 1]
    told = [("Normal", "NoPods"), ("Normal", "Pending"), ("Normal", "Placed")]
    eventually(lambda: cluster.events(name) == told)


@pytest.mark.usefixtures("operator")
def test_a_namespaces_own_comes_first_until_the_other_is_enforced(
    cluster: Cluster, name: str
) -> None:
    default = cluster.apply_default(name)
    own = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(own, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    assert "follows a placement of its namespace" in cluster.wait(name, "Ready", "True", "NoPods")
    assert cluster.condition(name, "Degraded")[:2] == ("False", "AsExpected")
    path = f"{DEFAULTS}/{name}"
    default = cluster.api.call("PATCH", path, {"spec": {"enforced": True}}).body
    message = cluster.wait("mp", "Degraded", "True", "Conflict")
    assert f"cluster placement {name} is enforced, this one is not," in message
    cluster.wait(name, "Ready", "False", "Pending")
    cluster.report(result(default, pod))
    cluster.wait(name, "Ready", "True", "Placed")
    assert cluster.api.call("DELETE", path).ok
    cluster.wait("mp", "Degraded", "False", "AsExpected")


@pytest.mark.usefixtures("operator")
def test_a_label_of_a_namespace_changes_a_status(cluster: Cluster, name: str) -> None:
    default = cluster.apply_default(name)
    pod = cluster.run_pod("redis-0")
    cluster.report(result(default, pod))
    cluster.wait(name, "Ready", "True", "Placed")
    label(cluster, test=None)
    cluster.wait(name, "Ready", "True", "NoPods")
    assert cluster.get(name)["status"]["matchedPods"] == 0
    label(cluster, test=cluster.namespace)
    cluster.wait(name, "Ready", "True", "Placed")


@pytest.mark.usefixtures("operator")
def test_what_does_not_change_is_not_written(cluster: Cluster, name: str) -> None:
    default = cluster.apply_default(name)
    pod = cluster.run_pod("redis-0")
    cluster.report(result(default, pod))
    cluster.wait(name, "Ready", "True", "Placed")
    time.sleep(1)
    version = cluster.get(name)["metadata"]["resourceVersion"]
    label(cluster, color="blue")
    cluster.apply("another", app="else")
    cluster.wait("another", "Ready", "True", "NoPods")
    assert cluster.get(name)["metadata"]["resourceVersion"] == version


def test_all_placements_are_deleted_where_that_is_asked_for(cluster: Cluster, name: str) -> None:
    cluster.apply_default(name)
    kept = chore(cluster.api, "retire", "--force", "--delete=agents", "--timeout=5")
    assert kept.returncode == 0, kept.stdout
    assert cluster.api.call("GET", f"{DEFAULTS}/{name}").ok
    done = chore(
        cluster.api, "retire", "--force", "--delete=agents", "--delete=placements", "--timeout=5"
    )
    assert f"deleted ClusterMemoryPlacement {name}" in done.stdout
    assert cluster.api.call("GET", f"{DEFAULTS}/{name}").status == 404


def test_without_the_kind_the_others_are_judged(
    api: ApiServer, cluster: Cluster, operator: Operator, tmp_path: Path
) -> None:
    """An operator may be newer than the CRDs: who keeps those apart updates them later."""
    operator.stop()  # it would go on leading
    (crd,) = [c for c in load_crds() if c["spec"]["names"]["kind"] == "ClusterMemoryPlacement"]
    path = f"{CRDS}/{crd['metadata']['name']}"
    assert api.call("DELETE", path).ok
    eventually(lambda: api.call("GET", path).status == 404)
    try:
        # Its HTTP server may still know the path for a moment.
        eventually(lambda: api.kubectl("get", "--raw", DEFAULTS).returncode != 0)
        with operating(api, tmp_path):
            placement = cluster.apply("mp")
            cluster.report(result(placement, cluster.run_pod("redis-0")))
            cluster.wait("mp", "Ready", "True", "Placed")
            assert api.call("POST", CRDS, crd).ok
            eventually(lambda: api.kubectl("get", "cmp").returncode == 0)
            cluster.apply_default("default-late", enforced=True)
            cluster.wait("mp", "Degraded", "True", "Conflict", timeout_s=60)
    finally:
        if not api.call("GET", path).ok:
            api.call("POST", CRDS, crd)
