# SPDX-License-Identifier: Apache-2.0
"""Which agents live: those whose sign of life changed lately, by nobody's clock but ours.

Pure; the time is given, in seconds of a monotonic clock. What a node's clock says is compared
with what it said before, never with another clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from memplace.api.liveness import STALE_AFTER


class Pulse(Enum):
    """What is known of an agent.

    UNKNOWN: it was not seen to give a new sign of life yet, and may have had no time to.
    """

    UNKNOWN = "unknown"
    ALIVE = "alive"
    SILENT = "silent"


@dataclass(slots=True)
class _Sign:
    value: str
    since: float
    is_proven: bool = False
    is_silent: bool = False


class Beats:
    """Signs of life, from Leases and from reports, by node.

    An operator that was away knows nothing, and has to listen for as long as an agent may be
    quiet. While nobody could be heard, since the API server was away, nobody gets older.
    """

    def __init__(self, *, stale_s: float = STALE_AFTER.total_seconds()) -> None:
        self._stale_s = stale_s
        self._leases: dict[str, _Sign] = {}
        self._reports: dict[str, _Sign] = {}
        self._heard = float("-inf")

    def hear(self, leases: Mapping[str, str], *, nodes: Iterable[str], now: float) -> None:
        """Take the Leases' renewTimes, of all of them.

        Args:
            leases: Per node what its Lease says, in any form.
            nodes: The nodes that ought to have an agent.
            now: Seconds.
        """
        is_first = self._is_new
        if now - self._heard > self._stale_s / 3:
            self._forgive(now)
        self._heard = now
        for name in self._leases.keys() - leases.keys():
            del self._leases[name]
        for name, value in leases.items():
            _take(self._leases, name, value, now, is_first=is_first)
        expected = set(nodes)
        for name in self._reports.keys() - expected:
            del self._reports[name]
        for name in expected - self._reports.keys():
            self._reports[name] = _Sign("", now)

    def report(self, name: str, heartbeat: str, now: float) -> None:
        """Take what a node's report says, in any form; empty for nothing."""
        if heartbeat:
            _take(self._reports, name, heartbeat, now, is_first=self._is_new)

    @property
    def _is_new(self) -> bool:
        return self._heard == float("-inf")

    def pulses(self, now: float) -> dict[str, Pulse]:
        """Return per node that ought to have an agent what is known of it."""
        return {name: self._pulse(name, now) for name in self._reports}

    def _pulse(self, name: str, now: float) -> Pulse:
        signs = [s for s in (self._reports[name], self._leases.get(name)) if s is not None]
        newest = max(sign.since for sign in signs)
        was_silent = self._reports[name].is_silent and not any(
            sign.is_proven and now - sign.since <= self._stale_s for sign in signs
        )
        is_silent = was_silent or now - newest > self._stale_s
        self._reports[name].is_silent = is_silent
        if is_silent:
            return Pulse.SILENT
        return Pulse.ALIVE if any(sign.is_proven for sign in signs) else Pulse.UNKNOWN

    def _forgive(self, now: float) -> None:
        for name, report in self._reports.items():
            if not report.is_silent:
                report.since = now
                if name in self._leases:
                    self._leases[name].since = now


def _take(signs: dict[str, _Sign], name: str, value: str, now: float, *, is_first: bool) -> None:
    # What was there when we came says nothing of when it was given.
    sign = signs.get(name)
    if sign is None:
        signs[name] = _Sign(value, now, is_proven=not is_first)
    elif sign.value != value:
        sign.is_proven = not is_first
        sign.value, sign.since = value, now
