# SPDX-License-Identifier: Apache-2.0
"""With NRI the containers of one pod have each their own default from the first page on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest
import yaml
from memplace_lab.base.steps import wait_for
from memplace_lab.cluster import containerd
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import scenario, witness
from memplace_lab.show.scenario import CXL, DRAM

pytestmark = pytest.mark.timeout(900)

WORKER, POD = "worker-1", "two-tiers"


def placement(name: str, container: str, tier: str) -> str:
    """Return a placement that moves nothing: what is on the tier was born there."""
    return f"""
apiVersion: memplace.dev/v1alpha1
kind: MemoryPlacement
metadata: {{name: {name}, namespace: {scenario.NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: {POD}}}}}
  containers: [{container}]
  rules:
  - name: all
    regions: [{{type: Heap}}]
    policy: {{mode: PreferredMany, tiers: [{tier}]}}
    existingPages: Leave
"""


def pod() -> str:
    """Return a pod with the workload twice, as containers near and far."""
    documents = yaml.safe_load_all(product.workload_manifest())
    made = next(d for d in documents if d["metadata"]["name"] == "workload")
    made["metadata"] |= {"name": POD, "labels": {"app": POD}}
    (one,) = made["spec"]["containers"]
    made["spec"]["containers"] = [
        one | {"name": name, "volumeMounts": [{"name": name, "mountPath": "/data"}]}
        for name in ("near", "far")
    ]
    made["spec"]["volumes"] = [{"name": name, "emptyDir": {}} for name in ("near", "far")]
    return str(yaml.safe_dump(made))


def is_ready(cluster: Cluster, container: str) -> bool:
    """Return whether a container of the pod has filled its regions."""
    return "ready" in cluster.kubectl("logs", "-n", scenario.NAMESPACE, POD, "-c", container)


def agent_metrics(cluster: Cluster) -> str:
    """Return what the agent of the worker counts."""
    which = ("-l", "app.kubernetes.io/component=agent", f"--field-selector=spec.nodeName={WORKER}")
    (agent,) = cluster.get("pods", "-n", product.NAMESPACE, *which)["items"]
    found = agent["metadata"]["name"]
    path = f"/api/v1/namespaces/{product.NAMESPACE}/pods/{found}:8080/proxy/metrics"
    return cluster.kubectl("get", "--raw", path)


def figure(cluster: Cluster, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", agent_metrics(cluster), re.M)
    return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def asking(cluster: Cluster) -> Iterator[None]:
    scenario.create_namespace(cluster)
    with containerd.with_nri(cluster, WORKER):
        product.release(cluster, *containerd.VALUES)
        wait_for("NRI", lambda: figure(cluster, "memplace_agent_nri_connected") == 1, timeout_s=60)
        yield
    product.release(cluster)


def test_no_byte_of_a_container_is_born_on_the_others_tier(cluster: Cluster, asking: None) -> None:
    manifests = (placement("far", "far", "cxl"), placement("near", "near", "dram"))
    for manifest in manifests:
        cluster.kubectl("apply", "-f", "-", stdin=manifest)
    ready = 'memplace_agent_nri_starts_total{result="ready"}'
    before = figure(cluster, ready)
    cluster.kubectl("apply", "-f", "-", stdin=pod())
    wait = ("wait", "-n", scenario.NAMESPACE, "--for=condition=Ready", "--timeout=240s")
    cluster.kubectl(*wait, f"pod/{POD}")
    for name in ("near", "far"):
        wait_for(f"{name} to be full", partial(is_ready, cluster, name), timeout_s=60)
    statuses = cluster.get("pod", "-n", scenario.NAMESPACE, POD)["status"]["containerStatuses"]
    ids = {each["name"]: each["containerID"] for each in statuses}
    for name, right, wrong in (("far", CXL, DRAM), ("near", DRAM, CXL)):
        seen = witness.observe(cluster, WORKER, ids[name])
        born = seen.where(lambda m: m.label == "heap" or m.label.startswith("anon:"))
        print(f"FIGURE {name}: {born.get(right, 0)} bytes right, {born.get(wrong, 0)} wrong")
        assert born.get(right, 0) > 50 << 20 and born.get(wrong, 0) == 0
    assert figure(cluster, ready) == before + 2
    cluster.kubectl("delete", "pod", "-n", scenario.NAMESPACE, POD)
    for manifest in manifests:
        cluster.kubectl("delete", "-f", "-", stdin=manifest)


def test_containerd_restarted_asks_again(cluster: Cluster, asking: None) -> None:
    containerd.restart(cluster, WORKER)
    wait_for("NRI", lambda: figure(cluster, "memplace_agent_nri_connected") == 1, timeout_s=60)
