# SPDX-License-Identifier: Apache-2.0
"""Agents that fall silent, whatever their clocks say, and nodes that go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from memplace_lab.product.apiserver import ApiServer
from memplace_lab.product.operating import API, Operator

from tests.support.cluster import Cluster, eventually, operating, result
from tests.support.repeating import repeating

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]

STALE_S, BEAT_S = 6, 1.1
HOUR = 3600.0


@pytest.fixture(scope="module")
def operator(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Yield an operator that does not wait for long."""
    folder = tmp_path_factory.mktemp("operator")
    with operating(api, folder, MEMPLACE_STALE_SECONDS=str(STALE_S)) as process:
        yield process


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
    with repeating(lambda: cluster.renew(age_s=-ahead_s), every_s=BEAT_S):
        cluster.wait("mp", "Ready", "True", "Placed")
        stays(cluster, ("True", "Placed"))
    assert cluster.node in cluster.wait("mp", "Degraded", "True", "AgentNotReporting")
    with repeating(lambda: cluster.renew(age_s=-ahead_s), every_s=BEAT_S):
        cluster.wait("mp", "Ready", "True", "Placed")
    wanted = [("Warning", "AgentNotReporting"), ("Normal", "AsExpected"), ("Normal", "Placed")]
    eventually(lambda: cluster.events("mp")[-3:] == wanted)


def test_an_agent_of_a_version_before_leases_lives_by_its_report(cluster: Cluster) -> None:
    cluster.join()
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    with repeating(lambda: cluster.report(result(placement, pod)), every_s=BEAT_S):
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
