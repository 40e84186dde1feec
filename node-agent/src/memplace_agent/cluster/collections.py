# SPDX-License-Identifier: Apache-2.0
"""What an agent follows of the API server."""

from __future__ import annotations

from memplace.api.v1alpha1 import API_VERSION
from memplace_kube.watch import Collection

from memplace_agent.cluster.kinds import Kind


def collections(node_name: str) -> tuple[Collection[Kind], ...]:
    """Return what the agent of a node follows."""
    ours = f"/apis/{API_VERSION}"
    return (
        Collection(Kind.PLACEMENT, f"{ours}/memoryplacements"),
        Collection(Kind.CLUSTER_PLACEMENT, f"{ours}/clustermemoryplacements", may_lack=True),
        Collection(Kind.NAMESPACE, "/api/v1/namespaces", metadata_only=True),
        Collection(Kind.TIER, f"{ours}/memorytiers"),
        Collection(Kind.POD, "/api/v1/pods", f"spec.nodeName={node_name}"),
        # Of the node's own object its labels alone: no addresses, no images, no status.
        Collection(Kind.NODE, "/api/v1/nodes", f"metadata.name={node_name}", metadata_only=True),
        Collection(Kind.NODE_MEMORY, f"{ours}/nodememories", f"metadata.name={node_name}"),
    )
