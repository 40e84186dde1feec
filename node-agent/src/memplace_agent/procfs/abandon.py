# SPDX-License-Identifier: Apache-2.0
"""Threads for reads that may never return, and can be given up.

A read of /proc/PID/maps waits for the target's mmap_lock. Who holds it may hang itself: a page
fault on a file of a network that is gone. The kernel lets such a read end by SIGKILL alone, so
nothing in this process can end it; it can only stop waiting for it.

What stays behind then, until the lock is free or the target has ended: one thread, what it
has open (the file, a pidfd) and what it has read so far. It does nothing else: work that runs
here gives its result back by returning it, and the result of abandoned work is dropped. The
thread is used again if it comes back. There are no more threads than a pool is made for, so
whoever hangs many of them gets the error at once, and keeps nobody's memory growing.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from memplace_agent.errors import DeadlinePassed

__all__ = ["Pool"]

T = TypeVar("T")


class _Job(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.done = threading.Event()
        self.abandoned = False
        self.result: T | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as err:  # goes to whoever waits
            self.error = err


class Pool:
    """Threads that do one thing at a time each; safe to use from several threads.

    Attributes:
        most: How many threads there are at most, abandoned ones included.
    """

    def __init__(self, most: int = 16) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Job[Any]]] = []
        self._threads = 0
        self._abandoned = 0

    @property
    def abandoned(self) -> int:
        """How many threads hang in work that nobody waits for any more."""
        return self._abandoned

    def run(self, work: Callable[[], T], deadline: float) -> T:
        """Do some work in another thread, and wait for it until the deadline.

        Args:
            work: Does not touch what others use: it may come back at any time later, or never.
            deadline: As of `time.monotonic`.

        Returns:
            What the work returned; what it raised is raised.

        Raises:
            DeadlinePassed: It did not return in time, or all threads hang (EAGAIN).
        """
        job = _Job(work)
        self._free_thread().put(job)
        left = max(0.0, deadline - time.monotonic())
        job.done.wait(min(left, threading.TIMEOUT_MAX))
        with self._lock:
            if not job.done.is_set():
                job.abandoned = True
                self._abandoned += 1
        if job.abandoned:
            raise DeadlinePassed(errno.ETIMEDOUT, "the kernel did not answer in time")
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # set if there is no error

    def _free_thread(self) -> SimpleQueue[_Job[Any]]:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if self._threads >= self.most:
                raise DeadlinePassed(errno.EAGAIN, f"all {self.most} readers wait for the kernel")
            self._threads += 1
        jobs: SimpleQueue[_Job[Any]] = SimpleQueue()
        # A daemon: the agent ends without those that hang.
        thread = threading.Thread(target=self._serve, args=(jobs,), name="reader", daemon=True)
        try:
            thread.start()
        except RuntimeError as err:  # pids.max
            with self._lock:
                self._threads -= 1
            raise DeadlinePassed(errno.EAGAIN, "there is no thread to read with") from err
        return jobs

    def _serve(self, jobs: SimpleQueue[_Job[Any]]) -> None:
        while True:
            job = jobs.get()
            job.run()
            with self._lock:
                self._abandoned -= job.abandoned
                self._idle.append(jobs)
                job.done.set()
