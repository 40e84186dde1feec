# SPDX-License-Identifier: Apache-2.0
"""MemoryTier: NUMA nodes that an admin calls a tier."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from memplace.api.v1alpha1.common import NodeName, NumaId, SpecPart


class TierSpec(SpecPart, frozen=True):
    """The spec of a MemoryTier."""

    numa_nodes: Annotated[tuple[NumaId, ...], Meta(max_length=64)]
    node_names: Annotated[tuple[NodeName, ...], Meta(max_length=1024)] | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=1024)] = ""

    def covers(self, node_name: str) -> bool:
        """Return whether the tier is meant for that Kubernetes node; by default each is."""
        return self.node_names is UNSET or node_name in self.node_names


class MemoryTier(Struct, frozen=True, kw_only=True):
    """A MemoryTier; its name is the tier's name."""

    uid: str
    name: str
    generation: int
    spec: TierSpec
