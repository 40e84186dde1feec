# SPDX-License-Identifier: Apache-2.0
"""Threads that set defaults while somebody else goes on: nobody waits for their calls.

A call waits for as long as its process holds its own address space. Who asked for it finds out
by reading the process. A thread that does not come back is not replaced: with all of them gone
new containers are left to the looks of the worker.
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
        for number in range(size):
            name = f"births-{number + 1}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    @property
    def lost(self) -> int:
        """Calls that do not come back."""
        now = self._clock()
        calls = tuple(self._calls)
        return sum(each.ended is None and now - each.began > _SLOW_S for each in calls)

    def close(self) -> None:
        """End the threads, each when its call has come back."""
        for _ in range(self._size):
            self._queue.put(None)

    def submit(self, pidfd: PidFd, group: str, steps: Sequence[SetFuture]) -> Call | None:
        """Have a call made; None if no thread is free for this namespace.

        Args:
            pidfd: The process; stays the caller's.
            group: The namespace.
            steps: What to set.
        """
        now = self._clock()
        self._calls = [each for each in self._calls if each.ended is None]
        is_slow = any(each.group == group and now - each.began > _SLOW_S for each in self._calls)
        if is_slow or len(self._calls) >= self._size:
            return None
        call = Call(PidFd(os.dup(pidfd)), group, steps, now)
        self._calls.append(call)
        self._queue.put(call)
        return call

    def _work(self) -> None:
        hurry()
        while (call := self._queue.get()) is not None:
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
