# SPDX-License-Identifier: Apache-2.0
"""What the cluster wants of this node: a cache that watches fill and the worker reads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
from memplace.api.objects import parse_node_memory, parse_placement, parse_tier
from memplace.api.v1alpha1 import AgentMode, MemoryTier, NodeMemory, Placement
from memplace.errors import MemplaceError
from memplace.pods import PodState, parse_pod

__all__ = ["Cache", "Kind", "World"]

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """The kinds the agent watches."""

    PLACEMENT = "MemoryPlacement"
    TIER = "MemoryTier"
    POD = "Pod"
    NODE_MEMORY = "NodeMemory"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the API server says, at one moment; by uid or name in no order that matters.

    ``mode`` is None when there is no NodeMemory of this node to tell.
    """

    placements: tuple[Placement, ...] = ()
    tiers: tuple[MemoryTier, ...] = ()
    pods: tuple[PodState, ...] = ()
    mode: AgentMode | None = AgentMode.ACTIVE


_PARSERS: dict[Kind, Callable[[Mapping[str, Any]], Any]] = {
    Kind.PLACEMENT: parse_placement,
    Kind.TIER: parse_tier,
    Kind.POD: parse_pod,
    Kind.NODE_MEMORY: parse_node_memory,
}


class Cache:
    """The objects as last seen; `changed` is set when one the agent acts on differs.

    Kept when the API server is away: pods keep their placement.
    """

    def __init__(self) -> None:
        self.changed = threading.Event()
        self._lock = threading.Lock()
        self._objects: dict[Kind, dict[str, Any]] = {kind: {} for kind in Kind}
        self._listed: set[Kind] = set()

    @property
    def is_synced(self) -> bool:
        """Whether every kind has been listed once; before that nothing may be concluded."""
        with self._lock:
            return self._listed == set(Kind)

    def replace(self, kind: Kind, objects: Iterable[Mapping[str, Any]]) -> None:
        """Take a complete list in place of what there was of a kind."""
        parsed = dict(filter(None, (_parse(kind, obj) for obj in objects)))
        with self._lock:
            differs = kind not in self._listed or parsed != self._objects[kind]
            self._objects[kind] = parsed
            self._listed.add(kind)
        if differs:
            self.changed.set()

    def event(self, kind: Kind, type_: str, obj: Mapping[str, Any]) -> None:
        """Take one watch event: ADDED, MODIFIED or DELETED."""
        uid = obj["metadata"]["uid"]
        parsed = None if type_ == "DELETED" else _parse(kind, obj)
        with self._lock:
            before = self._objects[kind].pop(uid, None)
            if parsed is not None:
                self._objects[kind][uid] = parsed[1]
            differs = before != (parsed and parsed[1])
        if differs:
            self.changed.set()

    def snapshot(self) -> World:
        """Return the world as it is now."""
        with self._lock:
            objects = {kind: tuple(found.values()) for kind, found in self._objects.items()}
        own = objects[Kind.NODE_MEMORY]
        return World(
            placements=objects[Kind.PLACEMENT],
            tiers=objects[Kind.TIER],
            pods=objects[Kind.POD],
            mode=own[0].spec.agent if own else None,
        )


def _parse(kind: Kind, obj: Mapping[str, Any]) -> tuple[str, Any] | None:
    meta = obj["metadata"]
    try:
        return meta["uid"], _to_act_on(_PARSERS[kind](obj))
    except (MemplaceError, KeyError, TypeError) as err:
        # The API server refuses what the CRD forbids; the operator explains the rest.
        log.warning(
            "object can't be understood and is ignored",
            extra={"object": {"kind": kind.value, "name": meta.get("name")}, "error": str(err)},
        )
        return None


def _to_act_on(parsed: Any) -> Any:
    # Status is what others, or we, report, and how far a pod is only the operator explains:
    # a change of either is no reason to act.
    if isinstance(parsed, Placement | NodeMemory):
        return msgspec.structs.replace(parsed, status=type(parsed.status)())
    if isinstance(parsed, PodState):
        return PodState(parsed.ref, parsed.container_ids)
    return parsed
