# SPDX-License-Identifier: Apache-2.0
"""A few threads for calls that may never come back.

Whatever reads or changes another process can wait for that process's address space for ever,
and no signal ends the wait. So such calls are made by threads that can be given up: the
caller gets its answer or `Stuck` at the deadline, the thread is replaced, and what the call
returns some day is thrown away.
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
    started_at: float | None = None
    is_done: bool = False
    counts: bool = True
    result: Any = None
    error: BaseException | None = None


class Pool:
    """Threads that make calls with a deadline; see the module.

    Args:
        size: Threads that work.
        quarantine: Who may be called at all; bounds how many threads are lost.
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
        self._changed = threading.Condition()
        self._size = size
        self._working = 0
        self._made = 0
        self._spent_s = 0.0
        for _ in range(size):
            self._start()

    @property
    def lost(self) -> int:
        """Threads in calls that were given up and have not returned."""
        with self._changed:
            return self._quarantine.lost

    @property
    def is_alive(self) -> bool:
        """Whether a thread is left that can make calls."""
        with self._changed:
            return self._working > 0

    @property
    def spent_s(self) -> float:
        """Processor time, in seconds, of all calls so far that count."""
        with self._changed:
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
        """
        with self._changed:
            refusal = self._quarantine.refusal(target, group, self._clock())
            if refusal:
                raise Stuck(refusal)
            task = _Task(call, Turn(os.dup(pidfd) if pidfd >= 0 else -1), target)
            task.counts = counts
            self._tasks.append(task)
            self._changed.notify_all()
            self._wait(task, deadline_s)
            if not task.is_done:
                self._give_up(task, group)
            self._quarantine.succeeded(target)
        if task.error is not None:
            raise task.error
        return cast(T, task.result)

    def keep(self, targets: set[Hashable]) -> None:
        """Forget all targets but these: those that ended."""
        with self._changed:
            self._quarantine.keep(targets)

    def _wait(self, task: _Task, deadline_s: float) -> None:
        asked_at = self._clock()
        while not task.is_done:
            since = asked_at if task.started_at is None else task.started_at
            left = since + deadline_s - self._clock()
            if left <= 0:
                return
            self._changed.wait(left)

    def _give_up(self, task: _Task, group: str) -> None:
        task.turn.is_given_up = True
        if task.started_at is None:
            self._tasks.remove(task)
            _close(task.turn)
            raise PoolBusy("all threads are busy")
        self._quarantine.missed(task.target, group, self._clock())
        self._working -= 1
        if self._quarantine.may_replace:
            self._start()
        else:
            log.warning("a thread is lost and not replaced", extra={"lost": self._quarantine.lost})
        raise Stuck("a call on it did not return in time")

    def _start(self) -> None:
        self._working += 1
        self._made += 1
        name = f"pool-{self._made}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        # What a call was given and what it returned ends with its round: an idle thread that
        # kept it would keep all mappings of a process.
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        # Returns whether this thread is to go on.
        with self._changed:
            while not self._tasks:
                self._changed.wait()
            task = self._tasks.popleft()
            task.started_at = self._clock()
            self._changed.notify_all()
        begin = time.thread_time()
        result, error = _carry_out(task)
        spent = time.thread_time() - begin
        with self._changed:
            self._spent_s += spent * task.counts
            if not task.turn.is_given_up:
                task.result, task.error, task.is_done = result, error, True
                self._changed.notify_all()
                return True
            self._quarantine.returned(task.target)
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
