# SPDX-License-Identifier: Apache-2.0
"""When what costs a thread time is done again: what comes together is done together.

It may take a tenth of the thread's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Times what it cost: the thread has nine tenths for all else.
_REST = 9.0


class Rest:
    """The rest after some work. What was quiet for longer is not kept waiting at all.

    Example:
        >>> rest = Rest(time.monotonic, time.thread_time, least_s=0.25, most_s=2.0)
        >>> if rest.is_over:
        ...     with rest.after():
        ...         reconciler.take(world)
    """

    def __init__(
        self,
        clock: Callable[[], float],
        cost: Callable[[], float],
        *,
        least_s: float,
        most_s: float,
    ) -> None:
        """Begin rested.

        Args:
            clock: Seconds, only forward.
            cost: Seconds that this thread has worked.
            least_s: It rests for as long, whatever the work cost.
            most_s: It does not rest for longer: somebody waits.
        """
        self._clock, self._cost = clock, cost
        self._least_s, self._most_s = least_s, most_s
        self._spent_s = 0.0
        self._until = float("-inf")

    @property
    def is_over(self) -> bool:
        """Whether it may be done now."""
        return self.left_s <= 0

    @property
    def left_s(self) -> float:
        """Seconds until it may be done; not more than 0 if it may."""
        return self._until - self._clock()

    @contextmanager
    def after(self) -> Iterator[None]:
        """Do the work, or a part of it: parts without a rest between them count as one."""
        spent, begin = (0.0 if self.is_over else self._spent_s), self._cost()
        try:
            yield
        finally:
            self._spent_s = spent + self._cost() - begin
            wait = min(self._most_s, max(self._least_s, _REST * self._spent_s))
            self._until = self._clock() + wait
