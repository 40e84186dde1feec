# SPDX-License-Identifier: Apache-2.0
"""One manifest on a kernel with process_mbind() and on Debian's stock kernel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from memplace_lab.base.steps import wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.show import both_kernels, scenario
from memplace_lab.show.both_kernels import PLACEMENT
from memplace_lab.show.scenario import Pod

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def both(cluster: Cluster) -> Iterator[dict[str, Pod]]:
    """A pod on each kernel, under one placement."""
    started = both_kernels.start_pods(cluster)
    both_kernels.apply_example(cluster)
    yield started
    cluster.kubectl("delete", "mp", "-n", scenario.NAMESPACE, PLACEMENT)
    cluster.kubectl("delete", "pod", "-n", scenario.NAMESPACE, *both_kernels.PODS)


def ready(cluster: Cluster) -> tuple[str, str]:
    conditions = scenario.status(cluster, PLACEMENT).get("conditions", [])
    found: dict[str, Any] = next((c for c in conditions if c["type"] == "Ready"), {})
    return found.get("status", ""), found.get("reason", "")


def test_each_kernel_does_what_it_can(cluster: Cluster, both: dict[str, Pod]) -> None:
    scenario.wait_ready(cluster, PLACEMENT)
    both_kernels.check(cluster, both)
    assert ready(cluster) == ("True", "PlacedBestEffort")
    status = scenario.status(cluster, PLACEMENT)
    assert (status["placedPods"], status["bestEffortPods"], status["unsupportedPods"]) == (1, 1, 1)
    unsupported = next(c for c in status["conditions"] if c["type"] == "Unsupported")
    assert (unsupported["status"], unsupported["reason"]) == ("True", "KernelWithoutProcessMbind")
    assert "1 pod on node worker-2" in unsupported["message"]


def test_memory_that_comes_later_follows_on_both(both: dict[str, Pod]) -> None:
    for pod in both.values():
        both_kernels.grow(pod)
        assert pod.restarts() == 0


def fared_states(cluster: Cluster) -> dict[str, str]:
    return {name: found.state for name, found in both_kernels.fared(cluster).items()}


def test_observe_lets_the_stock_kernels_pod_alone(cluster: Cluster, both: dict[str, Pod]) -> None:
    patch = json.dumps({"spec": {"onUnsupported": "Observe"}})
    kind = ("mp", "-n", scenario.NAMESPACE, PLACEMENT)
    cluster.kubectl("patch", *kind, "--type=merge", "-p", patch)
    wait_for("Ready=False Observed", lambda: ready(cluster) == ("False", "Observed"), timeout_s=60)
    # Observed counts for more than Pending: the other node may not have looked at it yet.
    states = {"on-memplace-kernel": "Placed", "on-stock-kernel": "Observed"}
    wait_for("what each node says", lambda: fared_states(cluster) == states, timeout_s=30)
    pod = both["on-stock-kernel"]
    assert scenario.DRAM not in both_kernels.data(pod.observe())
    pod.exec("/workload", "map")
    assert both_kernels.data(pod.observe())[scenario.DRAM] >= 16 << 20
