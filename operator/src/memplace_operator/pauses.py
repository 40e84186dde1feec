# SPDX-License-Identifier: Apache-2.0
"""For how long roll-outs have been quiet, by our own clock, and what we tried to release.

Pure; the time is given, in seconds of a monotonic clock. An operator that has just come knows
nothing of the past, and waits anew: that is the safe side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from memplace.api.v1alpha1 import Placement, RolloutStatus
from msgspec import UNSET

from memplace_operator.rollout import is_quiet, pause_s

_Step = tuple[int, str, str]


@dataclass(slots=True)
class _Quiet:
    step: _Step
    nodes: int
    since: float
    due: float


@dataclass(slots=True)
class Pauses:
    """What is known of placements that are rolled out, by uid."""

    _quiet: dict[str, _Quiet] = field(default_factory=dict)
    _tried: dict[str, RolloutStatus] = field(default_factory=dict)
    _next_due: float = float("inf")

    def quiet_s(self, placement: Placement, now: float) -> float:
        """Return for how long the step that a placement's status has was quiet; 0 if it is not."""
        known, status = self._quiet.get(placement.uid), placement.status.rollout
        if known is None or status is None or known.step != _step(status):
            return 0.0
        return now - known.since

    def judged(self, placement: Placement, status: RolloutStatus | None, now: float) -> None:
        """Take what was decided just now."""
        asked = placement.spec.rollout
        if asked is UNSET or status is None or not is_quiet(status):
            self._quiet.pop(placement.uid, None)
            return
        # Who lost its status begins anew, also if it had not come further than the beginning.
        known = self._quiet.get(placement.uid) if placement.status.rollout else None
        # More nodes than there ever were: they still come.
        if known is None or known.step != _step(status) or status.nodes > known.nodes:
            known = self._quiet[placement.uid] = _Quiet(_step(status), status.nodes, now, 0.0)
        known.due = known.since + pause_s(asked, status)
        self._next_due = min(self._next_due, known.due)

    def wait_s(self, now: float) -> float:
        """Return the seconds until the first pause is over; inf for none."""
        return max(0.0, self._next_due - now)

    def take_due(self, now: float) -> list[str]:
        """Return the uids whose pause is over, each once until it is judged again."""
        if now < self._next_due:
            return []
        over = [uid for uid, each in self._quiet.items() if each.due <= now]
        for uid in over:
            self._quiet[uid].due = float("inf")
        self._next_due = min((each.due for each in self._quiet.values()), default=float("inf"))
        return over

    # --- what may have been written without our hearing of it ---

    def writing(self, uid: str, status: RolloutStatus | None) -> None:
        """Take what is being written: agents may act on it from now on."""
        if status is not None:
            self._tried[uid] = status

    def wrote(self, uid: str) -> None:
        """Take that the API server has answered, so that its word stands."""
        self._tried.pop(uid, None)

    def known(self, placement: Placement) -> Placement:
        """Return a placement with what its status has, or had if a write got there unheard."""
        tried, has = self._tried.get(placement.uid), placement.status.rollout
        if tried is None or (has is not None and _further(has) >= _further(tried)):
            return placement
        status = msgspec.structs.replace(placement.status, rollout=tried)
        return msgspec.structs.replace(placement, status=status)

    def forget(self, uid: str) -> None:
        """Forget a placement."""
        self._quiet.pop(uid, None)
        self._tried.pop(uid, None)


def _step(status: RolloutStatus) -> _Step:
    return status.generation, status.change, status.released_through


def _further(status: RolloutStatus) -> tuple[int, bool, str]:
    return status.generation, status.state.is_done, status.released_through
