# SPDX-License-Identifier: Apache-2.0
"""The operator process: kopf's watches, the controller and the HTTP server."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import cast

import kopf

from memplace_operator.cache import Cache
from memplace_operator.controller import Controller
from memplace_operator.handlers import make_registry
from memplace_operator.health import serving
from memplace_operator.kinds import OUR_PLURALS, served_kinds
from memplace_operator.kubeapi import UNREACHABLE, ApiError, KubeApi
from memplace_operator.metrics import Metrics
from memplace_operator.settings import Settings, kopf_settings

log = logging.getLogger(__name__)

RETRY_S = 2.0


def configure_logging(level: str) -> None:
    """Log JSON lines to stderr, as ``kopf run --log-format=json`` does."""
    kopf.configure(log_format=kopf.LogFormat.JSON, log_prefix=False)
    logging.getLogger().setLevel(level)
    # kopf tells of each event of each pod that its handler succeeded.
    logging.getLogger("kopf.objects").setLevel(max(logging.WARNING, logging.getLogger().level))


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    watching = kopf_settings()
    this_task = cast("asyncio.Task[None]", asyncio.current_task())
    # Process 1 of a container has no default for it; kopf takes over when it starts.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this_task.cancel)
    metrics = Metrics()
    async with KubeApi(watching) as api:
        cache = Cache()
        controller = Controller(api, cache, metrics)
        async with serving(settings.http_port, controller, metrics):
            await _prepare(api, controller)
            await _operate(controller, make_registry(cache, watching), watching)


async def _prepare(api: KubeApi, controller: Controller) -> None:
    # kopf looks for the kinds only once when it may not watch CRDs.
    while True:
        controller.tick()
        try:
            missing = OUR_PLURALS - await served_kinds(api)
            if not missing:
                await controller.fill()
                return
            log.warning("waiting for CRDs: %s", ", ".join(sorted(missing)))
        except ApiError as err:
            log.error("can't list: %s. %s", err, err.HELP)
        except UNREACHABLE as err:
            log.warning("waiting for the API server: %s", err or type(err))
        await asyncio.sleep(RETRY_S)


async def _operate(
    controller: Controller, registry: kopf.OperatorRegistry, watching: kopf.OperatorSettings
) -> None:
    # Either ending is the end of both: the kubelet starts the container anew.
    stop = asyncio.Event()
    loop = asyncio.create_task(controller.run(), name="controller")
    loop.add_done_callback(lambda _: stop.set())
    try:
        await kopf.operator(
            registry=registry, settings=watching, standalone=True, clusterwide=True, stop_flag=stop
        )
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
    if not loop.cancelled():
        loop.result()
