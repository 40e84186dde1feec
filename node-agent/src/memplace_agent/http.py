# SPDX-License-Identifier: Apache-2.0
"""Small HTTP servers: /healthz, /readyz and /metrics for all, and another on loopback.

The first is on the pod's address, since the kubelet's probes and Prometheus come from outside
of the pod; nothing else may be served there. If metrics have TLS, they have a port of their
own: the kubelet has no certificate to show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memplace_kube.server import Page, Route, Server, by_path

Problems = Callable[[], Sequence[str]]


class HttpServer(Server):
    """Answers the kubelet, and Prometheus unless it has a port of its own."""

    def __init__(
        self,
        port: int,
        *,
        health: Problems,
        readiness: Problems,
        metrics: Callable[[], bytes] | None,
    ) -> None:
        """Open the port.

        Args:
            port: 0 takes a free one.
            health: What is wrong so that only a restart helps, as sentences; nothing is well.
            readiness: What keeps the agent from being ready.
            metrics: All metrics as text; None: they are served elsewhere.
        """
        pages: dict[str, Page] = {
            "/healthz": lambda: _answer(health()),
            "/readyz": lambda: _answer(readiness()),
        }
        if metrics is not None:
            pages["/metrics"] = lambda: (200, metrics())
        super().__init__(port, by_path(pages))


class LoopbackServer(Server):
    """Answers those in the pod, in JSON: who may not enter the pod does not get here."""

    def __init__(self, port: int, route: Route) -> None:
        """Open the port; 0 takes a free one."""
        super().__init__(port, route, content_type="application/json", only_loopback=True)


def _answer(problems: Sequence[str]) -> tuple[int, bytes]:
    text = "\n".join(problems) or "ok"
    return (503 if problems else 200), f"{text}\n".encode()
