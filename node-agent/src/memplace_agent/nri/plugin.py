# SPDX-License-Identifier: Apache-2.0
"""A plugin of NRI: the runtime asks before a container's program runs, and waits for the answer.

A thread that does nothing else. Whatever happens, the answer is that all is well: an error would
keep the container from starting, and no answer delays all of the node's, by 2 s, after which
runtimes drop the plugin. What is to be done meanwhile is somebody else's (`Start`), who keeps to
a time. A runtime that is not there, or goes, is connected to again, at growing intervals.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from memplace_agent.metrics import Metrics
from memplace_agent.nri.messages import (
    Asked,
    Starting,
    answer,
    asked,
    registration,
    registration_error,
)
from memplace_agent.nri.wire import OF_RUNTIME, Message, Stream, Type, WireError, framed
from memplace_agent.threads import hurry

log = logging.getLogger(__name__)

# The runtime gives a plugin 5 s.
_REGISTRATION_S = 5.0
_TICK_S = 1.0
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SOME = 1 << 16


class Met(StrEnum):
    """What became of a container that starts; the label of a metric."""

    READY = "ready"
    NOTHING = "nothing"
    LATE = "late"
    MISSED = "missed"
    FAILED = "failed"


# Does what is to be done for a container before its program runs, within a time of its own.
Start = Callable[[Starting], Met]


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    began: float
    is_configured: bool = False

    def send(self, message: Message) -> None:
        """Send a message; who does not take it within a second is gone."""
        self.socket.sendall(framed(message))

    def receive(self) -> bytes:
        """Return what has come, after a second nothing."""
        try:
            data = self.socket.recv(_SOME)
        except TimeoutError:
            return b""
        if not data:
            raise ConnectionResetError("the runtime has closed the connection")
        return data


class NriPlugin:
    """See the module; for one thread.

    Args:
        path: The runtime's socket.
        start: What is done for a container.
        metrics: What is counted.
        clock: Seconds, only forward.
    """

    def __init__(
        self,
        path: Path,
        start: Start,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._start, self._metrics, self._clock = path, start, metrics, clock
        self._failures = 0
        self._said = ""

    def run(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        """Serve the runtime until told to stop."""
        hurry()
        while not stop.is_set():
            tick()
            try:
                self._connect(stop, tick)
            except Exception as err:  # whatever came from there, the next time may be better
                self._lost(err)
            finally:
                self._metrics.nri_connected.set(0)
            stop.wait(_PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)])
            self._failures += 1

    def _connect(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plug:
            plug.settimeout(_TICK_S)
            plug.connect(str(self._path))
            connection = _Connection(plug, self._clock())
            connection.send(registration(_REGISTRATION_S))
            self._serve(connection, stop, tick)

    def _serve(
        self, connection: _Connection, stop: threading.Event, tick: Callable[[], None]
    ) -> None:
        stream = Stream()
        while not stop.is_set():
            tick()
            for message in stream.take(connection.receive()):
                self._take(connection, message)
            waited = self._clock() - connection.began
            if not connection.is_configured and waited > _REGISTRATION_S:
                raise WireError("no answer to the registration")

    def _take(self, connection: _Connection, message: Message) -> None:
        if message.connection == OF_RUNTIME:
            if message.type == Type.RESPONSE and (why := registration_error(message)):
                raise WireError(f"the runtime does not want the plugin: {why[:200]}")
            return
        if message.type != Type.REQUEST:
            return
        began = self._clock()
        request = self._read(message)
        met = self._begin(request)
        connection.send(answer(message.connection, request.stream, request.answer))
        if met is not None:
            self._metrics.nri_starts.labels(met).inc()
            self._metrics.nri_answer_duration.observe(self._clock() - began)
        if request.is_configured:
            self._configured(connection, request.runtime)

    def _read(self, message: Message) -> Asked:
        try:
            return asked(message)
        except WireError as err:
            log.warning("a request of NRI is not understood", extra={"error": str(err)})
            return Asked(message.stream)

    def _begin(self, request: Asked) -> Met | None:
        if request.starting is None:
            return None
        try:
            return self._start(request.starting)
        except Exception as err:
            log.warning("a container's start failed", extra={"error": repr(err)})
            return Met.FAILED

    def _configured(self, connection: _Connection, runtime: str) -> None:
        connection.is_configured = True
        self._failures, self._said = 0, ""
        self._metrics.nri_connected.set(1)
        extra = {"socket": str(self._path), "runtime": runtime[:200]}
        log.info("NRI: the runtime tells of containers before they run", extra=extra)

    def _lost(self, err: Exception) -> None:
        # Once for each state, not for each try.
        text = str(err) or repr(err)
        if text == self._said:
            return
        self._said = text
        missing = isinstance(err, FileNotFoundError | ConnectionRefusedError)
        hint = "enable NRI in the container runtime (docs/nri.md)" if missing else "trying again"
        extra = {"socket": str(self._path), "error": text, "hint": hint}
        log.warning("NRI: not connected to the runtime", extra=extra)
