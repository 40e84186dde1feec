# SPDX-License-Identifier: Apache-2.0
"""The due list for threads: watches say what changed, planners wait for what is due."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from memplace_agent.engine.duelist import DueList, Look, Outcome

__all__ = ["Schedule"]


class Schedule:
    """A `DueList` behind a lock; all methods but `wait` return at once.

    Any number of threads may wait; each container is handed to one of them at a time.

    Args:
        due: The list; belongs to the schedule from now on.
        clock: Seconds, only forward.

    Example:
        >>> schedule = Schedule(DueList())
        >>> schedule.update({"c0ffee": "cache"})     # the thread that watches
        >>> while (look := schedule.wait(1.0)) or not stop.is_set():     # a planner
        ...     if look:
        ...         schedule.done(look, survey(look), took_s=...)
    """

    def __init__(self, due: DueList, clock: Callable[[], float] = time.monotonic) -> None:
        self._due = due
        self._clock = clock
        self._changed = threading.Condition()
        self._is_closed = False

    def update(self, containers: Mapping[str, str]) -> None:
        """Take the containers there are now, id to namespace."""
        with self._changed:
            self._due.update(containers, self._clock())
            self._changed.notify_all()

    def changed(self, container_ids: Iterable[str]) -> None:
        """Say that something else is wanted of containers, or that they changed."""
        with self._changed:
            self._due.changed(container_ids, self._clock())
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> Look | None:
        """Return the container whose turn it is; None after a time-out, or once closed.

        The time-out is for the thread to say that it lives.
        """
        end = self._clock() + timeout_s
        with self._changed:
            while not self._is_closed:
                now = self._clock()
                look = self._due.take(now)
                if look is not None:
                    return look
                if now >= end:
                    return None
                self._changed.wait(self._pause(now, end))
        return None

    def done(self, look: Look, outcome: Outcome, *, took_s: float) -> None:
        """Give back what `wait` returned; every look has to be, also after an exception."""
        with self._changed:
            self._due.done(look, outcome, took_s=took_s, now=self._clock())
            self._changed.notify_all()

    def close(self) -> None:
        """Let those who wait go."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _pause(self, now: float, end: float) -> float:
        due_at = self._due.next_at()
        return max(0.0, min(end, end if due_at is None else due_at) - now)
