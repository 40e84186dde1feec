# SPDX-License-Identifier: Apache-2.0
"""A placement that is deleted moves pages back, or leaves everything as it is, if it says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from memplace_lab.base.steps import wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import scenario
from memplace_lab.show.scenario import CXL, DRAM, Pod

pytestmark = pytest.mark.timeout(600)
PLACED = "prefer (many)=static:1"


@pytest.fixture
def placed(cluster: Cluster, pods: dict[str, Pod]) -> Iterator[Pod]:
    scenario.apply_example(cluster)
    scenario.wait_ready(cluster)
    yield pods["workload"]
    # Whatever was left is taken over, and given back by default.
    scenario.apply_example(cluster)
    scenario.wait_ready(cluster)
    _delete(cluster)
    scenario.wait_policies_back(pods)


def _end_with(cluster: Cluster, word: str) -> None:
    patch = f'{{"spec":{{"onDelete":"{word}"}}}}'
    cluster.kubectl(
        "patch", "mp", "-n", scenario.NAMESPACE, scenario.PLACEMENT, "--type=merge", "-p", patch
    )


def _delete(cluster: Cluster) -> None:
    cluster.kubectl("delete", "mp", "-n", scenario.NAMESPACE, scenario.PLACEMENT)


def _heap(pod: Pod) -> dict[int, int]:
    return dict(pod.observe().labelled("heap"))


def test_pages_go_back_to_dram_with_the_policies(
    cluster: Cluster, pods: dict[str, Pod], placed: Pod
) -> None:
    before = _heap(placed)
    assert scenario.on_tier(before)
    _end_with(cluster, "RestorePages")
    _delete(cluster)
    scenario.wait_policies_back(pods, timeout_s=120)
    # Policies come last: so by now pages are where they belong.
    for label in ("heap", "anon:values"):
        after = placed.observe().labelled(label)
        assert after.get(CXL, 0) == 0 and after.get(DRAM, 0) > 0, (label, after)
    assert _heap(placed)[DRAM] >= before[CXL]
    assert placed.restarts() == 0


def test_what_is_left_stays_also_for_another_agent(
    cluster: Cluster, pods: dict[str, Pod], placed: Pod
) -> None:
    _end_with(cluster, "Leave")
    _delete(cluster)
    cluster.kubectl("rollout", "restart", "-n", product.NAMESPACE, "daemonset/memplace-agent")
    cluster.kubectl(
        "rollout",
        "status",
        "-n",
        product.NAMESPACE,
        "daemonset/memplace-agent",
        "--timeout=180s",
    )
    wait_for(
        "nothing of the placement in any report",
        lambda: (
            not any(
                placement["name"] == scenario.PLACEMENT
                for node in cluster.get("nodememories")["items"]
                for placement in node.get("status", {}).get("placements", [])
            )
        ),
        timeout_s=120,
    )
    seen = placed.observe()
    assert scenario.on_tier(seen.labelled("heap")) and seen.policies("heap") == {PLACED}
    assert placed.restarts() == 0
