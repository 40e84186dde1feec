# SPDX-License-Identifier: Apache-2.0
"""Move pages from a queue, in a thread of its own: paced, fair, and stopped at any time.

    mover = Mover(backend, look, Senses(host), Pacer(Limits(), clock()))
    threading.Thread(target=mover.run, args=(stop,), name="mover", daemon=True).start()
    mover.submit(identity, orders)     # after the policies are set; replaces older ones
    orders[0].cancel.set()             # the placement is gone; or orders[0].is_wanted() tells it
    mover.progress()                   # for the report

What is left after a call is measured. So a page that does not move (it is pinned, or
mapped by others) is found out by a probe of 2 MiB, put off for 30 s to one hour, and
neither hammered nor in the way of the rest.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial

from memplace.errors import ProcessGone
from memplace.pacing import Grant, Pacer, Request, Wait, WaitReason
from memplace.reasons import Reason
from memplace.setbacks import Setbacks, next_delay

from memplace_agent.backends.protocol import Backend
from memplace_agent.engine.answers import Answer, answer_of
from memplace_agent.engine.batch import Batch, carry_out
from memplace_agent.engine.orders import (
    Guard,
    Job,
    JobKey,
    Look,
    MoveOrder,
    Part,
    Progress,
    progress_of,
    unguarded,
)
from memplace_agent.engine.turns import Turns
from memplace_agent.engine.waiting import MOST, leave_out, share
from memplace_agent.node.senses import SensesLike
from memplace_agent.syscalls import PidFd

log = logging.getLogger(__name__)

# Between two looks at the queue when nothing is due.
_IDLE_S = 1.0

# A process that is busy is so for the time of a fork and exec.
_BUSY_FIRST_S, _BUSY_LAST_S = 0.2, 30.0

# After so many probes that moved nothing, in different places, all of it is put off.
_PROBES = 3

_TOGETHER_S = 10.0

# Bytes that are tried for the second time in vain are stuck; the first time they can have
# been at work.
_STUCK_AFTER = 2

# A look costs something, too: who asks for many is not served more often for it.
_LEAST_CHARGE = 256 << 10

# Before the next batch that only kswapd can make room for.
_TRICKLE_S = 0.1


@dataclass(slots=True)
class _Process:
    # What is remembered of a process beyond its orders.
    until: float = 0.0
    delay: float = 0.0
    setbacks: Setbacks[JobKey] = field(default_factory=Setbacks)
    begins: dict[JobKey, int] = field(default_factory=dict)


class Mover:
    """The queue and the thread that works on it.

    `submit`, `progress` and `wake` may be called from any thread, all else from its own.
    """

    def __init__(
        self,
        backend: Backend,
        look: Look,
        senses: SensesLike,
        pacer: Pacer,
        *,
        clock: Callable[[], float] = time.monotonic,
        tick: Callable[[], None] = lambda: None,
        guard: Guard = unguarded,
        moved: Callable[[MoveOrder, int], None] = lambda _order, _size: None,
        finished: Callable[[MoveOrder], None] = lambda _order: None,
        most: int = MOST,
    ) -> None:
        """Make one; `run` starts it.

        Args:
            backend: Carries out the moves.
            look: Measures what is left.
            senses: Reads pressure and room.
            pacer: Decides how much and when.
            clock: Seconds; never runs backwards.
            tick: Called at each turn, for a watchdog.
            guard: Makes a batch's calls so that they may be given up.
            moved: Told of bytes that arrived.
            finished: Told of orders with nothing left to move here: more may come with a plan.
            most: How many ranges may wait; see `waiting`.
        """
        self._backend = backend
        self._look = look
        self._senses = senses
        self._pacer = pacer
        self._clock = clock
        self._tick = tick
        self._guard = guard
        self._moved = moved
        self._finished = finished
        self._most = most
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._jobs: dict[int, dict[JobKey, Job]] = {}
        self._done: dict[tuple[str, str], int] = {}
        self._processes: dict[int, _Process] = {}
        self._turns = Turns()

    def submit(self, identity: int, orders: Iterable[MoveOrder]) -> None:
        """Take what is to be moved in a process now, instead of what was before.

        Ranges that were tried in vain stay put off; whatever else there is counts anew. Of more
        than may wait, some are left to the next plan.
        """
        new = {order.key: Job.of(order) for order in orders}
        with self._lock:
            for key, old in self._jobs.pop(identity, {}).items():
                old.dropped = True
                if key in new:
                    new[key].proven, new[key].fails = old.proven, old.fails
                    new[key].wait, new[key].error = old.wait, old.error
            if new:
                self._jobs[identity] = new
                self._processes.setdefault(identity, _Process())
                leave_out(self._all(), self._begins, self._most)
            self._settle_tallies()
        self._wake.set()

    def forget(self, identity: int) -> None:
        """Forget a process that ended, and what failed in it."""
        with self._lock:
            for job in self._jobs.pop(identity, {}).values():
                job.dropped = True
            self._processes.pop(identity, None)
            self._settle_tallies()

    def keep(self, identities: Collection[int]) -> None:
        """Forget what failed in all processes but these, and those with orders.

        A batch that is under way when its process is forgotten makes it known again.
        """
        with self._lock:
            for identity in self._processes.keys() - self._jobs.keys() - set(identities):
                del self._processes[identity]

    def wake(self) -> None:
        """Have a look at once: something was cancelled, or the agent ends."""
        self._wake.set()

    def progress(self) -> tuple[Progress, ...]:
        """Say for each container and rule with something left how far it is."""
        with self._lock:
            groups: dict[tuple[str, str], list[Job]] = {}
            for job in self._all():
                if not job.order.cancel.is_set():
                    groups.setdefault((job.order.container, job.order.rule), []).append(job)
            return tuple(
                progress_of(jobs, self._done.get(key, 0), sum(map(self._stuck, jobs)))
                for key, jobs in sorted(groups.items())
            )

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; no error ends it."""
        while not stop.is_set():
            try:
                delay = self.step()
                self._tick()
            except Exception:
                log.exception("the mover failed; it goes on")
                delay = _IDLE_S
            if delay > 0:
                self._wake.wait(min(delay, _IDLE_S))
                self._wake.clear()

    def step(self) -> float:
        """Make one call, if one is due.

        Returns:
            Seconds until it is worth to come again: 0 after a call.
        """
        now = self._clock()
        due, next_time = self._due(now)
        self._pacer.prune(now)
        if not due:
            return max(0.0, next_time - now)
        node = self._senses.node(now)
        for job in due:
            if not job.order.is_wanted():
                continue  # whoever ordered it will cancel it, or find that nothing has changed
            request = self._request(job, now)
            answer = self._pacer.ask(request, node, now)
            if isinstance(answer, Grant):
                self._turn(job, request, answer, now)
                return 0.0
            job.wait = answer
            if answer.reason is WaitReason.BANDWIDTH:
                return max(0.0, answer.until - now)
            job.not_before = answer.until
            next_time = min(next_time, answer.until)
        return max(0.0, next_time - now)

    # --- the queue ---

    def _due(self, now: float) -> tuple[list[Job], float]:
        # Whose turn it is first, and when the next of the others is.
        with self._lock:
            self._drop_unwanted()
            later = now + _IDLE_S
            due = []
            for job in self._all():
                start = max(job.not_before, self._of(job).until)
                if start <= now:
                    due.append(job)
                else:
                    later = min(later, start)
        return self._turns.order(due), later

    def _drop_unwanted(self) -> None:
        for identity, jobs in list(self._jobs.items()):
            for key, job in list(jobs.items()):
                if job.order.cancel.is_set() or not job.parts:
                    job.dropped = True
                    del jobs[key]
            if not jobs:
                del self._jobs[identity]
        self._settle_tallies()

    def _settle_tallies(self) -> None:
        queued = {(job.order.container, job.order.rule) for job in self._all()}
        self._done = {key: done for key, done in self._done.items() if key in queued}

    def _begins(self, job: Job) -> dict[JobKey, int]:
        return self._of(job).begins

    def _of(self, job: Job) -> _Process:
        return self._processes.setdefault(job.order.identity, _Process())

    def _all(self) -> list[Job]:
        return [job for jobs in self._jobs.values() for job in jobs.values()]

    def _stuck(self, job: Job) -> int:
        known = self._of(job).setbacks.of(job.order.key)
        return min(job.left, sum(old.bytes for old in known if old.tries >= _STUCK_AFTER))

    # --- one turn ---

    def _request(self, job: Job, now: float) -> Request:
        order = job.order
        return Request(
            placement=order.placement,
            container=order.container,
            mode=order.policy.mode,
            nodes=order.nodes,
            page_size=order.page_size,
            limit=order.limit,
            pressure=self._senses.pressure(order.cgroup, now) if order.cgroup else None,
            probing=not job.proven,
        )

    def _turn(self, job: Job, request: Request, grant: Grant, now: float) -> None:
        job.wait = None
        self._turns.charge(job, _LEAST_CHARGE)
        longest, setbacks = self._backend.longest, self._of(job).setbacks
        with self._lock:
            parts = job.take(grant.bytes, setbacks, now, longest=longest)
            if not parts:
                self._rest(job, now)
                return
        batch = Batch(job, parts, grant.bytes)
        try:
            with job.order.pin() as pidfd:
                self._guard(job.order, pidfd, partial(self._carry_out, batch))
        except ProcessGone:
            self.forget(job.order.identity)
            return
        except Exception as error:  # a look or a file failed: it is about this process
            # A call that was given up may still be at work on the batch.
            batch = Batch(job, [], grant.bytes)
            batch.error, batch.untried = error, [Part(p.start, p.end, p.bytes) for p in parts]
        self._book(job, batch, request, grant)

    def _carry_out(self, batch: Batch, pidfd: PidFd, check: Callable[[], None]) -> None:
        carry_out(batch, self._backend, self._look, pidfd, check)

    def _book(self, job: Job, batch: Batch, request: Request, grant: Grant) -> None:
        now = self._clock()
        if batch.cost:
            self._pacer.spend(request, batch.cost, now, trickle=grant.trickle)
            self._turns.charge(job, batch.cost)
        order = job.order
        if batch.moved:
            self._moved(order, batch.moved)
        room = batch.stayed and self._pacer.room(request, self._senses.node(now, fresh=True))
        with self._lock:
            tally = (order.container, order.rule)
            self._done[tally] = self._done.get(tally, 0) + batch.moved
            for part in batch.emptied:
                self._of(job).setbacks.clear(order.key, part.start, part.end)
            job.put_back(batch.untried)
            if batch.moved:
                job.proven, job.fails = True, 0
            if room:
                self._stayed(job, batch, room, now)
            if batch.error is not None:
                self._failed(job, batch, batch.error, now)
            elif batch.cost:
                job.error = ""
                self._of(job).delay = 0.0
            is_finished = not job.parts and not job.dropped
        if is_finished:
            self._finished(order)

    def _stayed(self, job: Job, batch: Batch, room: Grant, now: float) -> None:
        # What stays for want of room is no failure of its region. Without room the next
        # answer of the pacer is a wait; with a trickle kswapd needs a moment.
        job.put_back(batch.stayed, last=True)
        if not room.bytes or (room.trickle and batch.moved):
            job.not_before = now + _TRICKLE_S
            return
        for part in batch.stayed:
            self._set_back(job, part, "Stayed", now)
        if not batch.moved:
            self._probe_failed(job, now)

    def _probe_failed(self, job: Job, now: float) -> None:
        job.proven, job.fails = False, job.fails + 1
        if job.fails < _PROBES:
            job.look_elsewhere()
            return
        job.fails = 0
        # And with it what would be due at once: what fails together is tried together.
        setbacks, soon = self._of(job).setbacks, now + _TOGETHER_S
        for part in job.parts:
            for start, end in setbacks.open_parts(job.order.key, part.start, part.end, soon):
                share = part.bytes * (end - start) // (part.end - part.start)
                self._set_back(job, Part(start, end, share), "ProbesFailed", now)

    def _failed(self, job: Job, batch: Batch, error: Exception, now: float) -> None:
        answer = answer_of(error)
        if answer is Answer.CHANGED:
            return  # the part is dropped; the next plan sees what is there then
        if answer is Answer.FAILED:
            job.error = str(error)
            job.put_back(batch.failed, last=True)
            for part in batch.failed:
                self._set_back(job, part, Reason.FAILED, now)
            return
        job.put_back(batch.failed)
        process = self._of(job)
        if answer is Answer.BUSY:
            process.delay = next_delay(process.delay, _BUSY_FIRST_S, _BUSY_LAST_S)
        else:
            job.error = str(error)
            process.delay = next_delay(process.delay)
        process.until = now + process.delay
        log.debug("moves of a process pause for %g s: %s", process.delay, error)

    def _set_back(self, job: Job, part: Part, why: str, now: float) -> None:
        setbacks, most = self._of(job).setbacks, share(len(self._processes), self._most)
        setbacks.add(
            job.order.key, part.start, part.end, why=why, now=now, left=part.bytes, most=most
        )

    def _rest(self, job: Job, now: float) -> None:
        # All that is left is put off.
        key, setbacks = job.order.key, self._of(job).setbacks
        times = (setbacks.next_time(key, part.start, part.end, now) for part in job.parts)
        job.not_before = max(now + _TRICKLE_S, min(times, default=now))
        job.wait = Wait(job.not_before, WaitReason.BACKOFF, "what is left did not move so far")
