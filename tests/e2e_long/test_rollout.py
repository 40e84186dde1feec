# SPDX-License-Identifier: Apache-2.0
"""A roll-out over two workers: one after the other, and no further while the operator is away.

The second test changes the placement that the first one has rolled out.
"""

from __future__ import annotations

import json
import time

import pytest
from memplace_lab.base.steps import wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import both_kernels, scenario
from memplace_lab.show.scenario import Pod

from tests.support.rolling import (
    MP,
    NAME,
    apply_rollout,
    on_tier,
    rollout,
    set_pause,
    untouched,
    wait_settled,
)

pytestmark = pytest.mark.timeout(900)
PAUSE_S = 8


def test_one_node_after_the_other_and_none_without_an_operator(
    cluster: Cluster, both: dict[str, Pod]
) -> None:
    assert untouched(both) == set(both)
    # Nobody knows how long a busy machine takes to tell: the pause begins to matter afterwards.
    apply_rollout(cluster, pause_s=3600)
    wait_settled(cluster, 1)
    status = scenario.status(cluster, NAME)
    assert (status["rollout"]["state"], status["rollout"]["nodes"]) == ("Rolling", 2)
    (first,) = on_tier(both)
    (second,) = untouched(both)
    states = {name: fared.state for name, fared in both_kernels.fared(cluster).items()}
    assert states.pop(second) == "AwaitingRollout"
    assert states.pop(first) in ("Placed", "PlacedBestEffort")

    deployment = ("deployment/memplace-operator", "-n", product.NAMESPACE)
    cluster.kubectl("scale", *deployment, "--replicas=0")
    try:
        wait_for("the operator's end", lambda: not operators(cluster), timeout_s=90)
        set_pause(cluster, PAUSE_S)
        time.sleep(3 * PAUSE_S)
        assert (on_tier(both), untouched(both)) == ({first}, {second})
        # Who is released goes on, and new memory of who is not stays where it is.
        both[second].exec("/workload", "map")
        both_kernels.grow(both[first])
        assert (on_tier(both), untouched(both)) == ({first}, {second})
    finally:
        cluster.kubectl("scale", *deployment, "--replicas=1")
    wait_for(
        "the roll-out to end",
        lambda: rollout(cluster).get("state") == "Done",
        timeout_s=240,
        hint=lambda: str(scenario.status(cluster, NAME)),
    )
    scenario.wait_ready(cluster, NAME)
    assert on_tier(both) == set(both)


def operators(cluster: Cluster) -> str:
    label = ("-l", "app.kubernetes.io/component=operator", "-o", "name")
    return cluster.kubectl("get", "pods", "-n", product.NAMESPACE, *label).strip()


def test_a_change_starts_again_at_the_same_node(cluster: Cluster, both: dict[str, Pod]) -> None:
    before = rollout(cluster)
    patch = json.dumps({"spec": {"onUnsupported": "Observe"}})
    cluster.kubectl("patch", *MP, "--type=merge", "-p", patch)
    wait_for(
        "a roll-out of the change",
        lambda: rollout(cluster).get("generation", 0) > before["generation"],
        timeout_s=60,
    )
    assert rollout(cluster)["state"] == "Rolling"
    # What is in place stays, and whoever takes the field out has all nodes act.
    assert on_tier(both) == set(both)
    cluster.kubectl("patch", *MP, "--type=merge", "-p", json.dumps({"spec": {"rollout": None}}))
    wait_for("no roll-out", lambda: not rollout(cluster), timeout_s=60)
    wait_for(
        "the stock kernel's pod to be observed",
        lambda: both_kernels.fared(cluster)["on-stock-kernel"].state == "Observed",
        timeout_s=60,
    )
