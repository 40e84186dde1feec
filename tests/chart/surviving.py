# SPDX-License-Identifier: Apache-2.0
"""A release with what people wrote, and what is there of them afterwards."""

from __future__ import annotations

import json

from memplace_lab.product.apiserver import ApiServer

from tests.chart.installing import NAMESPACE, Json, create

BASE = "/apis/memplace.dev/v1alpha1"
KINDS = ("clustermemoryplacements", "memoryplacements", "memorytiers", "nodememories")
CRDS = [f"{kind}.memplace.dev" for kind in KINDS]
PLACEMENT: Json = {
    "apiVersion": "memplace.dev/v1alpha1",
    "kind": "MemoryPlacement",
    "metadata": {"name": "precious", "namespace": "default"},
    "spec": {
        "selector": {"matchLabels": {"app": "any"}},
        "rules": [
            {
                "name": "all",
                "regions": [{"type": "Heap"}],
                "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
            }
        ],
    },
}
DEFAULT: Json = PLACEMENT | {
    "kind": "ClusterMemoryPlacement",
    "metadata": {"name": "common"},
    "spec": PLACEMENT["spec"] | {"namespaceSelector": {}},
}
WHERE = ("--namespace", NAMESPACE)
AGENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/memplace-agent"
PLACED = f"{BASE}/namespaces/default/memoryplacements/precious"


def fill(cluster: ApiServer) -> None:
    """Create two placements and the report of a node."""
    node = {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "NodeMemory",
        "metadata": {"name": "n1"},
    }
    made = create(cluster, PLACEMENT, DEFAULT, node)
    assert made.returncode == 0, made.stderr


def survives(cluster: ApiServer) -> bool:
    """Return whether both placements are there."""
    there = ("memoryplacement/precious", "clustermemoryplacement/common")
    return all(cluster.kubectl("get", name).returncode == 0 for name in there)


def apply(cluster: ApiServer, rendered: list[Json], *how: str) -> None:
    """Apply a rendered chart the way GitOps tools do, definitions first."""
    crds = [o for o in rendered if o["kind"] == "CustomResourceDefinition"]
    others = [in_namespace(o) for o in rendered if o not in crds]
    for part in (crds, others):
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": part})
        done = cluster.kubectl("apply", *how, "--filename=-", stdin=text)
        assert done.returncode == 0, done.stderr
        if part is crds:
            named = [f"crd/{name}" for name in CRDS]
            cluster.kubectl("wait", "--for=condition=Established", *named)


def in_namespace(found: Json) -> Json:
    """Put an object into the product's namespace; helm install has it from --namespace."""
    kinds = {"ServiceAccount", "Service", "Deployment", "DaemonSet", "Job", "Pod", "Role"}
    if found["kind"] in kinds | {"RoleBinding", "NetworkPolicy", "PodDisruptionBudget"}:
        found["metadata"]["namespace"] = NAMESPACE
    return found
