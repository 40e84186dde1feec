# SPDX-License-Identifier: Apache-2.0
"""What an agent follows of the API server."""

from __future__ import annotations

from memplace.api.paths import Plural, path_of
from memplace_kube.watch import Collection

from memplace_agent.cluster.kinds import Kind


def collections(node_name: str) -> tuple[Collection[Kind], ...]:
    """Return what the agent of a node follows."""
    return (
        Collection(Kind.PLACEMENT, path_of(Plural.PLACEMENTS)),
        Collection(Kind.CLUSTER_PLACEMENT, path_of(Plural.CLUSTER_PLACEMENTS), may_lack=True),
        Collection(Kind.NAMESPACE, "/api/v1/namespaces", metadata_only=True),
        Collection(Kind.TIER, path_of(Plural.TIERS)),
        Collection(Kind.POD, "/api/v1/pods", f"spec.nodeName={node_name}"),
        # Of the node's own object its labels alone: no addresses, no images, no status.
        Collection(Kind.NODE, "/api/v1/nodes", f"metadata.name={node_name}", metadata_only=True),
        Collection(Kind.NODE_MEMORY, path_of(Plural.NODES), f"metadata.name={node_name}"),
    )
