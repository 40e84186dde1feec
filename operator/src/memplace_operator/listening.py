# SPDX-License-Identifier: Apache-2.0
"""Listen whether agents live, and remove what nodes leave behind.

The Leases are listed, not watched: each is renewed every 30 seconds, and of all that only
what stays as it was means anything.
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections.abc import Callable

import msgspec
from memplace.api.liveness import LEASE_SELECTOR, LEASES
from memplace.api.paths import Plural, path_of
from memplace.api.server import ApiError
from memplace.errors import MemplaceError
from memplace.structs import prepared
from memplace_kube.client import ApiClient, Server

from memplace_operator.feeds import Feeds
from memplace_operator.world import Node

log = logging.getLogger(__name__)

# Of the time for which an agent may be silent: how often to listen.
LISTEN_SHARE = 1 / 9
# How many silent nodes to ask for at a time. Silence says that a node may be gone; that it
# is, the API server says.
_CLEAN_MAX = 100

_FORBIDDEN, _NOT_FOUND, _CONFLICT = 403, 404, 409
_UNREACHABLE = (OSError, http.client.HTTPException, MemplaceError, msgspec.MsgspecError)


class _Meta(msgspec.Struct):
    name: str


class _Spec(msgspec.Struct, rename="camel"):
    renew_time: str = ""


class _Lease(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)


@prepared
class _Leases(msgspec.Struct):
    items: list[_Lease] | None = None


class Listener:
    """One thread: it asks for the Leases, and for the Nodes of agents that fell silent."""

    def __init__(
        self,
        server: Server,
        feeds: Feeds,
        *,
        stale_s: float,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take whom to ask, and whom to tell.

        Args:
            server: The API server.
            feeds: Who is told.
            stale_s: For how many seconds an agent may be silent.
            may_write: Whether it is ours to remove what is gone.
        """
        self._stale_s = stale_s
        self._client = ApiClient(server)
        self._leases = f"{LEASES}/namespaces/{server.namespace or 'default'}/leases"
        self._feeds = feeds
        self._may_write = may_write
        self._cleaned = time.monotonic()
        self._failures = 0
        self.has_heard = False

    def run(self, stop: threading.Event) -> None:
        """Listen until told to stop."""
        while not stop.is_set():
            if not self._feeds.is_synced:
                stop.wait(0.1)
                continue
            try:
                self.listen()
                self._clean_now_and_then()
                self._failures = 0
            except _UNREACHABLE as err:
                self._client.close()
                level = logging.DEBUG if self._failures else logging.WARNING
                log.log(level, "agents can't be heard: %s", err or type(err).__name__)
                self._failures += 1
            stop.wait(self._stale_s * LISTEN_SHARE)

    def listen(self) -> None:
        """Ask for the Leases once."""
        leases = self._renewals()
        feeds, now = self._feeds, time.monotonic()
        with feeds.lock:
            feeds.beats.hear(leases, nodes=feeds.world.expected(), now=now)
            feeds.world.hear(feeds.beats.pulses(now))
        self.has_heard = True
        feeds.changed.set()

    def _renewals(self) -> dict[str, str]:
        # From the API server's cache: this is asked for every few seconds.
        query = {"labelSelector": LEASE_SELECTOR, "resourceVersion": "0"}
        try:
            content = self._client.get(self._leases, query)
        except ApiError as err:
            # By the role of a chart before Leases, or no such API: agents whose Leases do not
            # work say in their reports that they live.
            if err.status not in (_FORBIDDEN, _NOT_FOUND):
                raise
            return {}
        found = msgspec.json.decode(content, type=_Leases).items or ()
        return {lease.metadata.name: lease.spec.renew_time for lease in found}

    def _clean_now_and_then(self) -> None:
        if time.monotonic() - self._cleaned < self._stale_s or not self._may_write():
            return
        self._cleaned = time.monotonic()
        with self._feeds.lock:
            silent = list(self._feeds.world.silent())[:_CLEAN_MAX]
        for node in silent:
            if self._is_gone(node.name):
                self._remove(node)

    def _is_gone(self, name: str) -> bool:
        try:
            self._client.get(f"/api/v1/nodes/{name}")
        except ApiError as err:
            if err.status not in (_FORBIDDEN, _NOT_FOUND):
                raise
            return err.status == _NOT_FOUND
        return False

    def _remove(self, node: Node) -> None:
        try:
            options = {"preconditions": {"uid": node.uid}}
            self._client.delete(path_of(Plural.NODES, name=node.name), options)
            log.info("removed the NodeMemory of node %s, which is gone", node.name)
        except ApiError as err:
            if err.status not in (_FORBIDDEN, _NOT_FOUND, _CONFLICT):
                raise
            log.debug("NodeMemory of node %s: %s", node.name, err)
