# SPDX-License-Identifier: Apache-2.0
"""Agents that fall silent, whatever their clocks say, and nodes that go."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest
from memplace_lab.product.apiserver import ApiServer
from memplace_lab.product.operating import API, Operator

from tests.support.cluster import Cluster, eventually, operating, result

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]

STALE_S = 6
HOUR = 3600.0


@pytest.fixture(scope="module")
def operator(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Yield an operator that does not wait for long."""
    folder = tmp_path_factory.mktemp("operator")
    with operating(api, folder, MEMPLACE_STALE_SECONDS=str(STALE_S)) as process:
        yield process


@contextlib.contextmanager
def beating(beat: Callable[[], None]) -> Iterator[None]:
    """Have an agent give a sign of life each second."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(1.1):
            beat()

    thread = threading.Thread(target=run, daemon=True)
    beat()
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def stays(cluster: Cluster, ready: tuple[str, str]) -> None:
    """Hold for two times of what an agent may be silent."""
    with pytest.raises(AssertionError, match="is still"):
        cluster.wait("mp", "Ready", "never", "", timeout_s=2 * STALE_S)
    assert cluster.condition("mp")[:2] == ready


@pytest.mark.parametrize("ahead_s", [0, -HOUR, HOUR], ids=["right", "behind", "ahead"])
def test_an_agent_lives_while_its_lease_changes(cluster: Cluster, ahead_s: float) -> None:
    cluster.join()
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod), age_s=HOUR)
    with beating(lambda: cluster.renew(age_s=-ahead_s)):
        cluster.wait("mp", "Ready", "True", "Placed")
        stays(cluster, ("True", "Placed"))
    assert cluster.node in cluster.wait("mp", "Degraded", "True", "AgentNotReporting")
    with beating(lambda: cluster.renew(age_s=-ahead_s)):
        cluster.wait("mp", "Ready", "True", "Placed")
    wanted = [("Warning", "AgentNotReporting"), ("Normal", "AsExpected"), ("Normal", "Placed")]
    eventually(lambda: cluster.events("mp")[-3:] == wanted)


def test_an_agent_of_a_version_before_leases_lives_by_its_report(cluster: Cluster) -> None:
    cluster.join()
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    with beating(lambda: cluster.report(result(placement, pod))):
        cluster.wait("mp", "Ready", "True", "Placed")
        stays(cluster, ("True", "Placed"))
    cluster.wait("mp", "Degraded", "True", "AgentNotReporting")


def test_what_was_said_of_a_silent_agent_stays_over_a_restart(
    cluster: Cluster, operator: Operator
) -> None:
    cluster.join()
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Degraded", "True", "AgentNotReporting")
    before = cluster.get("mp")
    operator.stop()
    operator.start()
    eventually(operator.is_ready)
    stays(cluster, ("False", "AgentNotReporting"))
    assert cluster.get("mp") == before


def test_a_node_memory_goes_with_its_node(cluster: Cluster) -> None:
    staying = f"{cluster.node}-there"
    assert cluster.api.call("POST", "/api/v1/nodes", {"metadata": {"name": staying}}).ok
    cluster.made(f"/api/v1/nodes/{staying}")
    cluster.report(node=staying)
    cluster.report()
    gone = f"{API}/nodememories/{cluster.node}"
    eventually(lambda: cluster.api.call("GET", gone).status == 404, timeout_s=60)
    assert cluster.api.call("GET", f"{API}/nodememories/{staying}").ok
