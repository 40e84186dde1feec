# SPDX-License-Identifier: Apache-2.0
"""What was read of a cluster, parsed. Pure.

Whoever asks may not be allowed to read all of it. What could not be read is None, which is
not the same as empty, and `left_out` says so in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from memplace.api.conditions import Condition, find_condition, is_true
from memplace.api.objects import parse_cluster_placement, parse_node_memory, parse_placement
from memplace.api.v1alpha1 import NodeMemory, Placement, title_of
from memplace.errors import ValidationError
from memplace.kinds import Capability
from memplace.reasons import ConditionType, Reason

_T = TypeVar("_T")
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Unread:
    """An object that this version does not understand.

    Attributes:
        name: NAMESPACE/NAME, or NAME.
        problem: Which field, and what is wrong with it.
        status: Its status, as it came.
        is_cluster: Whether it is a ClusterMemoryPlacement.
    """

    name: str
    problem: str
    status: Mapping[str, Any]
    is_cluster: bool = False

    @property
    def about(self) -> str:
        """What to call it, for people."""
        return title_of("", self.name) if self.is_cluster else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """The objects of memplace in a cluster.

    Attributes:
        placements: Those of the cluster and of the namespaces that were asked for, by namespace
            and name; None if they could not be read.
        nodes: All NodeMemories, by name; None if they could not be read.
        unread: Placements and NodeMemories that this version does not understand.
        left_out: Sentences: what could not be read.
    """

    placements: tuple[Placement, ...] | None = ()
    nodes: tuple[NodeMemory, ...] | None = ()
    unread: tuple[Unread, ...] = ()
    left_out: tuple[str, ...] = ()


def parse_all(
    objects: Iterable[Mapping[str, Any]], parse: Callable[[Mapping[str, Any]], _T]
) -> tuple[list[_T], list[Unread]]:
    """Parse objects; those that make no sense to this version are told apart."""
    parsed, unread = [], []
    for obj in objects:
        try:
            parsed.append(parse(obj))
        except ValidationError as err:
            unread.append(Unread(head(obj), str(err), obj.get("status") or {}))
    return parsed, unread


def head(obj: Mapping[str, Any]) -> str:
    """Return an object's NAMESPACE/NAME, or its NAME."""
    meta = obj.get("metadata") or {}
    return "/".join(filter(None, (meta.get("namespace"), meta.get("name"))))


def parse_placements(
    objects: Iterable[Mapping[str, Any]],
) -> tuple[tuple[Placement, ...], list[Unread]]:
    """Parse MemoryPlacements, by namespace and name."""
    parsed, unread = parse_all(objects, parse_placement)
    return tuple(sorted(parsed, key=lambda each: (each.namespace, each.name))), unread


def parse_cluster_placements(
    objects: Iterable[Mapping[str, Any]],
) -> tuple[tuple[Placement, ...], list[Unread]]:
    """Parse ClusterMemoryPlacements, by name."""
    parsed, unread = parse_all(objects, parse_cluster_placement)
    unread = [replace(each, is_cluster=True) for each in unread]
    return tuple(sorted(parsed, key=lambda each: each.name)), unread


def parse_node_memories(
    objects: Iterable[Mapping[str, Any]],
) -> tuple[tuple[NodeMemory, ...], list[Unread]]:
    """Parse NodeMemories, by name."""
    parsed, unread = parse_all(objects, parse_node_memory)
    return tuple(sorted(parsed, key=lambda each: each.name)), unread


def is_retired(node: NodeMemory) -> bool:
    """Return whether the node's agent is told to stop placing, for good, or has stopped."""
    return node.spec.is_retired_for_good or is_true(node.status.conditions, ConditionType.RETIRED)


def unsupported(node: NodeMemory) -> Condition | None:
    """Return the condition Supported of a node that can't set policies; None of one that can."""
    found = find_condition(node.status.conditions, ConditionType.SUPPORTED)
    return found if found is not None and found.status == "False" else None


def capabilities(node: NodeMemory) -> frozenset[Capability]:
    """Return what the node's agent can do to processes, as it reports it."""
    backend = node.status.backend
    if backend is not None and backend.capabilities:
        return frozenset(backend.capabilities)
    # An agent that does not tell: all or nothing, as its condition has it.
    return frozenset(Capability) if unsupported(node) is None else frozenset()


def why_backend(node: NodeMemory) -> tuple[str, str]:
    """Return reason and message of why the node has no better backend; both may be empty."""
    backend = node.status.backend
    if backend is not None and backend.reason:
        best = backend.reason == Reason.PROCESS_MBIND_AVAILABLE
        return backend.reason, "" if best else backend.message
    condition = unsupported(node)
    return (condition.reason, condition.message) if condition else ("", "")
