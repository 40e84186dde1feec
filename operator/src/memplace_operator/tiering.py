# SPDX-License-Identifier: Apache-2.0
"""Write the statuses of MemoryTiers: where each is in force.

There are few of them and people make them, so they are listed each time, status and all, and
only what differs is written. Each agent is sent what is written: what only counts nodes is
written at most once a minute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from memplace.api.convert import from_builtins
from memplace.api.objects import parse_tier
from memplace.api.server import ApiError
from memplace.api.v1alpha1 import MemoryTier, TierStatus
from memplace.errors import ValidationError
from memplace_kube.client import ApiClient, Server

from memplace_operator.events import COMPONENT
from memplace_operator.feeds import Feeds
from memplace_operator.kinds import Kind
from memplace_operator.tiers import Machines, tier_status

log = logging.getLogger(__name__)

LOOK_S = 5.0
COUNTS_S = 60.0

# Gone, made anew, or of a CRD or a role that is older than statuses of tiers.
_NOT_TAKEN = (403, 404, 409, 422)


class TierTeller:
    """One thread that says of each MemoryTier where it is in force."""

    def __init__(self, server: Server, feeds: Feeds, *, may_write: Callable[[], bool]) -> None:
        """Take whom to ask and tell, what is known, and whether it is ours to write."""
        self._client = ApiClient(server)
        self._feeds = feeds
        self._may_write = may_write
        self._written: dict[str, float] = {}
        self._failures = 0

    def run(self, stop: threading.Event) -> None:
        """Tell until told to stop."""
        while not stop.wait(LOOK_S):
            if not self._may_write() or not self._feeds.is_synced:
                continue
            try:
                self.tell()
                self._failures = 0
            except Exception as err:  # whatever stands in its place may answer anything
                self._client.close()
                level = logging.DEBUG if self._failures else logging.WARNING
                log.log(level, "can't tell of MemoryTiers: %s", err or type(err).__name__)
                self._failures += 1

    def tell(self) -> None:
        """Look once, and write what differs."""
        found = list(self._listed())
        tiers = [tier for tier, _ in found]
        self._written = {t.uid: self._written.get(t.uid, float("-inf")) for t in tiers}
        if not tiers:
            return
        machines = self._machines()
        for tier, before in found:
            status = tier_status(tier, tiers, machines, before, datetime.now(UTC))
            if self._is_due(tier, before, status):
                self._write(tier, status)

    def _listed(self) -> Iterator[tuple[MemoryTier, TierStatus]]:
        content = self._client.get(Kind.TIER.path, {"resourceVersion": "0"})
        for obj in msgspec.json.decode(content).get("items") or ():
            try:
                yield parse_tier(obj), _status(obj)
            except ValidationError as err:  # of a later version: nothing is known of it
                log.debug("ignoring a MemoryTier: %s", err)

    def _machines(self) -> Machines:
        with self._feeds.lock:
            nodes = self._feeds.world.nodes.values()
            return {node.name: node.numa_nodes for node in nodes if node.head.has_reported}

    def _is_due(self, tier: MemoryTier, before: TierStatus, status: TierStatus) -> bool:
        if status == before:
            return False
        since = time.monotonic() - self._written[tier.uid]
        return _gist(status) != _gist(before) or since >= COUNTS_S

    def _write(self, tier: MemoryTier, status: TierStatus) -> None:
        path = f"{Kind.TIER.path}/{tier.name}/status?fieldManager={COMPONENT}"
        try:
            # The uid: one of the same name that was made since is another.
            self._client.patch(path, {"metadata": {"uid": tier.uid}, "status": status})
        except ApiError as err:
            if err.status not in _NOT_TAKEN:
                raise
            log.debug("status of MemoryTier %s: %s", tier.name, err)
        self._written[tier.uid] = time.monotonic()


def _status(obj: Any) -> TierStatus:
    try:
        return from_builtins(obj.get("status") or {}, TierStatus, "status")
    except ValidationError:  # a later version's; ours takes its place
        return TierStatus()


def _gist(status: TierStatus) -> object:
    # All but what a node that comes or goes changes.
    return [(c.status, c.reason, c.observed_generation) for c in status.conditions]
