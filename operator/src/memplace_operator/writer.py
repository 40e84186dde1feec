# SPDX-License-Identifier: Apache-2.0
"""Write statuses and events: several at a time, and none again before its time.

What the API server refuses about one placement is that placement's alone; what it says about
itself (429, 5xx, silence) makes everybody wait.
"""

from __future__ import annotations

import http.client
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from memplace.api.paths import placement_path
from memplace.api.server import ApiError
from memplace.api.v1alpha1 import PlacementStatus
from memplace.errors import MemplaceError
from memplace.structs import prepared
from memplace_kube.client import ApiClient, Server
from memplace_kube.watch import retry_delay

from memplace_operator.events import COMPONENT, EVENTS, Series, first_told, namespace_of_events
from memplace_operator.world import Subject

log = logging.getLogger(__name__)

WORKERS = 8
# How many may wait: what is judged long before it is written is judged twice.
BACKLOG = 64
FIRST_RETRY_S = 2.0
LAST_RETRY_S = 300.0
LONGEST_PAUSE_S = 10.0
_LEADER_POLL_S = 0.2
_NOT_LED = "another operator may have written: the placement is judged again"

_UNREACHABLE = (OSError, http.client.HTTPException, MemplaceError)
_GONE = (404, 409)
_NOT_FOUND, _TOO_MANY = 404, 429


@dataclass(frozen=True, slots=True)
class Write:
    """A status to write, and what to tell of it.

    Attributes:
        subject: The placement, as it was judged.
        status: Its new status.
        events: Events to post when that is written.
    """

    subject: Subject
    status: PlacementStatus
    events: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a write ended.

    Attributes:
        version: resourceVersion of what was written; 0 when nothing was.
        error: Why not; empty when it was, or when the object is gone.
        is_ours: Whether the error is about this object, not about the API server.
    """

    version: int = 0
    error: str = ""
    is_ours: bool = False


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = "0"
    name: str = ""


@prepared
class _Answer(msgspec.Struct):
    metadata: _Meta


class Writer:
    """Threads that write, each over a connection of its own, while we are the one who may."""

    def __init__(
        self,
        server: Server,
        *,
        may_write: Callable[[], bool],
        done: Callable[[Write, Outcome], None],
    ) -> None:
        """Take where to write.

        Args:
            server: The API server.
            may_write: Asked before each write: of several operators one writes.
            done: Told of each write, in a thread of ours.
        """
        self._server = server
        self._may_write = may_write
        self._done = done
        self._queue: queue.Queue[Write] = queue.Queue()
        self._lock = threading.Lock()
        self._failures = 0
        self._pause_until = 0.0
        self._series = Series()

    @property
    def has_room(self) -> bool:
        """Whether it takes more; what is given all the same is kept."""
        return self._queue.qsize() < BACKLOG

    def put(self, write: Write) -> None:
        """Take a status to write."""
        self._queue.put(write)

    def run(self, stop: threading.Event) -> None:
        """Write until told to stop; one thread of several."""
        client = ApiClient(self._server)
        while not stop.is_set():
            try:
                write = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            led = self._wait(stop)
            if stop.is_set():
                return
            # Another one may have written meanwhile, what this write knows nothing of.
            self._done(write, self._write(client, write) if led else Outcome(error=_NOT_LED))

    def _wait(self, stop: threading.Event) -> bool:
        # Returns whether all the while we were the one who may write.
        led = True
        while not stop.is_set():
            pause = self._pause_until - time.monotonic()
            may = self._may_write()
            if pause <= 0 and may:
                break
            led = led and may
            stop.wait(max(pause, _LEADER_POLL_S))
        return led

    def _write(self, client: ApiClient, write: Write) -> Outcome:
        try:
            answer = client.patch(_path(write.subject), _body(write))
            version = msgspec.json.decode(answer, type=_Answer).metadata.resource_version
        except ApiError as err:
            return self._refused(err)
        except (*_UNREACHABLE, msgspec.MsgspecError) as err:
            client.close()
            return self._unreachable(err, 0.0)
        self._worked()
        self._tell(client, write)
        return Outcome(int(version) if version.isdecimal() else 0)

    def _tell(self, client: ApiClient, write: Write) -> None:
        path = f"{EVENTS}/namespaces/{namespace_of_events(write.subject)}/events"
        for event in write.events:
            try:
                self._tell_one(client, path, event)
            except (*_UNREACHABLE, msgspec.MsgspecError) as err:
                log.warning("can't post an event of %s: %s", write.subject.name, err)

    def _tell_one(self, client: ApiClient, path: str, event: dict[str, Any]) -> None:
        # Of one placement there is one write at a time: nobody else adds to its series now.
        with self._lock:
            told = self._series.repeated(event)
        if told is None or not self._add(client, f"{path}/{told.name}", told.patch()):
            answer = msgspec.json.decode(client.post(path, event), type=_Answer)
            told = first_told(event, answer.metadata.name)
        with self._lock:
            self._series.was_told(event, told)

    def _add(self, client: ApiClient, path: str, patch: dict[str, Any]) -> bool:
        try:
            client.patch(path, patch)
        except ApiError as err:
            if err.status != _NOT_FOUND:
                raise
            return False
        return True

    def _refused(self, err: ApiError) -> Outcome:
        if err.status in _GONE:  # deleted, or deleted and made anew: the watch tells
            self._worked()
            return Outcome()
        if err.status == _TOO_MANY or err.status >= 500:
            return self._unreachable(err, err.retry_after_s)
        self._worked()
        return Outcome(error=str(err), is_ours=True)

    def _unreachable(self, err: Exception, asked_s: float) -> Outcome:
        with self._lock:
            if self._pause_until <= time.monotonic():
                level = logging.DEBUG if self._failures else logging.WARNING
                log.log(level, "the API server refuses writes: %s", err or type(err).__name__)
                delay = max(asked_s, retry_delay(self._failures, LONGEST_PAUSE_S))
                self._pause_until = time.monotonic() + delay
                self._failures += 1
        return Outcome(error=str(err) or type(err).__name__)

    def _worked(self) -> None:
        if self._failures:
            log.info("the API server accepts writes again")
            self._failures = 0


def _path(subject: Subject) -> str:
    return f"{placement_path(subject.namespace, subject.name)}/status?fieldManager={COMPONENT}"


def _body(write: Write) -> dict[str, Any]:
    # The uid: one of the same name that was made since is another.
    return {"metadata": {"uid": write.subject.uid}, "status": write.status}
