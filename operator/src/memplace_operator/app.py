# SPDX-License-Identifier: Apache-2.0
"""The operator process: our threads, kopf's watch of the tiers and the HTTP server."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import cast

import kopf
from memplace.api.server import ApiError

from memplace_operator.connect import connect
from memplace_operator.crew import Crew
from memplace_operator.feeds import Feeds
from memplace_operator.handlers import make_registry
from memplace_operator.health import serving
from memplace_operator.kinds import NEEDED_PLURALS, Kind, served_kinds
from memplace_operator.kubeapi import UNREACHABLE, KubeApi
from memplace_operator.metrics import Metrics
from memplace_operator.settings import Settings, kopf_settings

log = logging.getLogger(__name__)

RETRY_S = 2.0
# A watch of kopf's that begins anew lists what is there, and says nothing of what went.
AUDIT_S = 60.0


def configure_logging(level: str) -> None:
    """Log JSON lines to stderr, as ``kopf run --log-format=json`` does."""
    kopf.configure(log_format=kopf.LogFormat.JSON, log_prefix=False)
    logging.getLogger().setLevel(level)
    # kopf logs that the handler succeeded, for each event of each object.
    logging.getLogger("kopf.objects").setLevel(max(logging.WARNING, logging.getLogger().level))


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    # Most of what is kept has no cycles, and there are millions of it.
    gc.set_threshold(50_000, 20, 100)
    watching = kopf_settings()
    _end_on_signal()
    metrics = Metrics()
    async with KubeApi(watching) as api:
        crew = Crew(connect(watching), metrics, stale_s=settings.stale_s)
        async with serving(settings, crew, metrics):
            await _until(_are_kinds_served, api)
            crew.start()
            audit = asyncio.create_task(_audit(api, crew.feeds))
            try:
                await _follow_tiers(api, crew.feeds, watching)
            finally:
                audit.cancel()
                await asyncio.to_thread(crew.stop)


def _end_on_signal() -> None:
    # Process 1 of a container has no default for it; kopf takes over while it runs.
    this_task = cast("asyncio.Task[None]", asyncio.current_task())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this_task.cancel)


async def _follow_tiers(api: KubeApi, feeds: Feeds, watching: kopf.OperatorSettings) -> None:
    # kopf ends, by design, when the API server says what it does not expect: 404 when a CRD
    # goes, 410 in a list. That is no reason for the rest to end.
    while True:
        try:
            await kopf.operator(
                registry=make_registry(feeds, watching),
                settings=watching,
                standalone=True,
                clusterwide=True,
            )
        except Exception as err:
            log.warning("the watch of MemoryTiers ended, starting anew: %s", err or type(err))
        else:
            return
        _end_on_signal()
        await asyncio.sleep(RETRY_S)
        await _until(_are_kinds_served, api)


async def _audit(api: KubeApi, feeds: Feeds) -> None:
    while True:
        await _until(_list_tiers, api, feeds)
        await asyncio.sleep(AUDIT_S)


async def _list_tiers(api: KubeApi, feeds: Feeds) -> bool:
    listed = api.objects(Kind.TIER.path, metadata_only=True)
    found = [obj["metadata"] async for obj in listed]
    feeds.replace_tiers({meta["uid"]: meta["name"] for meta in found})
    return True


async def _are_kinds_served(api: KubeApi) -> bool:
    missing = NEEDED_PLURALS - await served_kinds(api)
    if missing:
        log.warning("waiting for CRDs: %s", ", ".join(sorted(missing)))
    return not missing


async def _until(holds: Callable[..., Awaitable[bool]], *arguments: object) -> None:
    while True:
        try:
            if await holds(*arguments):
                return
        except ApiError as err:
            log.error("can't list: %s. %s", err, err.HELP)
            await asyncio.sleep(err.retry_after_s)
        except UNREACHABLE as err:
            log.warning("waiting for the API server: %s", err or type(err))
        except Exception as err:  # whatever stands in its place may answer anything
            log.warning("no answer that an API server gives: %s", err or type(err))
        await asyncio.sleep(RETRY_S)
