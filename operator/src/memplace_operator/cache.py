# SPDX-License-Identifier: Apache-2.0
"""The objects as last seen, parsed, by uid.

Filled by a listing at the start, kept fresh by kopf's watches, and audited now and then:
a watch that has to begin anew lists what is there, and says nothing of what went
meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from memplace.api.convert import from_builtins
from memplace.api.liveness import with_renewal
from memplace.api.objects import parse_node_memory, parse_placement, parse_tier
from memplace.api.v1alpha1 import MemoryTier, NodeMemory, Placement, PlacementStatus
from memplace.errors import ValidationError
from memplace.pods import PodState, parse_pod

from memplace_operator.kinds import Kind
from memplace_operator.world import Unreadable, World, make_world

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    version: int
    parsed: Any


def _parse_placement(obj: Mapping[str, Any]) -> Placement | Unreadable:
    try:
        return parse_placement(obj)
    except ValidationError as err:
        meta = obj["metadata"]
        return Unreadable(
            uid=meta["uid"],
            namespace=meta["namespace"],
            name=meta["name"],
            generation=meta.get("generation", 0),
            status=_status(obj),
            problem=str(err),
        )


def _status(obj: Mapping[str, Any]) -> PlacementStatus:
    try:
        return from_builtins(obj.get("status") or {}, PlacementStatus, "status")
    except ValidationError:
        return PlacementStatus()


_PARSERS: dict[Kind, Callable[[Mapping[str, Any]], Any]] = {
    Kind.PLACEMENT: _parse_placement,
    Kind.TIER: parse_tier,
    Kind.NODE: parse_node_memory,
    Kind.POD: parse_pod,
}


class Cache:
    """What the API server said last; `changed` is set when it matters for a verdict."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._entries: dict[Kind, dict[str, _Entry]] = {kind: {} for kind in Kind}
        self._renewed: Mapping[str, datetime] = {}

    def heard(self, renewed: Mapping[str, datetime]) -> None:
        """Take when which node's agent renewed its Lease, of all of them."""
        self._renewed = renewed

    def put(self, kind: Kind, obj: Mapping[str, Any], *, only_known: bool = False) -> None:
        """Take an object unless a newer one is there.

        Args:
            kind: Its kind.
            obj: As the API server returned it.
            only_known: Ignore it when it is not there: an answer to a write may arrive
                after the news that the object is gone.
        """
        uid = obj["metadata"]["uid"]
        version = int(obj["metadata"]["resourceVersion"])
        old = self._entries[kind].get(uid)
        if (old is None and only_known) or (old is not None and old.version > version):
            return
        try:
            parsed = _PARSERS[kind](obj)
        except ValidationError as err:
            log.error("ignoring %s %s: %s", kind.value[1], obj["metadata"]["name"], err)
            self.drop(kind, uid)
            return
        self._entries[kind][uid] = _Entry(version, parsed)
        if old is None or _matters(old.parsed, parsed):
            self.changed.set()

    def drop(self, kind: Kind, uid: str) -> None:
        """Forget an object that is gone."""
        if self._entries[kind].pop(uid, None) is not None:
            self.changed.set()

    def uids(self, kind: Kind) -> frozenset[str]:
        """Return the uids of what is there."""
        return frozenset(self._entries[kind])

    def keep(self, kind: Kind, uids: Collection[str], *, of: Collection[str]) -> None:
        """Forget those of `of` that a complete listing, made after them, does not have."""
        for uid in set(of).difference(uids):
            self.drop(kind, uid)

    def nodes(self) -> tuple[NodeMemory, ...]:
        """Return the NodeMemories, each as last heard of: by its report or its Lease."""
        return tuple(with_renewal(node, self._renewed) for node in self._all(Kind.NODE))

    def placements(self) -> tuple[Placement | Unreadable, ...]:
        """Return the placements, those that can't be parsed included."""
        return self._all(Kind.PLACEMENT)

    def world(self, *, now: datetime, silent: frozenset[str]) -> World:
        """Return everything as one immutable value."""
        tiers: tuple[MemoryTier, ...] = self._all(Kind.TIER)
        pods: tuple[PodState, ...] = self._all(Kind.POD)
        return make_world(
            placements=[p for p in self.placements() if isinstance(p, Placement)],
            pods=pods,
            nodes=self.nodes(),
            tiers=tiers,
            now=now,
            silent=silent,
        )

    def _all(self, kind: Kind) -> tuple[Any, ...]:
        return tuple(entry.parsed for entry in self._entries[kind].values())


def _matters(old: Any, new: Any) -> bool:
    # Each node's heartbeat comes every HEARTBEAT_S; that alone changes no verdict before the
    # next tick looks at the clock anyway.
    if isinstance(old, NodeMemory) and isinstance(new, NodeMemory):
        return _without_heartbeat(old) != _without_heartbeat(new)
    return bool(old != new)


def _without_heartbeat(node: NodeMemory) -> NodeMemory:
    status = msgspec.structs.replace(node.status, heartbeat_time=None)
    return msgspec.structs.replace(node, status=status)
