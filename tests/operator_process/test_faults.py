# SPDX-License-Identifier: Apache-2.0
"""The operator behind a connection that lies, cuts and refuses; and without its rights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from memplace_lab.product.apiserver import ApiServer
from memplace_lab.product.operating import RBAC, Operator

from tests.operator_process.faulty import FAULTS, Fault, Proxy
from tests.support.cluster import Cluster, eventually, operating, result

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]

FAULT_S = 2.0


@pytest.fixture(scope="module")
def proxy(api: ApiServer) -> Iterator[Proxy]:
    """Yield a proxy before the API server."""
    with Proxy(api).running() as found:
        yield found


@pytest.fixture(scope="module")
def operator(
    api: ApiServer, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """Yield an operator that reaches the API server through the proxy only."""
    folder = tmp_path_factory.mktemp("operator")
    config = yaml.safe_load(api.kubeconfig("operator").read_text())
    config["clusters"][0]["cluster"] = {"server": proxy.url}
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    with operating(api, folder, KUBECONFIG=str(folder / "kubeconfig")) as process:
        yield process


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_ends_nothing_and_loses_nothing(
    cluster: Cluster, operator: Operator, proxy: Proxy, fault: Fault
) -> None:
    process = operator.process.pid
    kept = cluster.apply("kept")
    gone = cluster.apply("gone", app="other")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(kept, pod))
    cluster.wait("kept", "Ready", "True", "Placed")
    cluster.wait("gone", "Ready", "True", "NoPods")
    with proxy.failing(fault):
        eventually(lambda: proxy.done[fault.name])
        cluster.report(result(kept, pod, state="Failed", reason="TierFull"))
        made = cluster.apply("made", app="third")
        cluster.api.call("DELETE", cluster.placement_path(gone["metadata"]["name"]))
        third = cluster.run_pod("third-0", app="third")
        time.sleep(FAULT_S)
    assert operator.process.poll() is None, operator.raw_log()[-3000:]
    cluster.wait("kept", "Degraded", "True", "TierFull", timeout_s=60)
    cluster.report(result(kept, pod), result(made, third))
    cluster.wait("kept", "Ready", "True", "Placed")
    cluster.wait("made", "Ready", "True", "Placed")
    eventually(operator.is_ready)
    assert operator.process.poll() is None
    assert operator.process.pid == process
    assert not crashed(operator)


def test_the_process_outlives_kopfs_watch(
    cluster: Cluster, operator: Operator, proxy: Proxy
) -> None:
    process = operator.process.pid
    with proxy.failing(FAULTS[0]):
        eventually(lambda: "starting anew" in operator.raw_log())
    deadline = time.monotonic() + 25
    while time.monotonic() < deadline:
        assert operator.process.poll() is None, "it was killed"
        time.sleep(1)
    cluster.apply("mp")
    cluster.wait("mp", "Ready", "True", "NoPods")
    assert operator.process.pid == process


def crashed(operator: Operator) -> list[str]:
    """Return what the log says of a thread or a task that ended with an error."""
    text = operator.raw_log()
    marks = ("Exception in thread", "was never retrieved")
    return [line[:600] for line in text.splitlines() if any(mark in line for mark in marks)]


def test_an_operator_that_starts_among_faults(
    api: ApiServer, proxy: Proxy, operator: Operator, cluster: Cluster
) -> None:
    operator.stop()
    cluster.apply("mp")
    operator.start()
    for fault in FAULTS:
        with proxy.failing(fault):
            time.sleep(0.7)
    cluster.wait("mp", "Ready", "True", "NoPods", timeout_s=90)
    eventually(operator.is_ready)
    assert not crashed(operator)


@pytest.mark.parametrize("name", ["broken-json", "other-json", "other-object", "deep-json"])
def test_tiers_are_listed_again_after_nonsense(operator: Operator, proxy: Proxy, name: str) -> None:
    """Without its list, nobody hears of a MemoryTier that went while a watch was away."""
    operator.stop()
    proxy.listings.clear()
    (nonsense,) = [fault for fault in FAULTS if fault.name == name]
    proxy.fault_of_lists = nonsense
    operator.start()
    try:
        eventually(lambda: len(proxy.listings) >= 2)
    finally:
        proxy.fault_of_lists = None
    seen = len(proxy.listings)
    eventually(lambda: len(proxy.listings) > seen)
    eventually(operator.is_ready)
    assert not crashed(operator)


def test_rights_that_are_taken_away_and_given_back(
    cluster: Cluster, operator: Operator, api: ApiServer
) -> None:
    process = operator.process.pid
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    path = f"{RBAC}/clusterrolebindings/test-operator"
    binding: Any = api.call("GET", path).body
    assert api.call("DELETE", path).ok
    del binding["metadata"]["resourceVersion"], binding["metadata"]["uid"]
    try:
        cluster.report(result(placement, pod, state="Failed", reason="TierFull"))
        cluster.apply("later", app="other")
        time.sleep(8)
        assert cluster.condition("mp")[:2] == ("True", "Placed")
        assert operator.get("/healthz")[0] == 200
    finally:
        assert api.call("POST", f"{RBAC}/clusterrolebindings", binding).ok
    cluster.wait("mp", "Degraded", "True", "TierFull", timeout_s=90)
    cluster.wait("later", "Ready", "True", "NoPods", timeout_s=60)
    said = [line["message"] for line in operator.log() if "403" in line["message"]]
    assert said, "an admin finds in the log that a right is missing"
    assert operator.process.pid == process
    assert operator.process.poll() is None
    assert not crashed(operator)
