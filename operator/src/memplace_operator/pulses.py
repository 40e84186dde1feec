# SPDX-License-Identifier: Apache-2.0
"""Which agents live, told by heartbeats that change while we look.

A heartbeat has the time of its node's clock. Compared with ours, an agent on a node that is
two minutes behind is dead, and a dead one on a node that is an hour ahead lives for that hour.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from memplace.api.liveness import DOUBT_S, STALE_AFTER
from memplace.api.v1alpha1 import NodeMemory

# Who seems dead at first has this long to show that only its clock is wrong.


@dataclass(slots=True)
class _Heard:
    heartbeat: datetime | None
    changed_at: float
    patience_s: float
    is_proven: bool


class Pulses:
    """What was seen of the agents, look after look."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Start without knowing any agent.

        Args:
            clock: Seconds, only forward.
            wall: Our idea of the time, aware: good for a first guess only.
        """
        self._clock = clock
        self._wall = wall
        self._heard: dict[str, _Heard] = {}

    def look(self, nodes: Iterable[NodeMemory]) -> None:
        """Take the reports, as read just now."""
        now = self._clock()
        for node in nodes:
            heartbeat, before = node.status.heartbeat_time, self._heard.get(node.name)
            if before is None:
                seems = self._seems_alive(heartbeat)
                patience = STALE_AFTER.total_seconds() if seems else DOUBT_S
                self._heard[node.name] = _Heard(heartbeat, now, patience, is_proven=seems)
            elif before.heartbeat != heartbeat:
                patience = STALE_AFTER.total_seconds()
                self._heard[node.name] = _Heard(heartbeat, now, patience, is_proven=True)

    def is_alive(self, name: str) -> bool:
        """Return whether an agent was heard of, or seemed alive at first, and not long ago."""
        heard = self._heard.get(name)
        return heard is not None and heard.is_proven and not self.is_silent(name)

    def is_silent(self, name: str) -> bool:
        """Return whether an agent had its time to be heard of and was not."""
        heard = self._heard.get(name)
        return heard is None or self._clock() - heard.changed_at > heard.patience_s

    def _seems_alive(self, heartbeat: datetime | None) -> bool:
        return heartbeat is not None and abs(self._wall() - heartbeat) <= STALE_AFTER
