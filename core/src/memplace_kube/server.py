# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server in threads that no client can fill, and by TLS if that is asked for.

Others in the cluster can reach it, so each connection has a deadline, and nobody can take all
the threads. Who is refused by TLS is told why: the loop of asyncio closes without a word.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from memplace_kube.serving import ServerTls

TEXT = "text/plain; version=0.0.4; charset=utf-8"

# A page of the web that is open on the machine of whoever forwards the port can make a name of
# its own lead here; it can't make the browser say another name than that.
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

_THREADS = 8
# From one address at a time; the kubelet makes one connection per probe.
_PER_ADDRESS = 3
# From the connection to the end of the answer.
_DEADLINE_S = 5.0

# A status and a body.
Page = Callable[[], tuple[int, bytes]]
# The same, for a path.
Route = Callable[[str], tuple[int, bytes]]
Pages = Mapping[str, Page]


class Server:
    """Answers in threads of its own until the process ends."""

    def __init__(
        self,
        port: int,
        route: Route,
        *,
        content_type: str = TEXT,
        only_loopback: bool = False,
        tls: ServerTls | None = None,
    ) -> None:
        """Open the port.

        Args:
            port: 0 takes a free one.
            route: Status and body for a path, which has no query any more.
            content_type: Of all bodies.
            only_loopback: Listen on 127.0.0.1 alone, and answer 403 who asks for another host.
            tls: None: connections are plain.

        Raises:
            OSError: The port is taken (EADDRINUSE).
        """
        handler = _handler(route, content_type, only_loopback_names=only_loopback)
        sockets = _LoopbackSockets if only_loopback else _Sockets
        self._sockets = sockets(("127.0.0.1" if only_loopback else "", port), handler, tls)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, and the port."""
        host, port = self._sockets.server_address[:2]
        return str(host), port

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._sockets.server_port

    def start(self) -> None:
        """Serve from now on."""
        threading.Thread(target=self._sockets.serve_forever, name="http", daemon=True).start()

    def stop(self) -> None:
        """Stop serving and close the port."""
        self._sockets.shutdown()
        self._sockets.server_close()


class SecureServer(Server):
    """Serves metrics by TLS, and nothing else."""

    def __init__(self, port: int, metrics: Callable[[], bytes], tls: ServerTls) -> None:
        """Open the port; 0 takes a free one.

        Raises:
            OSError: The port is taken (EADDRINUSE).
        """
        super().__init__(port, by_path({"/metrics": lambda: (200, metrics())}), tls=tls)


def by_path(pages: Pages) -> Route:
    """Return what serves these pages, and 404 for others."""

    def route(path: str) -> tuple[int, bytes]:
        page = pages.get(path)
        return page() if page else (404, b"not found\n")

    return route


def _handler(
    route: Route, content_type: str, *, only_loopback_names: bool
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.headers.get("Host", "").rpartition(":")
            is_welcome = (name[0] or name[2]) in _LOOPBACK_NAMES or not only_loopback_names
            status, body = route(self.path.partition("?")[0]) if is_welcome else (403, b"{}")
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            # The kubelet asks every few seconds.
            return

    return Handler


class _Sockets(HTTPServer):
    """A bounded pool of threads; whoever comes too often is turned away at once."""

    # Pods of IPv6 clusters have no IPv4 address; a dual-stack socket serves both.
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        tls: ServerTls | None = None,
    ) -> None:
        self._tls = tls
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="http")
        self._lock = threading.Lock()
        self._open: dict[socket.socket, tuple[str, float]] = {}
        super().__init__(address, handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, Any]:
        request, client_address = super().get_request()
        # The handshake comes with the first read, in a thread and within the deadline.
        return (self._tls.wrap(request) if self._tls else request), client_address

    def process_request(self, request: Any, client_address: Any) -> None:
        peer = str(client_address[0])
        with self._lock:
            full = Counter(peer for peer, _ in self._open.values())[peer] >= _PER_ADDRESS
            if not full:
                self._open[request] = (peer, time.monotonic())
        if full:
            self.shutdown_request(request)
        else:
            self._pool.submit(self._serve, request, client_address)

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:  # a client that goes away, says nonsense, or shows no certificate
            with contextlib.suppress(OSError):
                _let_read(request)
        with self._lock:
            self._open.pop(request, None)
        self.shutdown_request(request)

    def service_actions(self) -> None:
        # Called twice a second. A client that says nothing must not hold a thread, nor one that
        # sends a byte now and then: no timeout of a read would end that.
        with self._lock:
            overdue = [
                request
                for request, (_, since) in self._open.items()
                if time.monotonic() - since > _DEADLINE_S
            ]
        for request in overdue:
            with contextlib.suppress(OSError):
                # Of the socket below TLS, which its thread may be reading from.
                socket.socket.shutdown(request, socket.SHUT_RDWR)

    def server_close(self) -> None:
        super().server_close()
        self._pool.shutdown(wait=False, cancel_futures=True)


class _LoopbackSockets(_Sockets):
    # No address of another family: 127.0.0.1 is what is asked for.
    address_family = socket.AF_INET


def _let_read(connection: socket.socket) -> None:
    """Wait until a client has closed a connection; it can read until then why it was refused.

    Who closes with something unread cuts the other side off (RFC 1122, 4.2.2.13): its next write
    fails with EPIPE, and the alert of TLS that says why may never be read. A client of TLS 1.3
    has written more by then: it learns after its part of the handshake that it is refused.
    """
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass
