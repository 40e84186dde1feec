# SPDX-License-Identifier: Apache-2.0
"""Where the API server has our objects."""

from __future__ import annotations

from enum import StrEnum

from memplace.api.v1alpha1 import API_VERSION, GROUP

OURS = f"/apis/{API_VERSION}"


class Plural(StrEnum):
    """Our kinds, as paths spell them."""

    PLACEMENTS = "memoryplacements"
    CLUSTER_PLACEMENTS = "clustermemoryplacements"
    TIERS = "memorytiers"
    NODES = "nodememories"

    @property
    def crd(self) -> str:
        """The name of its definition."""
        return f"{self}.{GROUP}"


def path_of(plural: Plural, *, namespace: str = "", name: str = "") -> str:
    """Return the URL path of an object, or of all.

    Args:
        plural: Its kind.
        namespace: Empty for a kind without namespaces, and for all of them.
        name: Empty for all.

    Example:
        >>> path_of(Plural.PLACEMENTS, namespace="cache", name="redis")
        '/apis/memplace.dev/v1alpha1/namespaces/cache/memoryplacements/redis'
    """
    inside = f"namespaces/{namespace}/" if namespace else ""
    return f"{OURS}/{inside}{plural}{f'/{name}' if name else ''}"


def placement_path(namespace: str, name: str) -> str:
    """Return the path of a placement; without a namespace it is one of the cluster."""
    plural = Plural.PLACEMENTS if namespace else Plural.CLUSTER_PLACEMENTS
    return path_of(plural, namespace=namespace, name=name)
