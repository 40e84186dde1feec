# SPDX-License-Identifier: Apache-2.0
"""The kinds that the operator watches, and which of them the API server serves."""

from __future__ import annotations

from enum import Enum

from memplace.api.server import ApiError
from memplace.api.v1alpha1 import API_VERSION

from memplace_operator.kubeapi import KubeApi


class Kind(Enum):
    """A watched kind: API version and plural."""

    PLACEMENT = (API_VERSION, "memoryplacements")
    CLUSTER_PLACEMENT = (API_VERSION, "clustermemoryplacements")
    TIER = (API_VERSION, "memorytiers")
    NODE = (API_VERSION, "nodememories")
    POD = ("v1", "pods")
    LABELS = ("v1", "nodes")
    NAMESPACE = ("v1", "namespaces")

    @property
    def path(self) -> str:
        """The URL path of all its objects, in all namespaces."""
        version, plural = self.value
        return f"/{'apis' if '/' in version else 'api'}/{version}/{plural}"


OUR_PLURALS = frozenset(kind.value[1] for kind in Kind if kind.value[0] == API_VERSION)
# The others may be of a later version than the CRDs.
NEEDED_PLURALS = OUR_PLURALS - {Kind.CLUSTER_PLACEMENT.value[1]}


async def served_kinds(api: KubeApi) -> frozenset[str]:
    """Return the plurals of our kinds that the API server serves; may be empty."""
    try:
        found = await api.request("GET", f"/apis/{API_VERSION}")
    except ApiError as err:
        if err.status == 404:
            return frozenset()
        raise
    return frozenset(r["name"] for r in found["resources"]) & OUR_PLURALS
