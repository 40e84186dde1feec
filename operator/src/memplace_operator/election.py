# SPDX-License-Identifier: Apache-2.0
"""Which of several operators writes: the holder of a Lease.

As client-go's leaderelection: a Lease whose value did not change for its duration, on the
clock of whoever looks, may be taken; the API server lets only one of two take it. The holder
stops to write long before others may begin, with time for a write on its way.
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from memplace.api.liveness import LEASES, OPERATOR_LEASE, OPERATOR_LEASE_S
from memplace.api.server import ApiError
from memplace.errors import MemplaceError
from memplace.structs import prepared
from memplace_kube.client import ApiClient, Server

log = logging.getLogger(__name__)

# The holder renews it, others look at it, so often.
RENEW_S = 2.0
# So long after its last renewal it begins writes; one is given up after at most 20 s.
HOLD_S = 15.0

_NOT_FOUND, _EXISTS = 404, 409


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    renew_time: str | None = None
    acquire_time: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


@prepared
class _Lease(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _Spec = msgspec.field(default_factory=_Spec)


class Election:
    """Tries to be the one who writes, and knows whether it is."""

    def __init__(
        self,
        server: Server,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take who we are.

        Args:
            server: The API server; the Lease is in its namespace.
            identity: A name that no other operator has.
            clock: Seconds, monotonic.
        """
        self._client = ApiClient(server)
        self._path = f"{LEASES}/namespaces/{server.namespace or 'default'}/leases"
        self._identity = identity
        self._clock = clock
        self._held_until = float("-inf")
        self._seen: tuple[str | None, str | None] = (None, None)
        self._seen_at = float("-inf")
        self._was_leader = False
        self._failures = 0

    @property
    def is_leader(self) -> bool:
        """Whether we may begin a write now."""
        return self._clock() < self._held_until

    def run(self, stop: threading.Event) -> None:
        """Try until told to stop, and give the Lease up then, so that the next need not wait."""
        while not stop.is_set():
            self.attempt()
            stop.wait(RENEW_S)

    def attempt(self) -> None:
        """Renew the Lease, or take it if it may be taken."""
        try:
            self._attempt()
            self._failures = 0
        except (OSError, http.client.HTTPException, MemplaceError, msgspec.MsgspecError) as err:
            self._client.close()
            level = logging.DEBUG if self._failures else logging.WARNING
            log.log(level, "Lease %s not renewed: %s", OPERATOR_LEASE, err or type(err).__name__)
            self._failures += 1
        if self.is_leader != self._was_leader:
            self._was_leader = self.is_leader
            log.info("writing" if self._was_leader else "another operator writes")

    def release(self) -> None:
        """Give the Lease up; after the last write has ended."""
        if not self.is_leader:
            return
        self._held_until = float("-inf")
        try:
            lease = self._get()
            if lease is not None and lease.spec.holder_identity == self._identity:
                self._client.put(f"{self._path}/{OPERATOR_LEASE}", self._body(lease, holder=""))
        except (OSError, http.client.HTTPException, MemplaceError, msgspec.MsgspecError) as err:
            log.warning("Lease %s not given up: %s", OPERATOR_LEASE, err)

    def _attempt(self) -> None:
        started = self._clock()
        lease = self._get()
        if lease is None:
            self._client.post(self._path, self._body(_Lease()))
        elif self._may_take(lease, started):
            self._client.put(f"{self._path}/{OPERATOR_LEASE}", self._body(lease))
        else:
            self._held_until = float("-inf")
            return
        # From before the request: others count from after it.
        self._held_until = started + HOLD_S

    def _may_take(self, lease: _Lease, now: float) -> bool:
        spec = lease.spec
        if not spec.holder_identity or spec.holder_identity == self._identity:
            return True
        value = (spec.holder_identity, spec.renew_time)
        if value != self._seen:
            self._seen, self._seen_at = value, now
        return now - self._seen_at > OPERATOR_LEASE_S

    def _get(self) -> _Lease | None:
        try:
            found = self._client.get(f"{self._path}/{OPERATOR_LEASE}")
            return msgspec.json.decode(found, type=_Lease)
        except ApiError as err:
            if err.status != _NOT_FOUND:
                raise
            return None

    def _body(self, lease: _Lease, holder: str | None = None) -> dict[str, Any]:
        spec, now = lease.spec, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        is_mine = spec.holder_identity == self._identity
        transitions = spec.lease_transitions or 0
        meta = {"name": OPERATOR_LEASE}
        if lease.metadata.resource_version:
            meta["resourceVersion"] = lease.metadata.resource_version
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": meta,
            "spec": {
                "holderIdentity": self._identity if holder is None else holder,
                "leaseDurationSeconds": int(OPERATOR_LEASE_S),
                "acquireTime": spec.acquire_time if is_mine and spec.acquire_time else now,
                "renewTime": now,
                "leaseTransitions": transitions if is_mine else transitions + 1,
            },
        }
