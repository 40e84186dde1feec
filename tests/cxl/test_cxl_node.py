# SPDX-License-Identifier: Apache-2.0
"""A worker with an emulated CXL Type-3 device, brought up as on real hardware.

Each access to the device leaves the emulated processor, so little is placed on it: the
8 MiB of the workload's io-buffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from memplace_lab.base.steps import wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import scenario
from memplace_lab.show.scenario import Pod

pytestmark = pytest.mark.timeout(900)
NAME = "buffers-on-cxl"
PLACEMENT = f"""
apiVersion: memplace.dev/v1alpha1
kind: MemoryPlacement
metadata: {{name: {NAME}, namespace: {scenario.NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: workload}}}}
  rules:
  - name: buffers
    regions: [{{type: Anonymous, name: io-buffers}}]
    policy: {{mode: PreferredMany, tiers: [cxl]}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with product.running("cxl") as running:
        yield running


@pytest.fixture(scope="module")
def pod(cluster: Cluster) -> Pod:
    return scenario.start_pods(cluster, ("workload",))["workload"]


def test_the_device_is_a_node_in_a_tier_of_its_own(cluster: Cluster) -> None:
    devices = cluster.ssh("worker-1", "ls /sys/bus/dax/drivers/kmem")
    assert "dax0.0" in devices.split()
    # An agent is ready before it has reported for the first time.
    wait_for("a report of the node", lambda: bool(_reported(cluster)), timeout_s=60)
    (node,) = [n for n in _reported(cluster) if n["id"] == scenario.CXL]
    assert node["tier"] == "cxl"
    assert node["evidence"] == "its memory is that of a CXL region, by dax0.0"
    assert node["cpus"] == ""
    assert 200 << 20 < node["totalBytes"] <= 256 << 20


def _reported(cluster: Cluster) -> list[dict[str, Any]]:
    reports = cluster.get("nodememories")["items"]
    return [node for r in reports for node in r.get("status", {}).get("numaNodes", [])]


def test_a_running_pods_buffers_move_there(cluster: Cluster, pod: Pod) -> None:
    assert not pod.observe().labelled("anon:io-buffers").get(scenario.CXL)
    cluster.kubectl("apply", "-f", "-", stdin=PLACEMENT)
    scenario.wait_ready(cluster, NAME)
    found = pod.observe()
    assert scenario.on_tier(found.labelled("anon:io-buffers")), found.labelled("anon:io-buffers")
    assert found.labelled("anon:io-buffers")[scenario.CXL] >= 8 << 20
    assert not found.labelled("heap").get(scenario.CXL)


def test_the_program_still_finds_its_data(pod: Pod) -> None:
    """The workload checks each page again and again, and ends when one has changed."""
    assert pod.restarts() == 0


def test_the_policy_comes_back(cluster: Cluster, pod: Pod) -> None:
    # A child that the agent has hardly had the time to see has the policy too.
    pod.exec("/workload", "fork")
    cluster.kubectl("delete", "mp", "-n", scenario.NAMESPACE, NAME)
    scenario.wait_policies_back({"workload": pod})
    assert pod.observe().policies("anon:io-buffers") == {"default"}
    assert pod.restarts() == 0
