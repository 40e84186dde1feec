# SPDX-License-Identifier: Apache-2.0
"""MemoryTier: NUMA nodes that an admin calls a tier."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from memplace.api.conditions import Condition
from memplace.api.v1alpha1.common import NodeLabels, NodeName, NumaId, SpecPart, StatusPart

_NO_LABELS: Mapping[str, str] = MappingProxyType({})


class TierSpec(SpecPart, frozen=True):
    """The spec of a MemoryTier."""

    numa_nodes: Annotated[tuple[NumaId, ...], Meta(max_length=64)]
    node_names: Annotated[tuple[NodeName, ...], Meta(max_length=1024)] | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=1024)] = ""
    node_selector: NodeLabels | UnsetType = UNSET

    @property
    def is_of_all(self) -> bool:
        """Whether it is about all nodes there are."""
        return self.node_names is UNSET and self.node_selector is UNSET

    def covers(self, node_name: str, labels: Mapping[str, str] = _NO_LABELS) -> bool:
        """Return whether the tier is meant for a Kubernetes node with these labels.

        By default it is for each.
        """
        if self.node_selector is not UNSET:
            return all(labels.get(key) == value for key, value in self.node_selector.items())
        return self.node_names is UNSET or node_name in self.node_names


class TierStatus(StatusPart, frozen=True):
    """What the operator says of a MemoryTier: where it is in force, and why not elsewhere.

    Attributes:
        nodes: On how many Kubernetes nodes.
        capacity_bytes: The size of the memory that it has there.
        summary: That in words.
    """

    conditions: tuple[Condition, ...] = ()
    observed_generation: int = 0
    nodes: int = 0
    capacity_bytes: int = 0
    summary: str = ""


class MemoryTier(Struct, frozen=True, kw_only=True):
    """A MemoryTier; its name is the tier's name.

    Agents read these and have no use for the status, so it is not part of them: a status that
    changes changes nothing.
    """

    uid: str
    name: str
    generation: int
    spec: TierSpec
