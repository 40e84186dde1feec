# SPDX-License-Identifier: Apache-2.0
"""Threads that set defaults while somebody else goes on: nobody waits for their calls.

A call waits for as long as its process holds its own address space. Who asked for it finds out
by reading the process. A thread that does not come back is replaced when the next call needs one,
and its namespace gets no other: so what some namespaces lose is no loss to the others. Where no
thread can be started, new containers are left to the looks of the worker.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from memplace.errors import ProcessGone

from memplace_agent.engine.apply import PolicySetter, SetFuture
from memplace_agent.syscalls import PidFd
from memplace_agent.threads import hurry

log = logging.getLogger(__name__)

# A call of a process that is not in its own way takes microseconds.
_SLOW_S = 1.0


@dataclass(slots=True, eq=False)
class Call:
    """One call on its way.

    Attributes:
        pidfd: The process; the call's own, which it closes.
        group: The namespace; with a slow call on its way it gets no other thread.
        steps: What to set.
        began: When it was asked for.
        ended: When it was over; None before.
        is_set: It set everything.
        error: Why not, if that is no matter of time.
    """

    pidfd: PidFd
    group: str
    steps: Sequence[SetFuture]
    began: float
    ended: float | None = None
    is_set: bool = False
    error: Exception | None = None


class Callers:
    """See the module. `submit` is for one thread."""

    def __init__(
        self, setter: PolicySetter, size: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._setter, self._size, self._clock = setter, size, clock
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._calls: list[Call] = []
        self._lock = threading.Lock()
        self._threads = self._made = 0
        self._fill(lost=0)

    @property
    def lost(self) -> int:
        """Calls that do not come back."""
        return sum(self._is_slow(each) for each in tuple(self._calls))

    def close(self) -> None:
        """End the threads, each when its call has come back."""
        with self._lock:
            threads = self._threads
        for _ in range(threads):
            self._queue.put(None)

    def submit(self, pidfd: PidFd, group: str, steps: Sequence[SetFuture]) -> Call | None:
        """Have a call made; None if no thread is free for this namespace.

        Args:
            pidfd: The process; stays the caller's.
            group: The namespace.
            steps: What to set.
        """
        self._calls = [each for each in self._calls if each.ended is None]
        slow = [each for each in self._calls if self._is_slow(each)]
        self._fill(lost=len(slow))
        is_slow = any(each.group == group for each in slow)
        if is_slow or len(self._calls) >= self._threads:
            return None
        call = Call(PidFd(os.dup(pidfd)), group, steps, self._clock())
        self._calls.append(call)
        self._queue.put(call)
        return call

    def _is_slow(self, call: Call) -> bool:
        return call.ended is None and self._clock() - call.began > _SLOW_S

    def _fill(self, *, lost: int) -> None:
        with self._lock:
            while self._threads < self._size + lost:
                name = f"births-{self._made + 1}"
                try:
                    threading.Thread(target=self._work, name=name, daemon=True).start()
                except (RuntimeError, MemoryError) as err:  # the limit of processes, or no memory
                    log.debug("no thread can be started: %s", err)
                    return
                self._made += 1
                self._threads += 1

    def _work(self) -> None:
        hurry()
        while (call := self._queue.get()) is not None:
            self._make(call)
            with self._lock:
                # It was replaced, and has come back.
                if self._threads > self._size + self.lost:
                    self._threads -= 1
                    return

    def _make(self, call: Call) -> None:
        try:
            report = self._setter.set_future(call.pidfd, call.steps)
            call.is_set, call.error = report.complete, report.error
        except ProcessGone:
            pass
        except Exception as err:  # the thread is to live
            call.error = err
        finally:
            os.close(call.pidfd)
            call.ended = self._clock()
