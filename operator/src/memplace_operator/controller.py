# SPDX-License-Identifier: Apache-2.0
"""Turn the world into statuses and events: of what is due, one placement after the other.

One thread judges, taking turns between namespaces, so that what one tenant makes much of makes
only that tenant wait. What is being written is not judged again until that has ended.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from memplace.api.conditions import find_condition
from memplace.api.v1alpha1 import Placement, PlacementStatus, RolloutState, title_of
from memplace.reasons import ConditionType

from memplace_operator.events import make_event
from memplace_operator.feeds import Feeds
from memplace_operator.metrics import Metrics
from memplace_operator.pauses import Pauses
from memplace_operator.reconcile import reconcile, transitions, unreadable
from memplace_operator.world import Subject
from memplace_operator.writer import FIRST_RETRY_S, LAST_RETRY_S, Outcome, Write

log = logging.getLogger(__name__)

# Reports that belong together come within this time.
DEBOUNCE_S = 0.1
IDLE_S = 1.0
# Measured bytes and what agents say of them change with each scan; conditions and counts
# are written at once, these at most this often.
QUIET_S = 10.0
# To judge one costs the pods that it selects, and each of them makes it due. So one that selects
# very many rests for so many times what that took: the others have the rest of the time.
REST = 10.0


class Turns:
    """Uids that are due, by namespace, the cluster's as one: each has its turn."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[str, None]] = {}
        self._order: deque[str] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, namespace: str, uid: str) -> None:
        """Take one that is due; again does nothing."""
        queue = self._queues.get(namespace)
        if queue is None:
            queue = self._queues[namespace] = {}
            self._order.append(namespace)
        self._count += uid not in queue
        queue[uid] = None

    def next(self) -> str | None:
        """Return whose turn it is."""
        if not self._order:
            return None
        namespace = self._order.popleft()
        queue = self._queues[namespace]
        uid = next(iter(queue))
        del queue[uid]
        self._count -= 1
        if queue:
            self._order.append(namespace)
        else:
            del self._queues[namespace]
        return uid


