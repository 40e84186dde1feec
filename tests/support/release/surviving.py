# SPDX-License-Identifier: Apache-2.0
"""A release with what people wrote, and what is there of them afterwards."""

from __future__ import annotations

import json
import time

from memplace_lab.product.apiserver import ApiServer

from tests.support.release.installing import NAMESPACE, Json, create

BASE = "/apis/memplace.dev/v1alpha1"
KINDS = ("clustermemoryplacements", "memoryplacements", "memorytiers", "nodememories")
STORAGE_TIMEOUT_S = 60
# The status of an answer while the storage is being made.
TOO_EARLY = 429
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


def installed(cluster: ApiServer) -> dict[str, Json]:
    """Return the metadata of what a release has, by kind and name."""
    kinds = (
        "crd,serviceaccount,service,deployment,daemonset,job,clusterrole,clusterrolebinding,role,"
        "rolebinding,networkpolicy,validatingadmissionpolicy,validatingadmissionpolicybinding"
    )
    found = cluster.kubectl("get", kinds, "--all-namespaces", "--output=json")
    assert found.returncode == 0, found.stderr
    named = [(o["kind"], o["metadata"]) for o in json.loads(found.stdout)["items"]]
    return {f"{kind}/{m['name']}": m for kind, m in named if "memplace" in m["name"]}


def delete_crds(cluster: ApiServer) -> None:
    """Delete the CRDs that are there, and wait until they are gone."""
    # The API server makes the storage of a kind when it is first asked for one. A CRD deleted at
    # that time fails once ("storage is (re)initializing"), and when the API server's own note of
    # it comes late, it is not tried again before the next resync, five minutes later.
    deadline = time.monotonic() + STORAGE_TIMEOUT_S
    for kind in KINDS:
        while (found := cluster.call("GET", f"{BASE}/{kind}")).status == TOO_EARLY:
            assert time.monotonic() < deadline, f"{kind} can't be listed: {found.message}"
            time.sleep(0.05)
    done = cluster.kubectl("delete", "crd", *CRDS, "--ignore-not-found", "--timeout=60s")
    assert done.returncode == 0, done.stderr


def apply(cluster: ApiServer, rendered: list[Json], *how: str) -> None:
    """Apply a rendered chart the way GitOps tools do, definitions first."""
    crds = [o for o in rendered if o["kind"] == "CustomResourceDefinition"]
    others = [o for o in rendered if o not in crds]
    for part in (crds, others):
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": part})
        done = cluster.kubectl("apply", *how, "--filename=-", stdin=text)
        assert done.returncode == 0, done.stderr
        if part is crds:
            named = [f"crd/{name}" for name in CRDS]
            cluster.kubectl("wait", "--for=condition=Established", *named)
