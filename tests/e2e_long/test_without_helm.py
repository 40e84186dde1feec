# SPDX-License-Identifier: Apache-2.0
"""memplace without Helm: rendered manifests come and go by the commands of docs/install.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from memplace_lab.cluster.binaries import kubernetes_version
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.product.product import NAMESPACE
from memplace_lab.show import both_kernels, scenario
from memplace_lab.show.scenario import Pod

pytestmark = pytest.mark.timeout(1200)


def rendered(cluster: Cluster, *settings: str, only: str = "") -> str:
    """Return the chart as helm renders it; or one of its templates."""
    sets = [word for setting in settings for word in ("--set", setting)]
    shown = ["--show-only", only] if only else []
    # The lab's helm is compiled without the version of Kubernetes that it would render for.
    for_version = ("--kube-version", kubernetes_version())
    name = ("template", "memplace", str(product.CHART), "--namespace", NAMESPACE, *for_version)
    return cluster.helm(*name, *product.values(), *sets, *shown)


@pytest.fixture
def no_release(cluster: Cluster) -> Iterator[None]:
    cluster.helm("uninstall", "memplace", "--namespace", NAMESPACE, "--wait", "--timeout", "5m")
    yield
    product.release(cluster)


def test_rendered_manifests_place_retire_and_go(
    cluster: Cluster, both: dict[str, Pod], no_release: None
) -> None:
    whole = rendered(cluster, "uninstall.retire=false", "tests.enabled=false")
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=whole)
    for workload in ("daemonset/memplace-agent", "deployment/memplace-operator"):
        rollout = ("rollout", "status", "-n", NAMESPACE, workload, "--timeout=300s")
        cluster.kubectl(*rollout, timeout_s=330)
    both_kernels.apply_example(cluster)
    scenario.wait_ready(cluster, both_kernels.PLACEMENT)
    both_kernels.check(cluster, both)

    hook = rendered(cluster, "uninstall.argocd=true", only="templates/retire.yaml")
    cluster.kubectl("apply", "--filename=-", stdin=hook)
    done = ("wait", "-n", NAMESPACE, "--for=condition=Complete", "--timeout=10m")
    cluster.kubectl(*done, "job/memplace-retire", timeout_s=630)
    # No agent is left that could still do it.
    assert not any(scenario.placed_bytes(pod.observe()) for pod in both.values())
    assert "memplace-agent" not in cluster.kubectl("get", "daemonset", "-n", NAMESPACE, "-o=name")

    rest = rendered(cluster, "crds.enabled=false")
    cluster.kubectl("delete", "--ignore-not-found", "--filename=-", stdin=rest)
    kinds = "serviceaccount,service,deployment,job,configmap,role,rolebinding,clusterrole"
    left = cluster.kubectl("get", f"{kinds},clusterrolebinding", "-A", "-o=name").split()
    assert not [name for name in left if "memplace" in name]
    # What people wrote stays, and so do the pods.
    cluster.kubectl("get", "mp", "-n", scenario.NAMESPACE, both_kernels.PLACEMENT)
    assert all(pod.restarts() == 0 for pod in both.values())
