# SPDX-License-Identifier: Apache-2.0
"""HTTP: /healthz, /readyz and /metrics, the last by TLS and on its own port if that is set."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from aiohttp import web
from memplace_kube.server import SecureServer
from memplace_kube.serving import ServerTls
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from memplace_operator.crew import Crew
from memplace_operator.metrics import Metrics
from memplace_operator.settings import Settings

Handler = Callable[[web.Request], Awaitable[web.Response]]


@contextlib.asynccontextmanager
async def serving(settings: Settings, crew: Crew, metrics: Metrics) -> AsyncIterator[None]:
    """Serve while the block runs.

    Raises:
        OSError: A port is taken (EADDRINUSE).
    """
    secure = settings.metrics_tls
    async with contextlib.AsyncExitStack() as stack:
        pages = _health(crew) if secure else _health(crew) | _metrics(metrics)
        await stack.enter_async_context(_port(pages, settings.http_port))
        if secure:
            tls = ServerTls(secure)
            server = SecureServer(secure.port, lambda: generate_latest(metrics.registry), tls)
            server.start()
            stack.callback(server.stop)
        yield


@contextlib.asynccontextmanager
async def _port(pages: Mapping[str, Handler], port: int) -> AsyncIterator[None]:
    application = web.Application()
    application.add_routes([web.get(path, handler) for path, handler in pages.items()])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()


def _health(crew: Crew) -> dict[str, Handler]:
    async def healthz(_: web.Request) -> web.Response:
        return _answer(crew.problems())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(crew.not_ready())

    return {"/healthz": healthz, "/readyz": readyz}


def _metrics(metrics: Metrics) -> dict[str, Handler]:
    async def show(_: web.Request) -> web.Response:
        body = generate_latest(metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return {"/metrics": show}


def _answer(problem: str) -> web.Response:
    return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")
