# SPDX-License-Identifier: Apache-2.0
"""MemoryTier: NUMA nodes that an admin calls a tier."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from memplace.api.conditions import Condition
from memplace.api.v1alpha1.common import (
    NodeLabels,
    NodeName,
    NumaId,
    Size,
    SpecPart,
    StatusPart,
    as_text,
)
from memplace.quantity import parse_quantity

_NO_LABELS: Mapping[str, str] = MappingProxyType({})


# In place of a namespace's name, which can't have a star: each that has no entry of its own.
EACH_OTHER = "*"


class NamespaceLimit(SpecPart, frozen=True):
    """How much of the tier the pods of a namespace may have on each node."""

    namespace: Annotated[str, Meta(min_length=1, max_length=63)]
    per_node: Size

    def __post_init__(self) -> None:
        """Have the size as text, as all sizes."""
        as_text(self, "per_node")

    def bytes_of(self, tier_bytes: int) -> int:
        """Return it in bytes, on a node on which the tier is as large."""
        text = str(self.per_node)
        if text.endswith("%"):
            return tier_bytes * int(text.removesuffix("%")) // 100
        return parse_quantity(text)


class TierSpec(SpecPart, frozen=True):
    """The spec of a MemoryTier; without ``numa_nodes`` the tier has those it has anyway."""

    numa_nodes: Annotated[tuple[NumaId, ...], Meta(max_length=64)] = ()
    node_names: Annotated[tuple[NodeName, ...], Meta(max_length=1024)] | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=1024)] = ""
    node_selector: NodeLabels | UnsetType = UNSET
    namespace_limits: Annotated[tuple[NamespaceLimit, ...], Meta(max_length=256)] | UnsetType = (
        UNSET
    )

    def limit_of(self, namespace: str) -> NamespaceLimit | None:
        """Return what a namespace may have: by its name, or as each other; None: there is none."""
        limits = () if self.namespace_limits is UNSET else self.namespace_limits
        named = {each.namespace: each for each in limits}
        return named.get(namespace) or named.get(EACH_OTHER)

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
