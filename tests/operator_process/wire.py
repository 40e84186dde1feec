# SPDX-License-Identifier: Apache-2.0
"""A connection that breaks: it passes bytes on, until it refuses to or swallows them."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

_CHUNK = 1 << 16
# Closing throws away what was not read, and the other side is told of a reset.
_RESET = struct.pack("ii", 1, 0)


class Wire:
    """Listens on a port of loopback, and passes all on to another one.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener: socket.socket | None = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._held: list[socket.socket] = []
        self._passes = threading.Event()
        self._passes.set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[Wire]:
        """Pass all on while the block runs."""
        self._accept_all()
        try:
            yield self
        finally:
            self._passes.set()
            self._cut()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens while the block runs, and what was open is cut."""
        self._cut()
        try:
            yield
        finally:
            self._listener = self._listen(self.port)
            self._accept_all()

    @contextlib.contextmanager
    def swallowing(self) -> Iterator[None]:
        """Nothing comes through while the block runs, and nobody hears of it."""
        self._passes.clear()
        try:
            yield
        finally:
            # Of what somebody tried to open meanwhile nothing ever came here.
            with self._lock:
                held, self._held = self._held, []
                self._passes.set()
            for each in held:
                _reset(each)

    def _listen(self, port: int) -> socket.socket:
        return socket.create_server(("127.0.0.1", port), backlog=128, reuse_port=False)

    def _accept_all(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                if not self._passes.is_set():
                    self._held.append(near)
                    continue
            self._join(near)

    def _join(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            _reset(near)
            return
        with self._lock:
            self._open |= {near, far}
        for source, target in ((near, far), (far, near)):
            threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._passes.wait()
                target.sendall(data)
        # The end of a connection is a packet, too.
        self._passes.wait()
        with self._lock:
            self._open -= {source, target}
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _cut(self) -> None:
        if self._listener is not None:
            # close() alone does not wake who waits in accept().
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            ended, self._open = self._open, set()
            ended |= set(self._held)
            self._held = []
        for each in ended:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
