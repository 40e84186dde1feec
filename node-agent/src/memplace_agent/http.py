# SPDX-License-Identifier: Apache-2.0
"""The one small HTTP server: /healthz, /readyz and /metrics."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["HttpServer"]

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class HttpServer:
    """Answers in threads of its own until the process ends."""

    def __init__(
        self,
        port: int,
        *,
        healthy: Callable[[], bool],
        ready: Callable[[], bool],
        metrics: Callable[[], bytes],
    ) -> None:
        pages: dict[str, Callable[[], tuple[int, bytes]]] = {
            "/healthz": lambda: _answer(healthy()),
            "/readyz": lambda: _answer(ready()),
            "/metrics": lambda: (200, metrics()),
        }

        class Handler(BaseHTTPRequestHandler):
            # A client that says nothing must not hold a thread.
            timeout = 10

            def do_GET(self) -> None:
                page = pages.get(self.path.partition("?")[0])
                status, body = page() if page else (404, b"not found\n")
                self.send_response(status)
                self.send_header("Content-Type", _TEXT)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                # The kubelet asks every few seconds.
                return

        self._server = _Server(("", port), Handler)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    def start(self) -> None:
        """Serve from now on."""
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def stop(self) -> None:
        """Stop serving and close the port."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    # Pods of IPv6 clusters have no IPv4 address; a dual-stack socket serves both.
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    daemon_threads = True

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _answer(good: bool) -> tuple[int, bytes]:
    return (200, b"ok\n") if good else (503, b"not ok\n")
