# SPDX-License-Identifier: Apache-2.0
"""One HTTP server: /healthz, /readyz and /metrics."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from memplace_operator.crew import Crew
from memplace_operator.metrics import Metrics


@contextlib.asynccontextmanager
async def serving(port: int, crew: Crew, metrics: Metrics) -> AsyncIterator[None]:
    """Serve while the block runs.

    Raises:
        OSError: The port is taken (EADDRINUSE).
    """
    runner = web.AppRunner(_application(crew, metrics), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()


def _application(crew: Crew, metrics: Metrics) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        return _answer(crew.problems())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(crew.not_ready())

    async def show(_: web.Request) -> web.Response:
        body = generate_latest(metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    routes = {"/healthz": healthz, "/readyz": readyz, "/metrics": show}
    application.add_routes([web.get(path, handler) for path, handler in routes.items()])
    return application


def _answer(problem: str) -> web.Response:
    return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")
