# SPDX-License-Identifier: Apache-2.0
"""One HTTP server: /healthz, /readyz and /metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from memplace_operator.controller import Controller
from memplace_operator.metrics import Metrics

# Several ticks of the controller, or a very long round.
HUNG_AFTER_S = 300.0
READY_WITHIN_S = 60.0


@contextlib.asynccontextmanager
async def serving(port: int, controller: Controller, metrics: Metrics) -> AsyncIterator[None]:
    """Serve while the block runs.

    Raises:
        OSError: The port is taken (EADDRINUSE).
    """
    runner = web.AppRunner(_application(controller, metrics), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()


def _application(controller: Controller, metrics: Metrics) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        age = time.monotonic() - controller.last_tick
        return _answer(age < HUNG_AFTER_S, f"last tick {age:.0f} s ago")

    async def readyz(_: web.Request) -> web.Response:
        if controller.last_success is None:
            return _answer(False, "not reconciled yet")
        age = time.monotonic() - controller.last_success
        return _answer(age < READY_WITHIN_S, f"last reconciled {age:.0f} s ago")

    async def show(_: web.Request) -> web.Response:
        body = generate_latest(metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    routes = {"/healthz": healthz, "/readyz": readyz, "/metrics": show}
    application.add_routes([web.get(path, handler) for path, handler in routes.items()])
    return application


def _answer(ok: bool, text: str) -> web.Response:
    return web.Response(status=200 if ok else 503, text=f"{text}\n")
