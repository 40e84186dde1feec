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
from memplace.api.v1alpha1 import (
    AgentMode,
    MemoryTier,
    NodeMemory,
    Placement,
    parse_node_memory,
    parse_placement,
    parse_tier,
)
from memplace.assignment import PodRef
from memplace.errors import MemplaceError

from memplace_agent.containers.cgroups import parse_container_id

__all__ = ["Cache", "Kind", "Pod", "World", "parse_pod"]

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """The kinds the agent watches."""

    PLACEMENT = "MemoryPlacement"
    TIER = "MemoryTier"
    POD = "Pod"
    NODE_MEMORY = "NodeMemory"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of this node and the ids of its running containers, by name."""

    ref: PodRef
    container_ids: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the API server says, at one moment; by uid or name in no order that matters.

    ``mode`` is None when there is no NodeMemory of this node to tell.
    """

    placements: tuple[Placement, ...] = ()
    tiers: tuple[MemoryTier, ...] = ()
    pods: tuple[Pod, ...] = ()
    mode: AgentMode | None = AgentMode.ACTIVE


def parse_pod(obj: Mapping[str, Any]) -> Pod:
    """Parse what the agent needs of a pod, running init containers (sidecars) included."""
    meta, status = obj["metadata"], obj.get("status") or {}
    listed = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    running = {c["name"]: c.get("containerID", "") for c in listed if _is_running(c)}
    ids = {name: parse_container_id(text) for name, text in running.items()}
    known = {name: id_ for name, id_ in ids.items() if id_ is not None}
    ref = PodRef(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        labels=meta.get("labels") or {},
        containers=tuple(known),
    )
    return Pod(ref, known)


def _is_running(status: Mapping[str, Any]) -> bool:
    return "running" in (status.get("state") or {})


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
        return meta["uid"], _without_status(_PARSERS[kind](obj))
    except (MemplaceError, KeyError, TypeError) as err:
        # The API server refuses what the CRD forbids; the operator explains the rest.
        log.warning(
            "object can't be understood and is ignored",
            extra={"object": {"kind": kind.value, "name": meta.get("name")}, "error": str(err)},
        )
        return None


def _without_status(parsed: Any) -> Any:
    # Status is what others, or we, report: a change of it is no reason to act.
    if isinstance(parsed, Placement | NodeMemory):
        return msgspec.structs.replace(parsed, status=type(parsed.status)())
    return parsed
