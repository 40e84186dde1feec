# SPDX-License-Identifier: Apache-2.0
"""Follow the placements of the namespaces that have pods on this node, and of no others.

Each status that the operator writes goes to all who watch. Ten thousand placements on five
thousand nodes make that the dearest thing memplace does (docs/adr/0037), and of most
placements a node has no pod. So each namespace that the node needs has a watch of its own. Many
namespaces on one node are not worth as many connections: then it is one watch of all, until
there have been few again for a while.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from memplace_kube.client import Server
from memplace_kube.watch import Collection, Watcher, as_mapping

from memplace_agent.cluster.collections import collections
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.scope import Token
from memplace_agent.cluster.world import Cache

log = logging.getLogger(__name__)

# More namespaces than these on one node, and it follows the whole cluster.
MOST = 32
# No more than these for so long, and each is followed by itself again.
FEW = 16
FEW_FOR_S = 300.0
# A namespace whose last pod went is followed for this long: the next pod may come.
LINGER_S = 60.0
_LOOK_S = 1.0
# Who waits for the API server waits at most: 90 s for a watch, 60 s for an answer, and 60 s of
# pauses: up to 30 s after an error or before a new list, and as much if the API server asks for it.
WAITS_S = 240.0

Object = Mapping[str, Any]


class Follower(Protocol):
    """Keeps the cache up to date on one kind."""

    @property
    def kind(self) -> Kind:
        """What it follows."""

    @property
    def age_s(self) -> float:
        """Seconds since the API server last said something about it."""

    def run(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        """Follow until told to stop."""


def followers(server: Server, cache: Cache, node_name: str) -> list[Follower]:
    """Return who follows what the agent of a node has to know."""
    return [
        Following(server, cache, each)
        if each.kind is Kind.PLACEMENT
        else Watcher(server, cache, each, as_mapping)
        for each in collections(node_name)
    ]


@dataclass(frozen=True, slots=True)
class _Told:
    """Where a watch of one namespace, or of all, says what it saw."""

    cache: Cache
    token: Token

    def replace(self, kind: Kind, objects: Iterable[Object]) -> None:
        self.cache.replace(kind, objects, self.token)

    def event(self, kind: Kind, type_: str, obj: Object) -> None:
        self.cache.event(kind, type_, obj, self.token)


@dataclass(slots=True)
class _Watch:
    """A watch and its thread.

    Attributes:
        token: Of the namespace, or of all.
        watcher: Who watches.
        needed_at: When it was last needed.
        ticked_at: When its thread last showed that it goes on.
    """

    token: Token
    watcher: Watcher[Kind, Object]
    needed_at: float
    ticked_at: float
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> None:
        name = self.token.namespace or "all"
        self.thread = threading.Thread(target=self._run, name=f"watch {name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.watcher.run(self.stop, self._tick)

    def _tick(self) -> None:
        self.ticked_at = time.monotonic()

    @property
    def is_well(self) -> bool:
        return time.monotonic() - self.ticked_at < WAITS_S


class Following:
    """See the module."""

    def __init__(self, server: Server, cache: Cache, collection: Collection[Kind]) -> None:
        """Take whom to ask, whom to tell, and the collection of all namespaces."""
        self._server = server
        self._cache = cache
        self._collection = collection
        self._watches: dict[str, _Watch] = {}
        self._whole: _Watch | None = None
        # When there were more than a few namespaces last.
        self._many_at = float("-inf")

    @property
    def kind(self) -> Kind:
        """What it follows."""
        return self._collection.kind

    @property
    def age_s(self) -> float:
        """Seconds since the API server last said something of the namespace it is silent about."""
        return max((each.watcher.age_s for each in self._all()), default=0.0)

    @property
    def namespaces(self) -> frozenset[str] | None:
        """Those that have a watch of their own; None when there is one of all."""
        return None if self._whole is not None else frozenset(self._watches)

    def run(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        """Follow what is needed until told to stop."""
        while not stop.is_set():
            self._cache.asked.wait(_LOOK_S)
            self._cache.asked.clear()
            self._look(time.monotonic())
            if all(each.is_well for each in self._all()):
                tick()
        for each in self._all():
            each.stop.set()

    def _look(self, now: float) -> None:
        needed = self._cache.needed
        self._choose(needed, now)
        if self._whole is None:
            for namespace in needed - self._watches.keys():
                self._watches[namespace] = self._begin(self._cache.begin(namespace), now)
        for namespace, each in tuple(self._watches.items()):
            if namespace in needed:
                each.needed_at = now
            if self._whole is not None or now - each.needed_at > LINGER_S:
                self._end(namespace)
        for each in self._all():
            if each.thread is None or not each.thread.is_alive():
                each.start()

    def _choose(self, needed: Set[str], now: float) -> None:
        # Whether all are followed from now on, or each by itself.
        if len(needed) > FEW:
            self._many_at = now
        if self._whole is None and len(needed) > MOST:
            log.info("placements of all namespaces are followed", extra={"needed": len(needed)})
            self._many_at = now
            seen = _latest(each.watcher.version for each in self._watches.values())
            self._whole = self._begin(self._cache.begin(None), now, seen)
        elif self._whole is not None and now - self._many_at > FEW_FOR_S:
            self._split(self._whole, now)

    def _split(self, whole: _Watch, now: float) -> None:
        # If the watch of all has listed nothing yet, those of namespaces have gone on until now.
        tokens = self._cache.split()
        log.info("placements of each namespace are followed again")
        self._whole = None
        whole.stop.set()
        for namespace, token in (tokens or {}).items():
            self._watches[namespace] = self._begin(token, now, whole.watcher.version)

    def _begin(self, token: Token, now: float, seen: str = "") -> _Watch:
        # Who takes over from others must not tell what was before what those have seen.
        what = self._collection
        if token.namespace is not None:
            group, _, plural = what.path.rpartition("/")
            what = replace(what, path=f"{group}/namespaces/{token.namespace}/{plural}")
        told = _Told(self._cache, token)
        watcher = Watcher(self._server, told, what, as_mapping, not_before=seen)
        return _Watch(token, watcher, now, now)

    def _end(self, namespace: str) -> None:
        # What is needed ends only when all are listed.
        each = self._watches[namespace]
        if self._cache.end(each.token):
            del self._watches[namespace]
            each.stop.set()

    def _all(self) -> list[_Watch]:
        whole = () if self._whole is None else (self._whole,)
        return [*self._watches.copy().values(), *whole]


def _latest(versions: Iterable[str]) -> str:
    # Of one kind they can be compared.
    return max((each for each in versions if each.isdecimal()), key=int, default="")
