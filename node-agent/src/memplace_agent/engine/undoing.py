# SPDX-License-Identifier: Apache-2.0
"""When what was done to a container is to be given back; pure, the clock is the caller's.

"Not listed at this moment" is no order. A static pod's mirror is deleted and made again, a
status is without a running state for a second, a placement is of a version that this agent
does not understand: each would be an undo, and a move of gigabytes back and forth. So a claim
ends when its placement is gone, when the placement has not selected the pod for a while, or
when the pod is gone from the API *and* its processes are gone from the node.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

# A label that is taken off and put on again, by a controller or by hand.
UNSELECTED_S = 10.0

# An index of cgroups is as old as its last walk.
EMPTY_S = 5.0


class Decision(Enum):
    """What to do about a claim.

    KEEP: nothing; the placement may not even be acted on at this moment.
    FOLLOW: work as usual, for the placement that wins now; it may be another than before.
    UNDO: give everything back.
    FORGET: no process is left, drop the claim.
    """

    KEEP = auto()
    FOLLOW = auto()
    UNDO = auto()
    FORGET = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a container with a claim, all at one moment.

    Attributes:
        is_synced: Whether pods and placements have been listed; before that, nothing follows
            from what is missing.
        is_retired: Whether the node is to be given back whole.
        placement_exists: Whether the claim's placement (by uid) is in the API, understood by
            this agent or not, and is to have what was done for it.
        winner: uid of the placement the container follows by what is understood now; None
            for none.
        is_understood: Whether the present spec of the claim's placement is understood, or the
            last one that was is kept. If not, nobody knows what it selects.
        pod_is_listed: Whether a pod of the API has this container, running.
        is_paused: Whether the claim's placement asks that nothing is undone while it exists.
        is_populated: Whether its cgroup has processes; None when that could not be read.
    """

    is_synced: bool
    is_retired: bool = False
    placement_exists: bool
    winner: str | None
    is_understood: bool = True
    is_paused: bool = False
    pod_is_listed: bool
    is_populated: bool | None


class Undoing:
    """Since when containers have had no placement or no processes.

    Example:
        >>> undoing = Undoing()
        >>> deleted = Standing(
        ...     is_synced=True, placement_exists=False, winner=None,
        ...     pod_is_listed=True, is_populated=True,
        ... )
        >>> undoing.decide("c0ffee", deleted, now=0.0)
        <Decision.UNDO: 3>
    """

    def __init__(self, *, unselected_s: float = UNSELECTED_S, empty_s: float = EMPTY_S) -> None:
        self._unselected_s = unselected_s
        self._empty_s = empty_s
        self._unselected: dict[str, float] = {}
        self._empty: dict[str, float] = {}

    def decide(self, container_id: str, standing: Standing, now: float) -> Decision:
        """Return what to do about the claim of a container.

        Args:
            container_id: Which.
            standing: What is known of it.
            now: Seconds of a clock that only goes forward. While the answer is KEEP ask again:
                it becomes another one by time alone, too.
        """
        is_gone = standing.is_populated is False and not standing.pod_is_listed
        gone_for = _elapsed(self._empty, container_id, now, holds=is_gone)
        is_unselected = _is_unselected(standing)
        unselected_for = _elapsed(self._unselected, container_id, now, holds=is_unselected)
        if standing.is_retired:
            return Decision.UNDO
        if not standing.is_synced:
            return Decision.KEEP
        if gone_for is not None and gone_for >= self._empty_s:
            return Decision.FORGET
        if standing.winner is not None:
            return Decision.FOLLOW
        if not standing.placement_exists:
            return Decision.UNDO
        if unselected_for is not None and unselected_for >= self._unselected_s:
            return Decision.UNDO
        return Decision.KEEP

    def keep(self, container_ids: Collection[str]) -> None:
        """Forget all containers but these: those whose claim is gone."""
        for since in (self._unselected, self._empty):
            for container_id in since.keys() - set(container_ids):
                del since[container_id]


def _is_unselected(standing: Standing) -> bool:
    # Only a pod that is there can be seen not to be selected.
    return (
        standing.is_synced
        and standing.pod_is_listed
        and standing.is_understood
        and not standing.is_paused
        and standing.winner is None
    )


def _elapsed(
    since: dict[str, float], container_id: str, now: float, *, holds: bool
) -> float | None:
    """Return for how long something has held, None when it does not."""
    if not holds:
        since.pop(container_id, None)
        return None
    return now - since.setdefault(container_id, now)