class Tally:
    """How many placements have which word; the empty one does not count."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._words: dict[str, str] = {}

    def put(self, uid: str, word: str) -> None:
        """Take the word that a placement has now."""
        old = self._words.pop(uid, "")
        if old:
            self.counts[old] -= 1
        if word:
            self._words[uid] = word
            self.counts[word] += 1


class Controller:
    """Judges what is due.

    Attributes:
        last_tick: time.monotonic() of the last sign of life.
    """

    def __init__(
        self,
        feeds: Feeds,
        metrics: Metrics,
        *,
        put: Callable[[Write], None],
        has_room: Callable[[], bool],
        may_judge: Callable[[], bool],
    ) -> None:
        """Take where to look and where to write.

        Args:
            feeds: The world, and what fills it.
            metrics: What is counted.
            put: Takes what is to be written.
            has_room: Whether it takes more now.
            may_judge: Whether all there is to know is known, and writing is ours.
        """
        self._feeds = feeds
        self._metrics = metrics
        self._put = put
        self._has_room = has_room
        self._may_judge = may_judge
        self._turns = Turns()
        self._later: list[tuple[float, str]] = []
        self._put_off: set[str] = set()
        self._rests: dict[str, float] = {}
        self._written: dict[str, float] = {}
        self._writing: set[str] = set()
        self._again: set[str] = set()
        self._failed: dict[str, int] = {}
        self._reasons = Tally()
        self._rollouts = Tally()
        self._pauses = Pauses()
        self._done_lock = threading.Lock()
        self._ended: list[tuple[Write, Outcome]] = []
        self.last_tick = time.monotonic()

    @property
    def waiting(self) -> int:
        """How many placements are due."""
        return len(self._turns) + len(self._feeds.world.due)

    def run(self, stop: threading.Event) -> None:
        """Judge until told to stop."""
        while not stop.is_set():
            self.last_tick = time.monotonic()
            self._feeds.changed.wait(self._idle_s())
            self._feeds.changed.clear()
            stop.wait(DEBOUNCE_S)
            self.round(stop)

    def round(self, stop: threading.Event) -> None:
        """Judge all that is due now."""
        self._take_ended()
        if not self._may_judge():
            return
        self._take_due()
        while (uid := self._turns.next()) is not None and not stop.is_set():
            self.last_tick = time.monotonic()
            self._judge_in_any_case(uid)
            while not self._has_room() and not stop.wait(0.01):
                self.last_tick = time.monotonic()
                self._take_ended()
            if self._feeds.world.due:
                self._take_due()
        self._take_ended()
        self._show()

    def done(self, write: Write, outcome: Outcome) -> None:
        """Take how a write ended; from any thread."""
        with self._done_lock:
            self._ended.append((write, outcome))
        self._feeds.changed.set()

    def _idle_s(self) -> float:
        now = time.monotonic()
        later = self._later[0][0] - now if self._later else IDLE_S
        return min(IDLE_S, max(0.0, later), self._pauses.wait_s(now))

    def _take_due(self) -> None:
        now, world = time.monotonic(), self._feeds.world
        with self._feeds.lock:
            while self._later and self._later[0][0] <= now:
                _, uid = heapq.heappop(self._later)
                self._put_off.discard(uid)
                world.due[uid] = None
            world.due |= dict.fromkeys(self._pauses.take_due(now))
            due, world.due = world.due, {}
            subjects = [(uid, world.namespace(uid)) for uid in due]
        for uid, namespace in subjects:
            rest = self._rests.get(uid, 0.0) - now
            if namespace is None:
                self._forget(uid)
            elif uid in self._writing:
                self._again.add(uid)
            elif rest > 0:
                self._put_off_for(uid, rest)
            else:
                self._turns.add(namespace, uid)

    def _judge_in_any_case(self, uid: str) -> None:
        try:
            self._judge(uid)
        except Exception:  # whatever it is, it is this placement's
            log.exception("can't judge the placement with uid %s", uid)
            self._metrics.reconciles.labels("error").inc()
            self._writing.discard(uid)
            self._put_off_for(uid, LAST_RETRY_S)

    def _judge(self, uid: str) -> None:
        now = datetime.now(UTC)
        with self._feeds.lock, self._metrics.seconds.time():
            began = time.monotonic()
            subject = self._feeds.world.subject(uid)
            status = None if subject is None else self._desired(subject, now)
            took = time.monotonic() - began
        self._rests[uid] = began + (1 + REST) * took
        if subject is None or status is None:
            self._forget(uid)
            return
        self._metrics.reconciles.labels("success").inc()
        self._reasons.put(uid, _ready_reason(status))
        self._rollouts.put(uid, status.rollout.state if status.rollout else "")
        if status == subject.status:
            return
        wait = self._wait_s(subject, status)
        if wait > 0:
            self._put_off_for(uid, wait)
            return
        events = [make_event(subject, what, now) for what in transitions(subject.status, status)]
        self._writing.add(uid)
        self._pauses.writing(uid, status.rollout)
        self._put(Write(subject, status, events))

    def _desired(self, subject: Subject, now: datetime) -> PlacementStatus:
        if not isinstance(subject, Placement):
            return unreadable(
                subject.status, subject.problem, generation=subject.generation, now=now
            )
        world = self._feeds.world
        if not world.knows_nodes_of(subject):
            return subject.status
        known, clock = self._pauses.known(subject), time.monotonic()
        quiet_s = self._pauses.quiet_s(known, clock)
        status = reconcile(known, world, now, quiet_s=quiet_s)
        self._pauses.judged(known, status.rollout, clock)
        return status

    def _put_off_for(self, uid: str, seconds: float) -> None:
        if uid not in self._put_off:
            self._put_off.add(uid)
            heapq.heappush(self._later, (time.monotonic() + seconds, uid))

    def _wait_s(self, subject: Subject, status: PlacementStatus) -> float:
        since = time.monotonic() - self._written.get(subject.uid, float("-inf"))
        if subject.uid in self._failed:
            return _backoff_s(self._failed[subject.uid]) - since
        if _gist(subject.status) != _gist(status):
            return 0.0
        return QUIET_S - since

    def _take_ended(self) -> None:
        with self._done_lock:
            ended, self._ended = self._ended, []
        for write, outcome in ended:
            self._take_outcome(write, outcome)

    def _take_outcome(self, write: Write, outcome: Outcome) -> None:
        uid, name = write.subject.uid, title_of(write.subject.namespace, write.subject.name)
        self._writing.discard(uid)
        self._written[uid] = time.monotonic()
        if not outcome.error or outcome.is_ours:
            self._pauses.wrote(uid)
        if outcome.version:
            self._failed.pop(uid, None)
            self._metrics.writes.labels("success").inc()
            for event in write.events:
                log.info("%s: %s: %s", name, event["reason"], event["note"])
        elif outcome.error:
            self._metrics.writes.labels("error").inc()
            if outcome.is_ours:
                failures = self._failed[uid] = self._failed.get(uid, 0) + 1
                level = logging.ERROR if failures == 1 else logging.DEBUG
                log.log(level, "can't write status of %s: %s", name, outcome.error)
        with self._feeds.lock:
            world = self._feeds.world
            if outcome.version:
                world.wrote(uid, write.status, outcome.version)
            if outcome.error or uid in self._again:
                world.due[uid] = None
        self._again.discard(uid)

    def _forget(self, uid: str) -> None:
        self._written.pop(uid, None)
        self._failed.pop(uid, None)
        self._rests.pop(uid, None)
        self._again.discard(uid)
        self._pauses.forget(uid)
        self._reasons.put(uid, "")
        self._rollouts.put(uid, "")

    def _show(self) -> None:
        self._metrics.last_success.set_to_current_time()
        for reason, count in self._reasons.counts.items():
            self._metrics.placements.labels(reason).set(count)
        for state in RolloutState:
            self._metrics.rollouts.labels(state).set(self._rollouts.counts[state])


def _backoff_s(failures: int) -> float:
    return min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(failures, 10))


def _ready_reason(status: PlacementStatus) -> str:
    ready = find_condition(status.conditions, ConditionType.READY)
    return ready.reason if ready else "Unknown"


def _gist(status: PlacementStatus) -> PlacementStatus:
    """Return a status without what changes with each measurement."""
    conditions = tuple(msgspec.structs.replace(c, message="") for c in status.conditions)
    pods = tuple(msgspec.structs.replace(pod, message="", tiers=()) for pod in status.pods)
    return msgspec.structs.replace(status, conditions=conditions, rules=(), summary="", pods=pods)
