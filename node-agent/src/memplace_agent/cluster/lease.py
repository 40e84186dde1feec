# SPDX-License-Identifier: Apache-2.0
"""The agent's heartbeat: a Lease with the node's name, in the agent's own namespace.

A renewal is 500 bytes, where a report has up to 200 KiB and many that watch it. Kubernetes'
nodes do the same (KEP-589).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from memplace.api.liveness import HEARTBEAT_S, LEASE_LABELS, LEASES, STALE_AFTER
from memplace.api.server import ApiError
from memplace_kube.client import ApiClient, Server
from memplace_kube.watch import retry_delay

log = logging.getLogger(__name__)

_NOT_FOUND = 404

# An operator of a version before Leases may still be at work while nodes are updated, one
# after the other: for so long an agent that is new says it lives in its report, too.
BOTH_WAYS_S = 600.0


class Heartbeat:
    """Renews the Lease while the agent is well, and knows whether that works.

    Attributes:
        is_alive: Whether all threads of the agent go on.
        owner: Uid of the node's NodeMemory, empty while there is none; the Lease is deleted
            with it.
    """

    def __init__(
        self,
        server: Server,
        node_name: str,
        *,
        is_alive: Callable[[], bool],
        owner: Callable[[], str],
    ) -> None:
        self._client = ApiClient(server)
        self._path = f"{LEASES}/namespaces/{server.namespace}/leases"
        self._has_namespace = bool(server.namespace)
        self._name = node_name
        self._is_alive = is_alive
        self._owner = owner
        self._started = time.monotonic()
        self._renewed = float("-inf")
        self._failures = 0

    def beats_in_report(self) -> bool:
        """Return whether the agent is alive and its Lease may not say so to everybody."""
        now = time.monotonic()
        says_so = now - self._renewed < STALE_AFTER.total_seconds()
        is_new = now - self._started < BOTH_WAYS_S
        return self._is_alive() and (is_new or not says_so)

    def run(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        """Renew until told to stop."""
        while not stop.is_set():
            tick()
            stop.wait(self._round())

    def _round(self) -> float:
        # Returns how long to wait: not exactly the same on all nodes of a cluster.
        pause = HEARTBEAT_S * random.uniform(0.9, 1.0)
        if not self._has_namespace:
            return pause
        if not (self._is_alive() and self._owner()):
            return min(pause, 2.0)
        try:
            self._renew()
        except Exception as err:  # whatever it is, the next one may work
            return min(pause, self._failed(err))
        self._renewed = time.monotonic()
        if self._failures:
            log.info("Lease is renewed again")
        self._failures = 0
        return pause

    def _renew(self) -> None:
        spec = {
            "holderIdentity": self._name,
            "leaseDurationSeconds": int(STALE_AFTER.total_seconds()),
            "renewTime": _micro_time(datetime.now(UTC)),
        }
        try:
            self._client.patch(f"{self._path}/{self._name}", {"spec": spec})
        except ApiError as err:
            if err.status != _NOT_FOUND:
                raise
            self._client.post(self._path, self._lease(spec))

    def _lease(self, spec: dict[str, Any]) -> dict[str, Any]:
        owner = {
            "apiVersion": "memplace.dev/v1alpha1",
            "kind": "NodeMemory",
            "name": self._name,
            "uid": self._owner(),
        }
        meta = {"name": self._name, "labels": LEASE_LABELS, "ownerReferences": [owner]}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": meta,
            "spec": spec,
        }

    def _failed(self, err: Exception) -> float:
        self._client.close()
        level = logging.DEBUG if self._failures else logging.WARNING
        log.log(level, "Lease not renewed", extra={"error": str(err) or type(err).__name__})
        self._failures += 1
        return retry_delay(self._failures - 1)


def _micro_time(moment: datetime) -> str:
    # metav1.MicroTime wants exactly six digits.
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
