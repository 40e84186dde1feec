# SPDX-License-Identifier: Apache-2.0
"""A real HTTP server on loopback that answers what a test wants it to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from memplace_kube.client import Server


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Any


@dataclass
class Api:
    """`answer` gets each request and the connection, and writes what it likes to it.

    Attributes:
        answer: Writes an answer; the connection is closed afterwards.
        seen: The requests so far.
    """

    answer: Callable[[Request, Any], None]
    seen: list[Request] = field(default_factory=list)
    server: Server = field(default_factory=lambda: Server(host="127.0.0.1", port=0))

    def queries(self, *, watch: bool) -> list[dict[str, str]]:
        return [r.query for r in self.seen if r.method == "GET" and ("watch" in r.query) is watch]


@contextlib.contextmanager
def serving(answer: Callable[[Request, Any], None]) -> Iterator[Api]:
    """Serve while the block runs; each connection has a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    api = Api(answer)
    api.server = Server(host="127.0.0.1", port=listener.getsockname()[1], namespace="memplace")
    over = threading.Event()
    threading.Thread(target=_accept, args=(listener, api, over), daemon=True).start()
    try:
        yield api
    finally:
        over.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, api: Api, over: threading.Event) -> None:
    while not over.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(connection, api), daemon=True).start()


def _serve(connection: socket.socket, api: Api) -> None:
    with contextlib.suppress(OSError), connection, connection.makefile("rwb") as file:
        method, target, _ = file.readline().decode().split()
        length = 0
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            length = int(value) if name.lower() == "content-length" else length
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        content = file.read(length)
        request = Request(method, url.path, query, json.loads(content) if content else None)
        api.seen.append(request)
        api.answer(request, file)
        file.flush()


def reply(file: Any, body: Any, status: str = "200 OK") -> None:
    """Answer with JSON."""
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
    file.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    file.flush()


def stream(file: Any, *events: dict[str, Any], end: bool = True) -> None:
    """Answer a watch with events, in chunks; without `end` more may follow."""
    file.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for event in events:
        line = json.dumps(event).encode() + b"\n"
        file.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
    if end:
        file.write(b"0\r\n\r\n")
    file.flush()
