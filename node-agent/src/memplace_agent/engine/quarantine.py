# SPDX-License-Identifier: Apache-2.0
"""Whom to leave alone since a call on it did not come back; pure, the clock is the caller's.

A process whose address space is locked (a page fault that waits for a dead NFS server) keeps
whoever reads it waiting, unkillably. So a thread may be lost with each such process. What a
group has lost is counted against that group alone, whatever others have lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable

from memplace_agent.engine.backoff import Backoffs


class Quarantine:
    """Targets that missed a deadline, and the groups they belong to.

    Args:
        group_limit: Threads that one group, a namespace, may lose. A call that is under way when
            the last one is lost may be lost as well.
        first_s: How long a target is left alone after its first miss; doubled by each more.
        limit_s: At most this.

    Example:
        >>> quarantine = Quarantine()
        >>> quarantine.missed(4711, "cache", now=0.0)
        >>> quarantine.refusal(4711, "cache", now=60.0)
        'a call on it has not returned'
        >>> quarantine.returned(4711, "cache")
        >>> quarantine.refusal(4711, "cache", now=61.0) is None
        True
    """

    def __init__(
        self,
        *,
        group_limit: int = 2,
        first_s: float = 30.0,
        limit_s: float = 3600.0,
    ) -> None:
        self._group_limit = group_limit
        self._backoffs = Backoffs[Hashable](first_s=first_s, limit_s=limit_s)
        # How many calls: several threads may have called the same target.
        self._held: Counter[Hashable] = Counter()
        self._lost: Counter[str] = Counter()

    @property
    def lost(self) -> int:
        """How many threads are lost at this moment."""
        return self._held.total()

    def refusal(self, target: Hashable, group: str, now: float) -> str | None:
        """Return why a target is not to be tried now, for people; None when it may be."""
        if target in self._held:
            return "a call on it has not returned"
        if not self._backoffs.is_ready(target, now):
            return "a call on it did not return in time"
        lost = self._lost[group]
        if lost >= self._group_limit:
            return f"{lost} calls on processes of its namespace have not returned"
        return None

    def missed(self, target: Hashable, group: str, now: float) -> None:
        """Note that a call on a target missed its deadline; the thread in it is lost."""
        self._held[target] += 1
        self._lost[group] += 1
        self._backoffs.failed(target, now)

    def returned(self, target: Hashable, group: str) -> None:
        """Note that a call that was given up has come back after all."""
        self._held -= Counter([target])
        self._lost -= Counter([group])

    def succeeded(self, target: Hashable) -> None:
        """Note that a call came back in time."""
        self._backoffs.succeeded(target)

    def keep(self, targets: Collection[Hashable]) -> None:
        """Forget the targets that are gone; not those that hold a thread."""
        self._backoffs.keep({*targets, *self._held})
