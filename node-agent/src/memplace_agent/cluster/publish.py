# SPDX-License-Identifier: Apache-2.0
"""Write the NodeMemory of this node: bounded, not often, and whatever the API server answers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from memplace.api.conditions import Condition, find_condition, set_condition
from memplace.api.convert import to_builtins
from memplace.api.liveness import HEARTBEAT_S
from memplace.api.paths import Plural, path_of
from memplace.api.server import ApiError
from memplace.api.v1alpha1 import API_VERSION, NodeMemoryStatus
from memplace.reasons import ConditionType, Reason
from memplace_kube.client import ApiClient, Server
from memplace_kube.watch import retry_delay

from memplace_agent.cluster.bounded import bounded, without_placements
from memplace_agent.cluster.pace import is_due

log = logging.getLogger(__name__)

_PATH = path_of(Plural.NODES)
_NOT_FOUND = 404
_EXISTS = 409
# Too large for the server, and against the schema.
_REFUSED = frozenset({413, 422})
# How long a node whose report was refused says the least, before all of it is tried again.
_MINIMAL_S = 60.0

_Form = Callable[[NodeMemoryStatus], NodeMemoryStatus]


class Publisher:
    """Writes the latest status when it is worth it; statuses that were overtaken never are."""

    def __init__(self, server: Server, node_name: str, beats: Callable[[], bool]) -> None:
        """Take where to write.

        Args:
            server: The API server.
            node_name: The node.
            beats: Whether the agent is alive, and has to say so here, since its Lease does
                not: then the status is written every HEARTBEAT_S.
        """
        self._client = ApiClient(server)
        self._name = node_name
        self._beats = beats
        self._wake = threading.Event()
        self._latest: NodeMemoryStatus | None = None
        self._written: NodeMemoryStatus | None = None
        self._written_at = float("-inf")
        self._refused_at = float("-inf")
        self._complete: tuple[Condition, ...] = ()
        self._failures = 0

    def publish(self, status: NodeMemoryStatus) -> None:
        """Take a status to write; returns at once."""
        self._latest = status
        self._wake.set()

    def run(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        """Write until told to stop."""
        while not stop.is_set():
            self._wake.wait(timeout=1)
            self._wake.clear()
            tick()
            try:
                self._write_if_due()
            except Exception as err:  # whatever it is, the next one may be written
                stop.wait(self._failed(err))

    def _write_if_due(self) -> None:
        status = self._latest
        since = time.monotonic() - self._written_at
        if status is None:
            return
        if not is_due(self._written, status, since):
            if since < HEARTBEAT_S or not self._beats():
                return
            # A beat says that the agent lives. Figures that are not worth a write would make
            # the operator write, too.
            status = self._written or status
        self._write(status)
        self._written, self._written_at = status, time.monotonic()
        if self._failures:
            log.info("status is written again")
        self._failures = 0

    def _write(self, status: NodeMemoryStatus) -> None:
        forms: list[_Form] = [bounded, without_placements, _bare]
        if time.monotonic() - self._refused_at < _MINIMAL_S:
            forms = forms[1:]
        for form in forms:
            try:
                self._put(form(status))
            except ApiError as err:
                if err.status not in _REFUSED or form is _bare:
                    raise
                log.error("status refused, saying less", extra={"error": str(err)})
                self._refused_at = time.monotonic()
            else:
                return

    def _put(self, status: NodeMemoryStatus) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        self._complete = _complete(self._complete, status, now)
        whole = msgspec.structs.replace(
            status, conditions=(*status.conditions, *self._complete), heartbeat_time=now
        )
        body = {"status": to_builtins(whole)}
        try:
            self._client.patch(f"{_PATH}/{self._name}/status", body)
        except ApiError as err:
            if err.status != _NOT_FOUND:
                raise
            self._create()
            self._client.patch(f"{_PATH}/{self._name}/status", body)

    def _create(self) -> None:
        # No owner: the object has to outlive a node that is deleted and registers again.
        body: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "kind": "NodeMemory",
            "metadata": {"name": self._name},
        }
        try:
            self._client.post(_PATH, body)
        except ApiError as err:
            if err.status != _EXISTS:
                raise

    def _failed(self, err: Exception) -> float:
        self._client.close()
        level = logging.DEBUG if self._failures else logging.WARNING
        log.log(level, "status not written", extra={"error": str(err) or type(err).__name__})
        self._failures += 1
        return retry_delay(self._failures - 1)


def _bare(status: NodeMemoryStatus) -> NodeMemoryStatus:
    """Return what is left when even the node's topology is refused."""
    less = without_placements(status)
    return msgspec.structs.replace(less, numa_nodes=(), tiers=(), backend=None)


def _complete(
    before: Iterable[Condition], status: NodeMemoryStatus, now: datetime
) -> tuple[Condition, ...]:
    old = find_condition(before, ConditionType.COMPLETE)
    missing = status.truncated
    is_complete = not (missing.placements or missing.pods or missing.details)
    return set_condition(
        (old,) if old else (),
        ConditionType.COMPLETE,
        status="True" if is_complete else "False",
        reason=Reason.AS_EXPECTED if is_complete else Reason.REPORT_TOO_LARGE,
        message=""
        if is_complete
        else f"left out: {missing.placements} placements, {missing.pods} pods of others, and "
        f"what was measured in {missing.details} more; each namespace has the same room",
        generation=0,
        now=now,
    )
