# SPDX-License-Identifier: Apache-2.0
"""Whether agents live, by signs of life that change while we look. Pure.

A sign has the time of its writer's clock. One that is near to ours is good for a first guess;
any other says nothing until it changes, as `memplace_operator` and the hook of an uninstall
have it: a node whose clock is an hour behind is not dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from memplace.api.liveness import DOUBT_S, STALE_AFTER, with_renewal
from memplace.api.v1alpha1 import NodeMemory


class Pulse(StrEnum):
    """What is known of somebody who ought to give signs of life."""

    ALIVE = "Alive"
    SILENT = "Silent"
    UNKNOWN = "Unknown"


class Listening:
    """Signs of life, look after look.

    Args:
        first: By name the sign of the first look; None for nobody heard yet.
        now: Our idea of the time, aware.
        fresh: How near to it a sign has to be.
    """

    def __init__(
        self,
        first: Mapping[str, datetime | None],
        now: datetime,
        fresh: timedelta = STALE_AFTER,
    ) -> None:
        self._first = dict(first)
        near = {name for name, at in first.items() if at is not None and abs(now - at) <= fresh}
        self._alive = near

    def hear(self, again: Mapping[str, datetime | None]) -> None:
        """Take a later look."""
        self._alive |= {
            name
            for name, before in self._first.items()
            if again.get(name) is not None and again[name] != before
        }

    @property
    def doubtful(self) -> frozenset[str]:
        """Those who were not heard of yet."""
        return frozenset(self._first) - self._alive

    def pulses(self, *, waited_s: float) -> dict[str, Pulse]:
        """Return what is known of each, after so many seconds of listening."""
        rest = Pulse.SILENT if waited_s >= DOUBT_S else Pulse.UNKNOWN
        return {name: Pulse.ALIVE if name in self._alive else rest for name in self._first}


def signs_of(
    nodes: Iterable[NodeMemory], leases: Mapping[str, datetime]
) -> dict[str, datetime | None]:
    """Return per node its agent's last sign: of its Lease, or of its report."""
    return {node.name: with_renewal(node, leases).status.heartbeat_time for node in nodes}
