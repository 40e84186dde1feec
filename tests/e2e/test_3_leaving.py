# SPDX-License-Identifier: Apache-2.0
"""Undo: of a placement, and of the whole product."""

from __future__ import annotations

import time

import pytest
from memplace_lab import product, scenario
from memplace_lab.cluster import Cluster
from memplace_lab.scenario import Pod
from memplace_lab.steps import LabError, wait_for

DISAPPEAR_TIMEOUT_S = 30

pytestmark = pytest.mark.timeout(600)


def test_helm_test_passes(cluster: Cluster) -> None:
    # Without --logs: a test that succeeded is deleted at once, and helm then finds no log.
    said = cluster.helm("test", "memplace", "--namespace", product.NAMESPACE, "--timeout", "3m")
    assert "Phase:          Succeeded" in said


def test_delete_gives_the_policies_back(cluster: Cluster, pods: dict[str, Pod]) -> None:
    scenario.apply_example(cluster)
    scenario.wait_ready(cluster)
    # A child that the agent has hardly had the time to see has the policies too.
    pods["workload"].exec("/workload", "fork")
    cluster.kubectl("delete", "mp", "-n", scenario.NAMESPACE, scenario.PLACEMENT)
    assert scenario.wait_policies_back(pods) < 60
    for pod in pods.values():
        assert pod.restarts() == 0


def test_uninstall_undoes_and_leaves_nothing(cluster: Cluster, pods: dict[str, Pod]) -> None:
    scenario.apply_example(cluster)
    scenario.wait_ready(cluster)
    for worker in cluster.workers:
        assert "agent.json" in cluster.ssh(worker.name, "ls /var/lib/kubelet/seccomp/memplace")
    pods["workload"].exec("/workload", "fork")
    cluster.helm(
        "uninstall", "memplace", "--namespace", product.NAMESPACE, "--wait", "--timeout", "5m"
    )
    assert not any(scenario.placed_bytes(pod.observe()) for pod in pods.values())
    left = [
        n
        for n in _everything(cluster)
        if "memplace" in n.rpartition("/")[2] or "memplace" in n.split("/")[0]
    ]
    assert left == []
    wait_for("the pods' end", lambda: not _pods(cluster), timeout_s=90)
    for worker in cluster.workers:
        files = cluster.ssh(
            worker.name,
            "find / -xdev -name '*memplace*' -not -path '/proc/*' "
            "-not -path '/var/lib/containerd/*' -not -path '/run/containerd/*' "
            "-not -path '/var/log/*' 2>/dev/null; ls -d /run/memplace 2>/dev/null || true",
        )
        assert files.strip() == "", f"{worker.name}: {files}"


def _everything(cluster: Cluster) -> list[str]:
    """Return the names of all objects in the cluster outside the lab's own namespaces."""
    return [
        n
        for n in _names(cluster)
        if n not in (f"namespace/{product.NAMESPACE}",) and not n.startswith("pod/")
    ]


def _names(cluster: Cluster) -> list[str]:
    deadline = time.monotonic() + DISAPPEAR_TIMEOUT_S
    while True:
        kinds = cluster.kubectl("api-resources", "--verbs=list", "-o", "name").split()
        wanted = [
            k for k in kinds if not k.startswith(("events", "leases", "nodes", "componentstatuses"))
        ]
        try:
            return cluster.kubectl("get", ",".join(wanted), "-A", "-o", "name").split()
        except LabError:
            # A kind that is being deleted can go between the list of kinds and the look at them.
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _pods(cluster: Cluster) -> str:
    return cluster.kubectl("get", "pods", "-n", product.NAMESPACE, "-o", "name").strip()
