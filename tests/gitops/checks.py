# SPDX-License-Identifier: Apache-2.0
"""What is expected of a release, whoever brought it."""

from __future__ import annotations

from memplace_lab.product.apiserver import ApiServer

from tests.support.release.installing import NAMESPACE
from tests.support.release.surviving import CRDS, WHERE, installed

# What people wrote stays, and the definitions of it.
KEPT = {
    *(("CustomResourceDefinition", f"/{name}") for name in CRDS),
    ("ClusterMemoryPlacement", "/common"),
    ("MemoryPlacement", "default/precious"),
}
OPERATOR = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/memplace-operator"


def versions(cluster: ApiServer) -> dict[str, object]:
    """Return the generation of what the release has, or its version if it has none."""
    found = installed(cluster).items()
    return {name: meta.get("generation", meta["resourceVersion"]) for name, meta in found}


def scale_down(cluster: ApiServer) -> None:
    """Change what a release has, as somebody may by hand."""
    scaled = cluster.kubectl("scale", "deployment/memplace-operator", *WHERE, "--replicas=0")
    assert scaled.returncode == 0, scaled.stderr


def scaled_back(cluster: ApiServer) -> bool:
    """Whether that change is undone."""
    return int(cluster.call("GET", OPERATOR).body["spec"]["replicas"]) == 1
