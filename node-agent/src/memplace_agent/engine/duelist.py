# SPDX-License-Identifier: Apache-2.0
"""When which container is to be looked at next; pure, the clock is the caller's.

There are no passes over everything. Each container has a time of its own:

- something else is wanted of it, or an event says that it changed: 0.2 s later, so that what
  comes together is one look;
- the last look found a change: soon; it found none: later and later, up to the slow audit;
- the last look failed: after a backoff of its own;
- it was felt to have changed (see `pulse`): as after an event, but all such looks together, and
  those that follow from them, take a bounded share of a core, however many containers change;
- in any case not before the container has been left alone for some multiple of what the last
  look took: a large or busy one costs a bounded share of a core, however often it is edited.

Of those that are due, and of those that were felt, namespaces take turns: who has a thousand
containers that all changed delays another namespace by one look, not by a thousand.
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from memplace_agent.engine.backoff import Backoffs

# Who was felt less often than that, of late, changes seldom.
_SELDOM = 8.0


class Outcome(Enum):
    """How a look ended."""

    QUIET = auto()
    CHANGED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often; all in seconds but the shares.

    Attributes:
        coalesce_s: How long a change waits for others.
        fast_s: Until the look after one that found a change.
        slow_s: Between looks at a container where nothing changes.
        growth: By what the time between looks grows while nothing changes.
        first_backoff_s: After a failure; doubled by each one more.
        last_backoff_s: At most this long after a failure.
        audit_rest: A look that nothing asked for waits this many times what the last one took.
        change_rest: The same, of one that a change asked for, or that follows a change.
        asked_s: So long after something else was wanted of a container what follows is as urgent;
            later it is as if it had been felt.
        felt_rest: Looks at containers that were felt to have changed, and those that follow,
            together wait this many times what they take, one by one: 3 % of a core.
    """

    coalesce_s: float = 0.2
    fast_s: float = 2.0
    slow_s: float = 30.0
    growth: float = 2.0
    first_backoff_s: float = 2.0
    last_backoff_s: float = 300.0
    audit_rest: float = 99.0
    change_rest: float = 9.0
    asked_s: float = 30.0
    felt_rest: float = 33.0


@dataclass(frozen=True, slots=True)
class Look:
    """One container to be looked at now."""

    container_id: str
    namespace: str


@dataclass(slots=True)
class _Entry:
    look: Look
    due_at: float
    interval_s: float
    # Not before: what the last look cost is being paid off.
    rested_at: float = 0.0
    rested_for_change_at: float = 0.0
    is_out: bool = False
    # When something else was wanted of it.
    asked_at: float = float("-inf")
    # It is due for what was felt, not for what anybody asked; then when it would be due else.
    is_felt: bool = False
    audit_at: float = float("inf")
    # How often it was felt lately, and when that was so.
    busy: float = 0.0
    busy_at: float = 0.0
    # When a change came while a look was under way: it may have been seen, or not. And when
    # something came that follows from such a look.
    changed_at: float | None = None
    followed_at: float | None = None


@dataclass(slots=True)
class _Turns:
    # Containers that are due, by namespace; the namespace in front is served next.
    queues: OrderedDict[str, dict[str, Look]] = field(default_factory=OrderedDict)

    def __contains__(self, look: Look) -> bool:
        return look.container_id in self.queues.get(look.namespace, ())

    def add(self, look: Look) -> None:
        self.queues.setdefault(look.namespace, {})[look.container_id] = look

    def drop(self, look: Look) -> None:
        queue = self.queues.get(look.namespace, {})
        queue.pop(look.container_id, None)
        if not queue:
            self.queues.pop(look.namespace, None)

    def take(self, rank: Callable[[str], tuple[float, ...]] = lambda _: ()) -> Look | None:
        if not self.queues:
            return None
        namespace, queue = self.queues.popitem(last=False)
        container_id = min(queue, key=rank)  # of equals the one that came first
        look = queue.pop(container_id)
        if queue:
            self.queues[namespace] = queue
        return look


