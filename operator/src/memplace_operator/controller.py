# SPDX-License-Identifier: Apache-2.0
"""The one task that reconciles: soon after a change, and every ten seconds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from datetime import UTC, datetime

import msgspec
from memplace.api.conditions import find_condition
from memplace.api.convert import to_builtins
from memplace.api.v1alpha1 import GROUP, VERSION, Placement, PlacementStatus
from memplace.reasons import ConditionType

from memplace_operator.agents import renewed
from memplace_operator.cache import Cache
from memplace_operator.events import COMPONENT, make_event
from memplace_operator.kinds import Kind
from memplace_operator.kubeapi import UNREACHABLE, ApiError, KubeApi
from memplace_operator.metrics import Metrics
from memplace_operator.reconcile import reconcile, transitions, unreadable
from memplace_operator.world import Unreadable, World, silent_nodes

log = logging.getLogger(__name__)

DEBOUNCE_S = 0.2
TICK_S = 10.0
AUDIT_S = 300.0
# Measured bytes and what agents say of them change with each scan; conditions and counts
# are written at once, these at most this often.
QUIET_S = 10.0


class Controller:
    """Turns the cache into statuses and events.

    Attributes:
        last_success: time.monotonic() of the last whole round; None before the first.
        last_tick: time.monotonic() of the last sign of life, successful or not.
    """

    def __init__(self, api: KubeApi, cache: Cache, metrics: Metrics) -> None:
        self._api = api
        self._cache = cache
        self._metrics = metrics
        self.last_success: float | None = None
        self.last_tick = time.monotonic()
        self._is_connected = True
        self._listening_since: datetime | None = None
        self._silent: frozenset[str] = frozenset()
        self._written: dict[str, float] = {}  # uid: time.monotonic()
        self._audited = 0.0
        self._leases_read = float("-inf")

    def tick(self) -> None:
        """Show a sign of life."""
        self.last_tick = time.monotonic()

    async def fill(self) -> None:
        """List everything once: before that, nothing may be concluded from absence."""
        for kind in Kind:
            async for obj in self._api.objects(kind.path):
                self._cache.put(kind, obj)
        # kopf lists again when it starts; what goes between the two, the first audit finds.
        self._audited = time.monotonic() - AUDIT_S + 2 * TICK_S

    async def run(self) -> None:
        """Reconcile for ever; being without the API server is nothing but a delay."""
        while True:
            self._cache.changed.clear()
            await self._round()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._cache.changed.wait(), TICK_S)
            await asyncio.sleep(DEBOUNCE_S)

    async def _round(self) -> None:
        self.tick()
        started = self.last_tick
        try:
            with self._metrics.seconds.time():
                await self._reach()
                failures = await self._reconcile_all()
        except (*UNREACHABLE, ApiError) as err:
            self._is_connected = False
            failures = 1
            log.warning("the API server can't be reached, trying again: %s", err or type(err))
        self._metrics.reconciles.labels("error" if failures else "success").inc()
        if not failures:
            self.last_success = started
            self._metrics.last_success.set_to_current_time()

    async def _reach(self) -> None:
        await self._api.request("GET", "/version")
        if not self._is_connected:
            self._is_connected, self._listening_since = True, datetime.now(UTC)
            self._audited = 0.0
        if time.monotonic() - self._leases_read >= TICK_S:
            self._cache.heard(await renewed(self._api))
            self._leases_read = time.monotonic()
        if time.monotonic() - self._audited > AUDIT_S:
            await self._audit()
            self._audited = time.monotonic()

    async def _audit(self) -> None:
        for kind in Kind:
            before = self._cache.uids(kind)
            listed = self._api.objects(kind.path, metadata_only=True)
            uids = {obj["metadata"]["uid"] async for obj in listed}
            self._cache.keep(kind, uids, of=before)

    async def _reconcile_all(self) -> int:
        now = datetime.now(UTC)
        self._silent = silent_nodes(
            self._cache.nodes(),
            now=now,
            before=self._silent,
            listening_since=self._listening_since,
        )
        world = self._cache.world(now=now, silent=self._silent)
        reasons: Counter[str] = Counter()
        failures = 0
        for placement in self._cache.placements():
            status = _desired(placement, world)
            reasons[_ready_reason(status)] += 1
            failures += not await self._write(placement, status, now)
            await asyncio.sleep(0)
        self._count(reasons)
        return failures

    def _count(self, reasons: Counter[str]) -> None:
        self._metrics.placements.clear()
        for reason, count in reasons.items():
            self._metrics.placements.labels(reason).set(count)
        there = self._cache.uids(Kind.PLACEMENT)
        self._written = {uid: at for uid, at in self._written.items() if uid in there}

    async def _write(
        self, placement: Placement | Unreadable, status: PlacementStatus, now: datetime
    ) -> bool:
        if status == placement.status or not self._is_due(placement, status):
            return True
        try:
            await self._patch(placement, status)
        except ApiError as err:
            return self._refused(placement, err)
        self._metrics.writes.labels("success").inc()
        self._written[placement.uid] = time.monotonic()
        for what in transitions(placement.status, status):
            log.info(
                "%s/%s: %s: %s", placement.namespace, placement.name, what.reason, what.message
            )
            await self._tell(placement, make_event(placement, what, now))
        return True

    def _is_due(self, placement: Placement | Unreadable, status: PlacementStatus) -> bool:
        if _gist(placement.status) != _gist(status):
            return True
        return time.monotonic() - self._written.get(placement.uid, 0.0) >= QUIET_S

    async def _patch(self, placement: Placement | Unreadable, status: PlacementStatus) -> None:
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{placement.namespace}/memoryplacements"
        body = {"metadata": {"uid": placement.uid}, "status": to_builtins(status)}
        answer = await self._api.request(
            "PATCH", f"{path}/{placement.name}/status", body, fieldManager=COMPONENT
        )
        # Not waiting for the watch: the next round has to know what this one wrote.
        self._cache.put(Kind.PLACEMENT, answer, only_known=True)

    def _refused(self, placement: Placement | Unreadable, err: ApiError) -> bool:
        if err.status in (404, 409):  # deleted, or deleted and made anew: the watch tells
            return True
        self._metrics.writes.labels("error").inc()
        log.error("can't write status of %s/%s: %s", placement.namespace, placement.name, err)
        return False

    async def _tell(self, placement: Placement | Unreadable, event: dict[str, object]) -> None:
        try:
            path = f"/api/v1/namespaces/{placement.namespace}/events"
            await self._api.request("POST", path, event)
        except ApiError as err:
            log.warning("can't post an event of %s: %s", placement.name, err)


def _desired(placement: Placement | Unreadable, world: World) -> PlacementStatus:
    if isinstance(placement, Placement):
        return reconcile(placement, world)
    return unreadable(
        placement.status, placement.problem, generation=placement.generation, now=world.now
    )


def _ready_reason(status: PlacementStatus) -> str:
    ready = find_condition(status.conditions, ConditionType.READY)
    return ready.reason if ready else "Unknown"


def _gist(status: PlacementStatus) -> PlacementStatus:
    """Return a status without what changes with each measurement."""
    conditions = tuple(msgspec.structs.replace(c, message="") for c in status.conditions)
    return msgspec.structs.replace(status, conditions=conditions, rules=())
