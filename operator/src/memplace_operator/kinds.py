# SPDX-License-Identifier: Apache-2.0
"""The kinds that the operator watches, and which of them the API server serves."""

from __future__ import annotations

from enum import Enum

from memplace.api.paths import OURS, Plural
from memplace.api.server import ApiError
from memplace.api.v1alpha1 import API_VERSION

from memplace_operator.kubeapi import KubeApi


class Kind(Enum):
    """A watched kind: API version and plural."""

    PLACEMENT = (API_VERSION, Plural.PLACEMENTS)
    CLUSTER_PLACEMENT = (API_VERSION, Plural.CLUSTER_PLACEMENTS)
    TIER = (API_VERSION, Plural.TIERS)
    NODE = (API_VERSION, Plural.NODES)
    POD = ("v1", "pods")
    LABELS = ("v1", "nodes")
    NAMESPACE = ("v1", "namespaces")

    @property
    def path(self) -> str:
        """The URL path of all its objects, in all namespaces."""
        version, plural = self.value
        return f"/{'apis' if '/' in version else 'api'}/{version}/{plural}"


OUR_PLURALS = frozenset(Plural)
# The others may be of a later version than the CRDs.
NEEDED_PLURALS = OUR_PLURALS - {Plural.CLUSTER_PLACEMENTS}


async def served_kinds(api: KubeApi) -> frozenset[Plural]:
    """Return the plurals of our kinds that the API server serves; may be empty."""
    try:
        found = await api.request("GET", OURS)
    except ApiError as err:
        if err.status == 404:
            return frozenset()
        raise
    names = {resource["name"] for resource in found["resources"]}
    return frozenset(plural for plural in OUR_PLURALS if plural in names)
