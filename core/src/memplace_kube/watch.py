# SPDX-License-Identifier: Apache-2.0
"""Follow one kind: list it, watch from there, go on where the last watch ended.

Nothing here ever gives up, and nothing that an answer can hold ends it: while the API server
is away, or answers nonsense, who listens works from what was seen last. A list is handed on
page by page, so that nobody has to hold it whole.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from memplace.api.server import ApiError
from memplace.structs import prepared

from memplace_kube.client import JSON, ApiClient, BadAnswer, Server

KindT = TypeVar("KindT", bound=Enum)
KindT_contra = TypeVar("KindT_contra", bound=Enum, contravariant=True)
ObjectT = TypeVar("ObjectT")
ObjectT_contra = TypeVar("ObjectT_contra", contravariant=True)

log = logging.getLogger(__name__)

# The server ends a watch after this time, a bit earlier for some so that they do not come
# together; whoever is silent for longer is dead. An API server's bookmarks come once a minute
# only, and load balancers drop what is idle without a word.
WATCH_S = 50
_SHORTEST_S = 40
_SILENCE_S = 55.0
_TOTAL_S = 90.0
# A watch that ends so soon, having said nothing, is no watch.
_TOO_SHORT_S = 1.0

PAGE = 500
_IN_PAGES: Mapping[str, str] = {"limit": str(PAGE)}

# After an outage all agents of a cluster come back. Watches that go on are cheap, lists are not.
SPREAD_S = 30.0
_OUTAGE_FAILURES = 3
# What can't be got over by going on is got over by a new list.
_RELIST_AFTER = 5

_EXPIRED = 410
# Too large resource version: this server is behind the one that was asked before.
_BEHIND = 504
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Collection(Generic[KindT]):
    """What to follow.

    Attributes:
        kind: The kind.
        path: URL path of the collection.
        fields: Field selector; empty for all.
        is_large: Whether a list has to come in pages. Others come whole, from the API server's
            cache, as new as etcd's (docs/adr/0043): right for the many who ask for little.
        metadata_only: Whether the API server is to leave out all but the metadata.
        may_lack: Whether a cluster may be without the kind, before a CRD is there or where an
            older one is: then there is none of it.
    """

    kind: KindT
    path: str
    fields: str = ""
    is_large: bool = False
    metadata_only: bool = False
    may_lack: bool = False

    def accept(self, *, is_list: bool) -> str:
        """Return the form to ask for."""
        if not self.metadata_only:
            return JSON
        return f"{JSON};as=PartialObjectMetadata{'List' if is_list else ''};g=meta.k8s.io;v=v1"


class Takes(Protocol[KindT_contra, ObjectT_contra]):
    """Where the objects go."""

    def replace(self, kind: KindT_contra, objects: Iterable[ObjectT_contra]) -> None:
        """Take a complete list, page by page while it is iterated over.

        What the iteration raises, since the list ended too early, is to be raised: only a
        whole one says what is gone.
        """

    def event(self, kind: KindT_contra, type_: str, obj: ObjectT_contra) -> None:
        """Take one event."""


class Gone(Exception):  # noqa: N818  says what happened
    """The API server no longer knows what happened since: list anew."""


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


@prepared
class _List(msgspec.Struct):
    # Raw: each object is decoded when its turn comes, and only one of them is in memory twice.
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


@prepared
class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw = msgspec.Raw(b"{}")


class _ObjectMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


@prepared
class _Object(msgspec.Struct):
    metadata: _ObjectMeta = msgspec.field(default_factory=_ObjectMeta)


@prepared
class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class Watcher(Generic[KindT, ObjectT]):
    """Keeps who listens up to date on one kind until told to stop."""

    def __init__(
        self,
        server: Server,
        cache: Takes[KindT, ObjectT],
        collection: Collection[KindT],
        decode: Callable[[msgspec.Raw], ObjectT],
        *,
        patience_s: float | None = None,
        not_before: str = "",
    ) -> None:
        """Take whom to ask, whom to tell, and of what.

        Args:
            server: The API server.
            cache: Who listens.
            collection: What to follow.
            decode: Makes of an object's JSON what `cache` takes; as_mapping for plain data.
            patience_s: The longest pause after failures; by default SPREAD_S, since there are
                as many agents as nodes.
            not_before: The version that who listens has seen already; empty for none.
        """
        self._patience_s = patience_s
        self._client = ApiClient(server)
        self._decode = decode
        self._cache = cache
        self._what = collection
        self._version = self._seen = not_before
        self._listed = False
        self._failures = 0
        self._heard = time.monotonic()

    @property
    def kind(self) -> KindT:
        """What it follows."""
        return self._what.kind

    @property
    def version(self) -> str:
        """The version up to which it has told, or is telling; empty before anything was listed."""
        return self._seen

    @property
    def age_s(self) -> float:
        """Seconds since the API server last said something about the kind."""
        return time.monotonic() - self._heard

    def rest(self) -> None:
        """Say that nobody needs what it follows: nothing is missed until it runs."""
        self._heard = time.monotonic()

    def run(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        """Follow the kind; `tick` is called at least every 90 s while that works."""
        while not stop.is_set():
            tick()
            try:
                self._list_if_needed(stop, tick)
                self._watch(stop, tick)
                self._worked()
            except Exception as err:  # whatever it is, the watch goes on
                if not stop.is_set():
                    stop.wait(self._failed(err))

    def _list_if_needed(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        if self._listed and self._version:
            return
        if self._failures >= _OUTAGE_FAILURES:
            stop.wait(random.uniform(0.1, self._longest_s))
        self._list(stop, tick)

    def _list(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        try:
            version = self._replace(self._whole(), stop, tick)
        except (ApiError, BadAnswer) as err:
            self._take_lack(err)
            if isinstance(err, ApiError) and err.status not in (_EXPIRED, _BEHIND):
                raise
            # From etcd, which is dear and never behind, and in pages for certain.
            version = self._replace(_IN_PAGES, stop, tick)
        self._version, self._listed = version, True
        self._heard = time.monotonic()

    def _take_lack(self, err: Exception) -> None:
        # An API server that starts says 503 of a kind it may have, so this is an answer. What
        # was listed once goes by its own events, not by that.
        if not (self._what.may_lack and isinstance(err, ApiError) and err.status == _NOT_FOUND):
            return
        self._heard = time.monotonic()
        if not self._version:
            self._cache.replace(self.kind, iter(()))

    def _whole(self) -> Mapping[str, str]:
        if self._what.is_large:
            return _IN_PAGES
        # With a limit, API servers before 1.35 may ask etcd for each of these.
        if not self._version:
            return {}  # the newest: who has seen nothing can't tell what would be too old
        return {"resourceVersion": self._version, "resourceVersionMatch": "NotOlderThan"}

    def _replace(
        self, first: Mapping[str, str], stop: threading.Event, tick: Callable[[], None]
    ) -> str:
        # Returns the version of the list.
        last = _ListMeta()

        def objects() -> Iterator[ObjectT]:
            nonlocal last
            for page in self._pages(first):
                tick()
                if stop.is_set():
                    raise InterruptedError
                last = page.metadata
                self._seen = last.resource_version
                yield from map(self._decode, page.items or ())

        self._cache.replace(self.kind, objects())
        return last.resource_version

    def _pages(self, first: Mapping[str, str]) -> Iterator[_List]:
        query = {**self._selector(), **first}
        while True:
            answer = self._client.get(
                self._what.path, query, accept=self._what.accept(is_list=True)
            )
            page = msgspec.json.decode(answer, type=_List)
            self._heard = time.monotonic()
            yield page
            if not page.metadata.continue_:
                return
            query = {**self._selector(), "limit": str(PAGE), "continue": page.metadata.continue_}

    def _watch(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        started, said = time.monotonic(), False
        for line in self._lines():
            said = True
            self._take(line)
            self._worked()
            tick()
            if stop.is_set():
                return
        self._heard = time.monotonic()
        if not said and self._heard - started < _TOO_SHORT_S:
            raise BadAnswer("the watch ended as soon as it had begun")

    def _lines(self) -> Iterator[bytes]:
        query = {
            **self._selector(),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(_SHORTEST_S, WATCH_S)),
        }
        return self._client.lines(
            self._what.path,
            query,
            silence_s=_SILENCE_S,
            total_s=_TOTAL_S,
            accept=self._what.accept(is_list=False),
        )

    def _take(self, line: bytes) -> None:
        event = msgspec.json.decode(line, type=_Event)
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=_Status)
            if status.code == _EXPIRED:
                raise Gone(status.message)
            raise ApiError(status.code, status.message)
        version = msgspec.json.decode(event.object, type=_Object).metadata.resource_version
        if _is_before(version, self._version):
            # etcd came back from a backup: what is known is of a history that never was.
            raise Gone(f"resourceVersion went back from {self._version} to {version}")
        self._seen = version or self._seen
        if event.type != "BOOKMARK":
            self._cache.event(self.kind, event.type, self._decode(event.object))
        self._version = version or self._version
        self._heard = time.monotonic()

    def _selector(self) -> dict[str, str]:
        return {"fieldSelector": self._what.fields} if self._what.fields else {}

    def _worked(self) -> None:
        if self._failures:
            log.info("watch works again", extra={"kind": self.kind.value})
        self._failures = 0

    def _failed(self, err: Exception) -> float:
        # Returns how long to wait.
        failures, self._failures = self._failures, self._failures + 1
        self._client.close()
        expired = isinstance(err, Gone) or (isinstance(err, ApiError) and err.status == _EXPIRED)
        if expired or self._failures % _RELIST_AFTER == 0:
            self._listed = False
        # Before the CRDs are installed there is nothing to say.
        expected = isinstance(err, ApiError) and err.status == _NOT_FOUND
        level = logging.DEBUG if expected or failures else logging.WARNING
        text = str(err) or type(err).__name__
        log.log(level, "watch failed", extra={"kind": self.kind.value, "error": text})
        asked = err.retry_after_s if isinstance(err, ApiError) else 0.0
        if not self._listed and self._failures >= _OUTAGE_FAILURES:
            return asked  # the new list has a pause of its own before it
        return max(asked, retry_delay(failures, self._longest_s))

    @property
    def _longest_s(self) -> float:
        return SPREAD_S if self._patience_s is None else self._patience_s


def retry_delay(failures: int, longest_s: float | None = None) -> float:
    """Return the seconds to wait after so many failures before: growing, and never the same.

    From half a second on average to a wait anywhere within `longest_s`, or SPREAD_S.
    """
    most = min(SPREAD_S if longest_s is None else longest_s, 2.0 ** min(failures, 10))
    return random.uniform(0.1, most)


def as_mapping(raw: msgspec.Raw) -> Mapping[str, Any]:
    """Return an object as plain data.

    Raises:
        BadAnswer: It is none.
    """
    obj: Any = msgspec.json.decode(raw)
    if not isinstance(obj, dict):
        raise BadAnswer("an object is no JSON object")
    return obj


def _is_before(version: str, seen: str) -> bool:
    # Within one collection they grow; Kubernetes lets clients compare them since 1.35.
    return version.isdecimal() and seen.isdecimal() and int(version) < int(seen)