class DueList:
    """The containers of a node and when each is due. For one thread; see `schedule.Schedule`.

    Every method takes ``now``, seconds of a clock that only goes forward.

    Example:
        >>> due = DueList()
        >>> due.update({"c0ffee": "cache"}, now=0.0)
        >>> due.take(now=0.1), due.next_at()
        (None, 0.2)
        >>> look = due.take(now=0.2)
        >>> due.done(look, Outcome.QUIET, took_s=0.001, now=0.2)
    """

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace = pace or Pace()
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[float, str]] = []
        self._turns = _Turns()
        # Those that are due for what was felt: one at a time, when the last one is paid off.
        self._felt = _Turns()
        self._paid_at = float("-inf")
        self._backoffs = Backoffs[str](
            first_s=self._pace.first_backoff_s, limit_s=self._pace.last_backoff_s
        )

    def __len__(self) -> int:
        return len(self._entries)

    def update(self, containers: Mapping[str, str], now: float) -> None:
        """Take the containers there are, id to namespace: new ones are due, others forgotten."""
        for container_id in self._entries.keys() - containers.keys():
            look = self._entries.pop(container_id).look
            self._turns.drop(look)
            self._felt.drop(look)
        self._backoffs.keep(containers.keys())
        for container_id, namespace in containers.items():
            if container_id not in self._entries:
                look = Look(container_id, namespace)
                entry = _Entry(look, float("inf"), self._pace.fast_s, asked_at=now)
                self._entries[container_id] = entry
                self._set_due(entry, now + self._pace.coalesce_s)

    def changed(self, container_ids: Iterable[str], now: float) -> None:
        """Say that something else is wanted of containers, or that they changed.

        A change does not wait for a backoff: it may be what mends the failure. It does not
        end it either: what fails again waits longer.
        """
        for container_id in container_ids:
            entry = self._entries.get(container_id)
            if entry is not None:
                entry.asked_at = now
                self._hurry(entry, now)

    def felt(self, container_ids: Iterable[str], now: float) -> None:
        """Say that containers seem to have changed, though nobody asks anything of them.

        Who changes seldom goes first: who does all the time is never up to date for long. Of
        those who change as often the last one does: a change here and there does not wait for
        a hundred at once, and who waits for long is audited.
        """
        for container_id in container_ids:
            entry = self._entries.get(container_id)
            if entry is not None:
                entry.busy, entry.busy_at = self._busy(entry, now) + 1, now
                self._feel(entry, now)

    def follow_up(self, container_ids: Iterable[str], now: float) -> None:
        """Say that what a look began has come to something: pages have moved.

        As `changed` if somebody wanted something a short while ago, as `felt` if not: a
        container that changes all the time gets something done by each look.
        """
        for container_id in container_ids:
            entry = self._entries.get(container_id)
            if entry is None:
                continue
            if entry.is_out:
                entry.followed_at = now
            elif self._is_asked(entry, now):
                self._hurry(entry, now)
            else:
                self._feel(entry, now)

    def take(self, now: float) -> Look | None:
        """Return the container whose turn it is, None when none is due.

        It is not handed out again before `done`.
        """
        self._gather(now)
        # What was felt keeps nobody waiting: it has its share, and no more.
        look = self._felt.take(self._rank(now)) if now >= self._paid_at else None
        is_felt = look is not None
        look = look or self._turns.take()
        if look is not None:
            entry = self._entries[look.container_id]
            entry.is_out, entry.is_felt = True, is_felt
            entry.changed_at = entry.followed_at = None
            # What was asked for before this look is seen by it.
            entry.due_at = float("inf")
        return look

    def done(self, look: Look, outcome: Outcome, *, took_s: float, now: float) -> None:
        """Take back a container and decide when it is due again.

        Args:
            look: Of `take`; one that has been forgotten meanwhile is ignored.
            outcome: How it went.
            took_s: CPU or wall time it cost, whichever is to be bounded.
            now: When it ended.
        """
        entry = self._entries.get(look.container_id)
        if entry is None or entry.look is not look:
            return
        entry.is_out = False
        entry.rested_at = now + took_s * self._pace.audit_rest
        entry.rested_for_change_at = now + took_s * self._pace.change_rest
        if entry.is_felt:
            self._paid_at = max(self._paid_at, now) + took_s * self._pace.felt_rest
        self._set_due(entry, self._next(entry, outcome, now))
        if entry.changed_at is not None:
            self._hurry(entry, entry.changed_at)
        if entry.followed_at is not None:
            self.follow_up((look.container_id,), entry.followed_at)

    def next_at(self) -> float | None:
        """Return when a container is due next, None when none is or will be.

        In the past when one is due already.
        """
        if self._turns.queues:
            return float("-inf")
        while self._heap and not self._is_current(*self._heap[0]):
            heapq.heappop(self._heap)
        times = [self._heap[0][0]] if self._heap else []
        if self._felt.queues:
            times.append(self._paid_at)
        return min(times, default=None)

    def failures(self, container_id: str) -> int:
        """Return how often a container failed in a row."""
        return self._backoffs.times(container_id)

    def _next(self, entry: _Entry, outcome: Outcome, now: float) -> float:
        container_id, entry.is_felt = entry.look.container_id, False
        if outcome is Outcome.FAILED:
            return max(self._backoffs.failed(container_id, now), entry.rested_at)
        self._backoffs.succeeded(container_id)
        rested_at = entry.rested_at
        if outcome is Outcome.CHANGED:
            entry.interval_s, rested_at = self._pace.fast_s, entry.rested_for_change_at
            entry.is_felt = not self._is_asked(entry, now)
            entry.audit_at = max(now + self._pace.slow_s * _spread(container_id), entry.rested_at)
        wait = entry.interval_s * _spread(container_id)
        entry.interval_s = min(self._pace.slow_s, entry.interval_s * self._pace.growth)
        return max(now + wait, rested_at)

    def _busy(self, entry: _Entry, now: float) -> float:
        return entry.busy * math.exp2((entry.busy_at - now) / self._pace.slow_s)

    def _rank(self, now: float) -> Callable[[str], tuple[float, ...]]:
        def rank(container_id: str) -> tuple[float, ...]:
            entry = self._entries[container_id]
            return self._busy(entry, now) // _SELDOM, -entry.busy_at

        return rank

    def _feel(self, entry: _Entry, now: float) -> None:
        if entry.is_out or entry.look in self._turns or entry.look in self._felt:
            return
        at = max(now + self._pace.coalesce_s, entry.rested_for_change_at)
        if at < entry.due_at:
            if not entry.is_felt:
                entry.is_felt, entry.audit_at = True, entry.due_at
            self._set_due(entry, at)

    def _is_asked(self, entry: _Entry, now: float) -> bool:
        return now - entry.asked_at <= self._pace.asked_s

    def _hurry(self, entry: _Entry, now: float) -> None:
        if entry.is_out:
            entry.changed_at = now if entry.changed_at is None else entry.changed_at
            return
        at = max(now + self._pace.coalesce_s, entry.rested_for_change_at)
        entry.is_felt = False
        self._set_due(entry, min(at, entry.due_at))

    def _set_due(self, entry: _Entry, at: float) -> None:
        if at == entry.due_at:
            return
        entry.due_at = at
        heapq.heappush(self._heap, (at, entry.look.container_id))
        # Each change of mind leaves a stale pair behind; they must not pile up.
        if len(self._heap) > 2 * len(self._entries) + 64:
            self._heap = [
                (e.due_at, id_)
                for id_, e in self._entries.items()
                if self._is_current(e.due_at, id_)
            ]
            heapq.heapify(self._heap)

    def _gather(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            at, container_id = heapq.heappop(self._heap)
            if not self._is_current(at, container_id):
                continue
            entry = self._entries[container_id]
            entry.due_at = float("inf")
            if entry.is_felt:
                # If nothing is left for it until then, it is audited as if nothing were felt.
                self._felt.add(entry.look)
                entry.is_felt = False
                self._set_due(entry, max(now, entry.audit_at))
            else:
                self._felt.drop(entry.look)
                self._turns.add(entry.look)

    def _is_current(self, at: float, container_id: str) -> bool:
        entry = self._entries.get(container_id)
        return entry is not None and entry.due_at == at and at != float("inf")


def _spread(container_id: str) -> float:
    # 0.9 to 1.1, always the same for one container: those of a node do not fall into step.
    return 0.9 + 0.2 * (zlib.crc32(container_id.encode()) % 1024) / 1024
