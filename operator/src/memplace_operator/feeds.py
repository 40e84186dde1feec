# SPDX-License-Identifier: Apache-2.0
"""What the watches bring, into the world: one change at a time, under its lock."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from memplace.errors import MemplaceError
from memplace_kube.watch import Collection

from memplace_operator.beats import Beats
from memplace_operator.kinds import Kind
from memplace_operator.objects import (
    Raw,
    read_cluster_placement,
    read_labels,
    read_namespace,
    read_node,
    read_placement,
    read_pod,
    uid_of,
)
from memplace_operator.world import World

log = logging.getLogger(__name__)

_ODD = (MemplaceError, msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError)

COLLECTIONS = (
    Collection(Kind.NAMESPACE, Kind.NAMESPACE.path, is_large=True, metadata_only=True),
    Collection(Kind.CLUSTER_PLACEMENT, Kind.CLUSTER_PLACEMENT.path, is_large=True, may_lack=True),
    *(Collection(kind, kind.path, is_large=True) for kind in (Kind.PLACEMENT, Kind.NODE, Kind.POD)),
)
# Followed once a placement asks for labels of nodes.
NODE_LABELS = Collection(Kind.LABELS, Kind.LABELS.path, is_large=True, metadata_only=True)
_PLACEMENTS = (Kind.PLACEMENT, Kind.CLUSTER_PLACEMENT)
_READERS: dict[Kind, Callable[[Raw], Any]] = {
    Kind.PLACEMENT: read_placement,
    Kind.CLUSTER_PLACEMENT: read_cluster_placement,
    Kind.NAMESPACE: read_namespace,
    Kind.NODE: read_node,
    Kind.POD: read_pod,
    Kind.LABELS: read_labels,
}


@dataclass(frozen=True, slots=True)
class News:
    """An object that came.

    Attributes:
        uid: Its uid; empty when it has none, and is of no use.
        version: Its resourceVersion as a number, 0 when it is none.
        seen: What was read of it; None when that makes no sense here.
    """

    uid: str
    version: int = 0
    seen: Any = None


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Version(msgspec.Struct):
    metadata: _Meta


_VERSION = msgspec.json.Decoder(_Version)


def reader(kind: Kind) -> Callable[[Raw], News]:
    """Return what makes news of an object's JSON, whatever that is.

    Outside of the lock: most of the work is there.
    """
    read = _READERS[kind]

    def news(raw: Raw) -> News:
        uid = ""
        try:
            uid = uid_of(raw)
            return News(uid, _version(raw), read(raw))
        except _ODD as err:
            # The API server refuses what its CRD forbids: this is of another version. What
            # was understood last stays.
            log.warning("ignoring a %s: %s", kind.value[1], err)
            return News(uid)

    return news


def _version(raw: Raw) -> int:
    text = _VERSION.decode(raw).metadata.resource_version
    return int(text) if text.isdecimal() else 0


class Feeds:
    """Takes what watchers bring.

    Attributes:
        lock: Whoever looks at the world holds it.
        changed: Set when a placement became due.
        world: The world.
        beats: Who lives, of which the reports are one half.
        listed: The kinds of which there was a whole list.
        needs_labels: Set when a placement asks for labels of nodes.
    """

    def __init__(self, world: World, beats: Beats) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Event()
        self.world = world
        self.beats = beats
        self.listed: set[Kind] = set()
        self.needs_labels = threading.Event()
        self._was_synced = False

    @property
    def missing(self) -> set[Kind]:
        """The kinds that were not listed yet, of those that are needed."""
        needed = set(Kind) if self.world.selection.kinds.is_needed else set(Kind) - {Kind.LABELS}
        return needed - self.listed

    @property
    def is_synced(self) -> bool:
        """Whether every kind was listed; before that nothing may be concluded from absence.

        Labels of nodes that are asked for later keep nobody waiting but who asks for them.
        """
        self._was_synced = self._was_synced or not self.missing
        return self._was_synced

    def replace(self, kind: Kind, objects: Iterable[News]) -> None:
        """Take a whole list while it comes, and forget what is not in it."""
        with self.lock:
            gone = set(self._uids(kind))
            if kind in _PLACEMENTS:
                self.world.trust()
        for news in objects:
            gone.discard(news.uid)
            with self.lock:
                self._put(kind, news)
        with self.lock:
            for uid in gone:
                self._drop(kind, uid)
            self.listed.add(kind)
            if kind is Kind.LABELS:
                self.world.labels_listed()
        self._tell()

    def event(self, kind: Kind, type_: str, obj: News) -> None:
        """Take one event: ADDED, MODIFIED or DELETED."""
        with self.lock:
            if type_ == "DELETED":
                self._drop(kind, obj.uid)
            else:
                self._put(kind, obj)
        self._tell()

    def replace_tiers(self, names: dict[str, str]) -> None:
        """Take all MemoryTiers there are, names by uid."""
        with self.lock:
            for uid in self.world.tiers.keys() - names.keys():
                self.world.drop_tier(uid)
            for uid, name in names.items():
                self.world.put_tier(uid, name)
            self.listed.add(Kind.TIER)
        self._tell()

    def tier(self, type_: str | None, uid: str, name: str) -> None:
        """Take one event of a MemoryTier; None for one of a list."""
        with self.lock:
            if type_ == "DELETED":
                self.world.drop_tier(uid)
            else:
                self.world.put_tier(uid, name)
        self._tell()

    def _tell(self) -> None:
        if self.world.selection.kinds.is_needed:
            self.needs_labels.set()
        if self.world.due:
            self.changed.set()

    def _put(self, kind: Kind, news: News) -> None:
        if news.seen is None:
            return
        if kind in _PLACEMENTS:
            self.world.put_placement(news.seen, news.version)
        elif kind is Kind.NAMESPACE:
            self.world.put_namespace(news.seen)
        elif kind is Kind.POD:
            self.world.put_pod(news.seen)
        elif kind is Kind.LABELS:
            self.world.put_labels(news.seen)
        else:
            self.world.put_node(news.seen)
            self.beats.report(news.seen.name, news.seen.heartbeat, time.monotonic())

    def _drop(self, kind: Kind, uid: str) -> None:
        if kind in _PLACEMENTS:
            self.world.drop_placement(uid)
        elif kind is Kind.NAMESPACE:
            self.world.drop_namespace(uid)
        elif kind is Kind.POD:
            self.world.drop_pod(uid)
        elif kind is Kind.LABELS:
            self.world.drop_labels(uid)
        else:
            self.world.drop_node(uid)

    def _uids(self, kind: Kind) -> list[str]:
        if kind in _PLACEMENTS:
            return self.world.placement_uids(of_cluster=kind is Kind.CLUSTER_PLACEMENT)
        if kind is Kind.NAMESPACE:
            return self.world.namespace_uids()
        if kind is Kind.LABELS:
            return self.world.selection.kinds.uids()
        return self.world.selection.pod_uids() if kind is Kind.POD else self.world.node_uids()
