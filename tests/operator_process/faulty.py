# SPDX-License-Identifier: Apache-2.0
"""A proxy before the API server that answers wrongly when told to."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from memplace_lab.product.apiserver import ApiServer


@dataclass(frozen=True)
class Fault:
    """What is done to a request instead of passing it on.

    Attributes:
        name: For ids of tests.
        status: The HTTP status of the answer.
        body: The answer.
        headers: Of the answer.
        cut: Pass the request on, and close the connection after so many bytes of its answer.
        in_watch: Only in watches, as the next line of the stream.
    """

    name: str
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = -1
    in_watch: bytes = b""


def refusal(status: int, reason: str, **headers: str) -> Fault:
    """Return what an API server says that refuses."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    body |= {"reason": reason, "message": f"{reason} for a test", "code": status}  # type: ignore[dict-item]
    names = {key.replace("_", "-"): value for key, value in headers.items()}
    name = f"{status}{'-' if names else ''}{'-'.join(names.values())}"
    return Fault(name, status, json.dumps(body).encode(), names)


GONE = {"kind": "Status", "apiVersion": "v1", "code": 410, "message": "too old"}
DEEP = b'{"metadata":' * 5000
FAULTS = [
    refusal(409, "Conflict"),
    refusal(429, "TooManyRequests", Retry_After="1"),
    refusal(429, "TooManyRequests", Retry_After="9" * 30),
    refusal(410, "Expired"),
    refusal(500, "InternalError"),
    refusal(504, "Timeout"),
    Fault("page-of-a-balancer", 502, b"<html>\xff down</html>", {"Content-Type": "text/html"}),
    Fault("page-with-200", body=b"<html>\xff log in</html>", headers={"Content-Type": "text/html"}),
    Fault("redirect", 302, headers={"Location": "http://127.0.0.1:9/"}),
    Fault("nothing"),
    Fault("broken-json", body=b'{"kind":"List","items":[{"metadata":'),
    Fault("other-json", body=b'[1, "a", null]'),
    Fault("null", body=b"null"),
    Fault("other-object", body=b'{"metadata":[],"items":{"a":7},"resources":7}'),
    Fault("deep-json", body=DEEP),
    Fault("cut-at-once", cut=0),
    Fault("cut-later", cut=300),
    Fault("410-in-a-watch", in_watch=json.dumps({"type": "ERROR", "object": GONE}).encode()),
    Fault("garbage-in-a-watch", in_watch=b'{"type":"MODIFIED","object":{"metadata":\xff}}'),
    Fault(
        "odd-objects-in-a-watch", in_watch=b'{"type":"MODIFIED","object":{"metadata":{"uid":7}}}'
    ),
    Fault("unknown-event-in-a-watch", in_watch=b'{"type":"MOVED","object":{}}'),
]


class Proxy:
    """Speaks plain HTTP on loopback, and passes all on to the API server.

    Attributes:
        fault: What is done to requests now; None for nothing.
        done: How often each fault was.
        fault_of_lists: What is done to the operator's own lists of MemoryTiers, kopf's aside.
        listings: The paths of these.
        asked: What was asked for and passed on, as method and path.
    """

    def __init__(self, api: ApiServer) -> None:
        self.fault: Fault | None = None
        self.done = Counter[str]()
        self.fault_of_lists: Fault | None = None
        self.listings: list[str] = []
        self.asked: list[str] = []
        proxy, context = self, ssl.create_default_context(cafile=str(api.ca))
        port = urlsplit(api.url).port

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                content = self.rfile.read(length) if length else None
                upstream = http.client.HTTPSConnection(
                    "127.0.0.1", port, context=context, timeout=100
                )
                with contextlib.closing(upstream), contextlib.suppress(OSError):
                    proxy.answer(self, upstream, content)
                self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Proxy]:
        """Serve while the block runs."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    @contextlib.contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Answer everything wrongly while the block runs."""
        self.fault = fault
        try:
            yield
        finally:
            self.fault = None

    def answer(
        self,
        handler: BaseHTTPRequestHandler,
        upstream: http.client.HTTPSConnection,
        content: bytes | None,
    ) -> None:
        """Answer one request: wrongly, or as the API server does."""
        fault = self.fault
        if "/memorytiers?limit=" in handler.path:
            self.listings.append(handler.path)
            fault = self.fault_of_lists or fault
        if fault and fault.cut < 0 and not fault.in_watch:
            self.done[fault.name] += 1
            _send(handler, fault.status, fault.headers, fault.body)
            return
        self.asked.append(f"{handler.command} {handler.path}")
        headers = {k: v for k, v in handler.headers.items() if k.lower() != "host"}
        upstream.request(handler.command, handler.path, content, headers)
        response = upstream.getresponse()
        if "watch=true" in handler.path and response.status == 200:
            self._stream(handler, response)
            return
        body = response.read()
        kept = {k: v for k, v in response.getheaders() if k in ("Content-Type", "Retry-After")}
        if fault and fault.cut >= 0:
            self.done[fault.name] += 1
            _send(handler, response.status, kept, body, cut=fault.cut)
            return
        _send(handler, response.status, kept, body)

    def _stream(self, handler: BaseHTTPRequestHandler, response: http.client.HTTPResponse) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        ended, lock = threading.Event(), threading.Lock()
        disturber = threading.Thread(target=self._disturb, args=(handler, ended, lock), daemon=True)
        disturber.start()
        try:
            while line := response.readline():
                with lock:
                    handler.wfile.write(line)
                    handler.wfile.flush()
        finally:
            ended.set()
            disturber.join()

    def _disturb(
        self, handler: BaseHTTPRequestHandler, ended: threading.Event, lock: threading.Lock
    ) -> None:
        # Faults come while a watch is open: as a line of it, or it ends.
        said: Fault | None = None
        while not ended.wait(0.1):
            fault = self.fault
            if fault is None or fault is said:
                continue
            said = fault
            with lock, contextlib.suppress(OSError):
                if fault.in_watch:
                    self.done[fault.name] += 1
                    handler.wfile.write(fault.in_watch + b"\n")
                    continue
                if fault.cut >= 0:
                    self.done[fault.name] += 1
                    handler.wfile.write(
                        b'{"type":"MODIFIED","object":{"metadata":{"na'[: fault.cut]
                    )
                handler.connection.shutdown(socket.SHUT_RDWR)
                return


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: dict[str, str],
    body: bytes,
    *,
    cut: int = -1,
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body if cut < 0 else body[:cut])
