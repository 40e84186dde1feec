# SPDX-License-Identifier: Apache-2.0
"""A default of the cluster for a running pod, a placement of the namespace that wins, and
`enforced`, which turns it round. Each test goes on where the one before it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from memplace_lab.base.steps import wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.show import both_kernels, scenario
from memplace_lab.show.scenario import CXL, DRAM, NAMESPACE

from tests.support import ROOT

pytestmark = pytest.mark.timeout(600)
NAME, DEFAULT = "common", "batch-on-cxl"
LABEL = "memplace.dev/class"
# The pods of the other tests are in this namespace, too.
SELECTOR = {"matchLabels": {"app": NAME}}


def default() -> str:
    found: dict[str, Any] = yaml.safe_load((ROOT / f"examples/{DEFAULT}.yaml").read_text())
    assert found["spec"]["namespaceSelector"] == {"matchLabels": {LABEL: "batch"}}
    found["spec"]["selector"] = SELECTOR
    return json.dumps(found)


def own() -> str:
    rule = {
        "name": "heap",
        "regions": [{"type": "Heap"}],
        "policy": {"mode": "PreferredMany", "tiers": ["dram"]},
    }
    return json.dumps(
        {
            "apiVersion": "memplace.dev/v1alpha1",
            "kind": "MemoryPlacement",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {"selector": SELECTOR, "rules": [rule]},
        }
    )


@pytest.fixture(scope="module")
def common(cluster: Cluster) -> Iterator[scenario.Pod]:
    scenario.create_namespace(cluster)
    pod = both_kernels.workload(NAME, worker="worker-1", app=NAME)
    cluster.kubectl("apply", "-f", "-", stdin=pod)
    wait = ("wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=240s", "pod", NAME)
    cluster.kubectl(*wait)
    wait_for(
        "the workload has filled its regions",
        lambda: "ready" in cluster.kubectl("logs", "-n", NAMESPACE, NAME),
        timeout_s=60,
    )
    yield scenario.find_pod(cluster, NAME)
    cluster.kubectl("delete", "cmp", DEFAULT, "--ignore-not-found")
    cluster.kubectl("delete", "-n", NAMESPACE, "mp", NAME, "--ignore-not-found")
    cluster.kubectl("label", "namespace", NAMESPACE, f"{LABEL}-")
    cluster.kubectl("delete", "-n", NAMESPACE, "pod", NAME)


def heap_is_on(pod: scenario.Pod, node: int) -> None:
    def is_there() -> bool:
        nodes = pod.observe().labelled("heap")
        other = DRAM if node == CXL else CXL
        return nodes.get(node, 0) > 0 and nodes.get(other, 0) == 0

    wait_for(
        f"the heap on NUMA node {node}",
        is_there,
        timeout_s=90,
        hint=lambda: str(pod.observe().labelled("heap")),
    )


def condition(cluster: Cluster, *what: str, kind: str = "Ready") -> tuple[str, str, str]:
    status = cluster.get(*what).get("status", {})
    found = {each["type"]: each for each in status.get("conditions", [])}.get(kind, {})
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


def until(cluster: Cluster, *what: str, kind: str = "Ready", reason: str) -> str:
    wait_for(
        f"{' '.join(what)} is {reason}",
        lambda: condition(cluster, *what, kind=kind)[1] == reason,
        timeout_s=90,
        hint=lambda: str(condition(cluster, *what, kind=kind)),
    )
    return condition(cluster, *what, kind=kind)[2]


def test_a_label_of_the_namespace_places_a_running_pod(
    common: scenario.Pod, cluster: Cluster
) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=default())
    assert "namespaceSelector selects" in until(cluster, "cmp", DEFAULT, reason="NoPods")
    assert common.observe().policies("heap") == {"default"}
    cluster.kubectl("label", "namespace", NAMESPACE, f"{LABEL}=batch")
    heap_is_on(common, CXL)
    until(cluster, "cmp", DEFAULT, reason="Placed")
    status = cluster.get("cmp", DEFAULT)["status"]
    assert (status["matchedPods"], status["placedPods"]) == (1, 1)


def test_the_namespaces_own_placement_wins(common: scenario.Pod, cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=own())
    heap_is_on(common, DRAM)
    until(cluster, "mp", NAME, "-n", NAMESPACE, reason="Placed")
    assert "follows a placement of its namespace" in until(cluster, "cmp", DEFAULT, reason="NoPods")
    assert condition(cluster, "cmp", DEFAULT, kind="Degraded")[0] == "False"


def test_enforced_turns_it_round(common: scenario.Pod, cluster: Cluster) -> None:
    enforced = json.dumps({"spec": {"enforced": True}})
    cluster.kubectl("patch", "cmp", DEFAULT, "--type=merge", "-p", enforced)
    heap_is_on(common, CXL)
    until(cluster, "cmp", DEFAULT, reason="Placed")
    lost = until(cluster, "mp", NAME, "-n", NAMESPACE, kind="Degraded", reason="Conflict")
    assert f"cluster placement {DEFAULT} is enforced, this one is not," in lost


def test_without_it_the_namespaces_own_has_the_pod_again(
    common: scenario.Pod, cluster: Cluster
) -> None:
    cluster.kubectl("delete", "cmp", DEFAULT)
    heap_is_on(common, DRAM)
    until(cluster, "mp", NAME, "-n", NAMESPACE, reason="Placed")
    cluster.kubectl("delete", "-n", NAMESPACE, "mp", NAME)
    wait_for(
        "the policies as they were",
        lambda: {each.policy for each in common.observe().mappings} <= {"default"},
        timeout_s=60,
    )
    assert common.restarts() == 0
