# SPDX-License-Identifier: Apache-2.0
"""Undo: of a placement, and of the whole product.

From the first uninstall on each test goes on where the one before it ended; the last one leaves a
cluster without memplace.
"""

from __future__ import annotations

import time

import pytest
from memplace_lab.base.steps import LabError, wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import scenario
from memplace_lab.show.scenario import Pod

DISAPPEAR_TIMEOUT_S = 30
KINDS = ("clustermemoryplacements", "memoryplacements", "memorytiers", "nodememories")

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


def test_uninstall_undoes_and_leaves_only_what_people_wrote(
    cluster: Cluster, pods: dict[str, Pod]
) -> None:
    scenario.apply_example(cluster)
    scenario.wait_ready(cluster)
    for worker in cluster.workers:
        assert "agent.json" in cluster.ssh(worker.name, "ls /var/lib/kubelet/seccomp/memplace")
    pods["workload"].exec("/workload", "fork")
    _uninstall(cluster)
    assert not any(scenario.placed_bytes(pod.observe()) for pod in pods.values())
    assert _left(cluster) == {
        *(f"customresourcedefinition.apiextensions.k8s.io/{name}.memplace.dev" for name in KINDS),
        "apiservice.apiregistration.k8s.io/v1alpha1.memplace.dev",
        f"memoryplacement.memplace.dev/{scenario.PLACEMENT}",
    }
    _is_clean(cluster)


def test_a_new_release_goes_on_with_the_placements_there_are(
    cluster: Cluster, pods: dict[str, Pod]
) -> None:
    product.release(cluster)
    # By what the process has: the placement's status is the one of the release before.
    wait_for(
        "the policies of the new agents",
        lambda: bool(scenario.placed_bytes(pods["workload"].observe())),
        timeout_s=120,
    )
    for node in cluster.get("nodememories")["items"]:
        assert node["spec"] == {"agent": "Active"}


def test_an_uninstall_that_is_to_delete_placements_leaves_nothing(
    cluster: Cluster, pods: dict[str, Pod]
) -> None:
    asked = ("uninstall.deletePlacements=true", "crds.keep=false")
    product.release(cluster, *(word for value in asked for word in ("--set", value)))
    _uninstall(cluster)
    assert not any(scenario.placed_bytes(pod.observe()) for pod in pods.values())
    assert _left(cluster) == set()
    _is_clean(cluster)


def _uninstall(cluster: Cluster) -> None:
    cluster.helm(
        "uninstall", "memplace", "--namespace", product.NAMESPACE, "--wait", "--timeout", "5m"
    )


def _left(cluster: Cluster) -> set[str]:
    """Return the names of what is left of the product on the API server."""
    return {
        n
        for n in _everything(cluster)
        if "memplace" in n.rpartition("/")[2] or "memplace" in n.split("/")[0]
    }


def _is_clean(cluster: Cluster) -> None:
    """Check that no pod and no file of the product is left on any node."""
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
