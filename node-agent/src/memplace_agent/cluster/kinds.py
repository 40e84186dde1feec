# SPDX-License-Identifier: Apache-2.0
"""The kinds that an agent watches, and what it reads of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from memplace.api.objects import (
    parse_cluster_placement,
    parse_node_memory,
    parse_placement,
    parse_tier,
)
from memplace.pods import parse_pod


class Kind(StrEnum):
    """The kinds the agent watches."""

    PLACEMENT = "MemoryPlacement"
    CLUSTER_PLACEMENT = "ClusterMemoryPlacement"
    NAMESPACE = "Namespace"
    TIER = "MemoryTier"
    POD = "Pod"
    NODE = "Node"
    NODE_MEMORY = "NodeMemory"


PLACEMENTS = (Kind.PLACEMENT, Kind.CLUSTER_PLACEMENT)


@dataclass(frozen=True, slots=True)
class LabelledNamespace:
    """A namespace's name and labels."""

    name: str
    labels: Mapping[str, str]


def node_labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the labels of a node."""
    return dict(obj["metadata"].get("labels") or {})


def controller_uid(obj: Mapping[str, Any]) -> str:
    """Return the uid of what made an object, of a pod its DaemonSet; empty for none."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def _parse_namespace(obj: Mapping[str, Any]) -> LabelledNamespace:
    meta = obj["metadata"]
    return LabelledNamespace(str(meta["name"]), dict(meta.get("labels") or {}))


PARSERS: dict[Kind, Callable[[Mapping[str, Any]], Any]] = {
    Kind.PLACEMENT: parse_placement,
    Kind.CLUSTER_PLACEMENT: parse_cluster_placement,
    Kind.NAMESPACE: _parse_namespace,
    Kind.TIER: parse_tier,
    Kind.POD: parse_pod,
    Kind.NODE: node_labels,
    Kind.NODE_MEMORY: parse_node_memory,
}
