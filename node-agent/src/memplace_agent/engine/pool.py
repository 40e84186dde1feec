# SPDX-License-Identifier: Apache-2.0
"""A few threads for calls that may never come back.

Whatever reads or changes another process can wait for that process's address space for ever,
and no signal ends the wait. So such calls are made by threads that can be given up: the
caller gets its answer or `Stuck` at the deadline, the thread is replaced, and what the call
returns some day is thrown away.

Every lost thread is replaced, so what some groups lose is no loss to the others. That is bounded
by the groups: each loses two, or three. A thread that waits costs 16 KiB of the agent's memory, as
measured with 220 of them, and 16 KiB of stack in the kernel. Where none can be started (the pod
may have no more processes, or there is no memory) the pool goes on with those that it has and
tries again with each call; with none it says so.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from memplace.errors import MemplaceError
from memplace.reasons import Reason

from memplace_agent.engine.quarantine import Quarantine

log = logging.getLogger(__name__)

T = TypeVar("T")


class Stuck(MemplaceError, TimeoutError):  # noqa: N818  says what happened
    """A process did not let a call finish in time, or did not lately."""

    reason = Reason.STUCK
    HELP = (
        "The process waits while it holds its address space, for dead network storage perhaps: "
        "see its stack in /proc/PID/stack. It is tried again by itself."
    )


class PoolBusy(MemplaceError, TimeoutError):  # noqa: N818  says what happened
    """No thread was free before the deadline; says nothing about the process."""

    reason = Reason.TRY_AGAIN
    HELP = "Nothing to do: it is tried again."


class NoThreads(PoolBusy):
    """All threads are lost and none can be started; says nothing about the process."""

    reason = Reason.FAILED
    HELP = (
        "The agent can do nothing on this node. Give its pod more processes (podPidsLimit of the "
        "kubelet) or memory, or end what its threads wait for."
    )


class Turn:
    """What a call gets: a descriptor of its own, and whether anybody waits for it still.

    Attributes:
        pidfd: A duplicate of the caller's, closed when the call returns; -1 when none was
            given. The caller closes its own when the deadline passes, and the number may then
            be another process's: a call must use no descriptor but this one.
    """

    def __init__(self, pidfd: int) -> None:
        self.pidfd = pidfd
        self.is_given_up = False

    def check(self) -> None:
        """Raise Stuck when the call was given up; ask before each step that changes something."""
        if self.is_given_up:
            raise Stuck("the call was given up")


@dataclass(slots=True, eq=False)
class _Task:
    call: Callable[[Turn], Any]
    turn: Turn
    target: Hashable
    group: str
    started_at: float | None = None
    is_done: bool = False
    counts: bool = True
    result: Any = None
    error: BaseException | None = None


class Pool:
    """Threads that make calls with a deadline; see the module.

    Args:
        size: Threads that work.
        quarantine: Who may be called at all; bounds how many threads a group loses.
        clock: Seconds, only forward.

    Example:
        >>> pool = Pool()
        >>> vmas = pool.run(
        ...     lambda turn: read_vmas(turn.pidfd),
        ...     target=identity, group=pod.namespace, deadline_s=2.0, pidfd=pidfd,
        ... )
    """

    def __init__(
        self,
        *,
        size: int = 4,
        quarantine: Quarantine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._quarantine = quarantine or Quarantine()
        self._tasks: deque[_Task] = deque()
        # One lock, and nobody is woken for what another waits for: threads wait for tasks,
        # callers for answers. A look wakes two of them; all of them cost more than it did.
        self._lock = threading.Lock()
        self._asked = threading.Condition(self._lock)
        self._answered = threading.Condition(self._lock)
        self._size = size
        self._working = 0
        self._made = 0
        self._spent_s = 0.0
        self._why_no_more = ""
        with self._lock:
            self._fill()

    @property
    def lost(self) -> int:
        """Threads in calls that were given up and have not returned."""
        with self._lock:
            return self._quarantine.lost

    @property
    def problem(self) -> str:
        """Why no call can be made on any process, for people; empty while one can."""
        with self._lock:
            self._fill()
            if self._working:
                return ""
            return f"{self._quarantine.lost} threads are lost, and {self._why_no_more}"

    @property
    def spent_s(self) -> float:
        """Processor time, in seconds, of all calls so far that count."""
        with self._lock:
            return self._spent_s

    def run(
        self,
        call: Callable[[Turn], T],
        *,
        target: Hashable,
        group: str,
        deadline_s: float,
        pidfd: int = -1,
        counts: bool = True,
    ) -> T:
        """Make a call and return what it returns, or raise what it raises.

        Args:
            call: Must own what it works with; it may go on after this has raised Stuck.
            target: The process, as something that is never used again (its pidfd's inode).
            group: The namespace, whose share of lost threads it counts against.
            deadline_s: Seconds for a thread to be free, and again for the call itself.
            pidfd: The call gets a duplicate of it.
            counts: Whether the time it takes adds to `spent_s`.

        Raises:
            Stuck: It missed the deadline; or it, or too many of its group, did before.
            PoolBusy: No thread was free.
            NoThreads: There is none.
        """
        with self._lock:
            refusal = self._quarantine.refusal(target, group, self._clock())
            if refusal:
                raise Stuck(refusal)
            self._fill()
            if not self._working:
                raise NoThreads(self._why_no_more)
            task = _Task(call, Turn(os.dup(pidfd) if pidfd >= 0 else -1), target, group)
            task.counts = counts
            self._tasks.append(task)
            self._asked.notify()
            self._wait(task, deadline_s)
            if not task.is_done:
                self._give_up(task)
            self._quarantine.succeeded(target)
        if task.error is not None:
            raise task.error
        return cast(T, task.result)

    def keep(self, targets: set[Hashable]) -> None:
        """Forget all targets but these: those that ended."""
        with self._lock:
            self._quarantine.keep(targets)

    def _wait(self, task: _Task, deadline_s: float) -> None:
        asked_at = self._clock()
        while not task.is_done:
            since = asked_at if task.started_at is None else task.started_at
            left = since + deadline_s - self._clock()
            if left <= 0:
                return
            self._answered.wait(left)

    def _give_up(self, task: _Task) -> None:
        task.turn.is_given_up = True
        if task.started_at is None:
            self._tasks.remove(task)
            _close(task.turn)
            raise PoolBusy("all threads are busy")
        self._quarantine.missed(task.target, task.group, self._clock())
        self._working -= 1
        self._fill()
        raise Stuck("a call on it did not return in time")

    def _fill(self) -> None:
        while self._working < self._size:
            name = f"pool-{self._made + 1}"
            try:
                threading.Thread(target=self._work, name=name, daemon=True).start()
            except (RuntimeError, MemoryError) as err:  # the limit of processes, or no memory
                if not self._why_no_more:
                    log.warning("no thread can be started", extra={"error": str(err)})
                self._why_no_more = f"no thread can be started: {err}"
                return
            self._why_no_more = ""
            self._working += 1
            self._made += 1

    def _work(self) -> None:
        # What a call was given and what it returned ends with its round: an idle thread that
        # kept it would keep all mappings of a process.
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        # Returns whether this thread is to go on.
        with self._lock:
            while not self._tasks:
                self._asked.wait()
            task = self._tasks.popleft()
            # Whoever waits for it learns that at what was the deadline.
            task.started_at = self._clock()
        begin = time.thread_time()
        result, error = _carry_out(task)
        spent = time.thread_time() - begin
        with self._lock:
            self._spent_s += spent * task.counts
            if not task.turn.is_given_up:
                task.result, task.error, task.is_done = result, error, True
                self._answered.notify_all()
                return True
            self._quarantine.returned(task.target, task.group)
            if self._working >= self._size:
                return False  # another does its work by now
            self._working += 1
            return True


def _carry_out(task: _Task) -> tuple[Any, BaseException | None]:
    try:
        return task.call(task.turn), None
    except BaseException as err:
        # Also what is no Exception: the caller is to see it, and the thread to live.
        return None, err
    finally:
        _close(task.turn)


def _close(turn: Turn) -> None:
    if turn.pidfd >= 0:
        os.close(turn.pidfd)
        turn.pidfd = -1
