# SPDX-License-Identifier: Apache-2.0
"""Objects of the API server, parsed and checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from memplace.api import checks
from memplace.api.convert import from_builtins, raise_first
from memplace.api.v1alpha1 import (
    ClusterPlacementSpec,
    LabelSelector,
    MemoryTier,
    NodeMemory,
    NodeMemorySpec,
    NodeMemoryStatus,
    Placement,
    PlacementSpec,
    PlacementStatus,
    TierSpec,
    TierStatus,
)
from memplace.structs import prepared

for _spec in (PlacementSpec, ClusterPlacementSpec, TierSpec, NodeMemorySpec, LabelSelector):
    prepared(_spec)
for _status in (PlacementStatus, NodeMemoryStatus, TierStatus):
    prepared(_status)


@prepared
class _Metadata(Struct, frozen=True, rename="camel", kw_only=True):
    name: str
    uid: str
    namespace: str = ""
    generation: int = 0
    creation_timestamp: datetime


def parse_placement(obj: Mapping[str, Any]) -> Placement:
    """Parse a MemoryPlacement as the API server returns it.

    Raises:
        ValidationError: The spec has an unknown field, a wrong type or value, or one of
            the CRD's rules does not hold; the message says what to write instead.
    """
    return _placement(obj, from_builtins(obj.get("spec", {}), PlacementSpec, "spec"))


def parse_cluster_placement(obj: Mapping[str, Any]) -> Placement:
    """Parse a ClusterMemoryPlacement as the API server returns it.

    Raises:
        ValidationError: As for `parse_placement`.
    """
    return _placement(obj, from_builtins(obj.get("spec", {}), ClusterPlacementSpec, "spec"))


def _placement(obj: Mapping[str, Any], spec: PlacementSpec) -> Placement:
    meta = _metadata(obj)
    raise_first(checks.placement_errors(spec))
    return Placement(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        generation=meta.generation,
        creation_timestamp=meta.creation_timestamp,
        spec=spec,
        status=from_builtins(_part(obj, "status"), PlacementStatus, "status"),
    )


def parse_tier(obj: Mapping[str, Any]) -> MemoryTier:
    """Parse a MemoryTier as the API server returns it.

    Raises:
        ValidationError: As for `parse_placement`.
    """
    meta = _metadata(obj)
    spec = from_builtins(obj.get("spec", {}), TierSpec, "spec")
    raise_first(checks.tier_errors(meta.name, spec))
    return MemoryTier(uid=meta.uid, name=meta.name, generation=meta.generation, spec=spec)


def parse_node_memory(obj: Mapping[str, Any]) -> NodeMemory:
    """Parse a NodeMemory as the API server returns it.

    Raises:
        ValidationError: As for `parse_placement`.
    """
    meta = _metadata(obj)
    return NodeMemory(
        uid=meta.uid,
        name=meta.name,
        generation=meta.generation,
        spec=from_builtins(_part(obj, "spec"), NodeMemorySpec, "spec"),
        status=from_builtins(_part(obj, "status"), NodeMemoryStatus, "status"),
    )


def _part(obj: Mapping[str, Any], name: str) -> Any:
    # Absent or null; what else is false is a wrong type.
    found = obj.get(name)
    return {} if found is None else found


def _metadata(obj: Mapping[str, Any]) -> _Metadata:
    return from_builtins(obj.get("metadata", {}), _Metadata, "metadata")
