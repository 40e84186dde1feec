# SPDX-License-Identifier: Apache-2.0
"""The agent's threads: each has to show that it goes on, and one that ends begins anew."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

# What a thread runs: until the event is set, calling the function as it goes on.
Run = Callable[[threading.Event, Callable[[], None]], object]

# A thread that ended by an error begins anew after a pause; one that does so again and again,
# without having gone well for as long as it may be silent, is for the kubelet to restart.
_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)


_HURRIED = -20


def hurry() -> None:
    """Put this thread, and no other, before all that is not in a hurry on this machine.

    For what has a few milliseconds and needs a part of one. Without CAP_SYS_NICE it does nothing.

    Source: setpriority(2), "C library/kernel differences": Linux has a nice value per thread.
    """
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _HURRIED)


class Pulse:
    """When a thread last showed that it goes on, and since when all that it does fails."""

    def __init__(self, name: str, limit_s: float) -> None:
        """Begin with a tick; after `limit_s` seconds without one the thread counts as hanging."""
        self.name = name
        self.limit_s = limit_s
        self._ticked = time.monotonic()
        self._failed_at: float | None = None

    def tick(self) -> None:
        """Say that work goes on."""
        self._ticked = time.monotonic()

    def failed(self) -> None:
        """Say that a round of work ended by an error: until one goes well, ticks do not count."""
        if self._failed_at is None:
            self._failed_at = time.monotonic()

    def went_well(self) -> None:
        """Say that a round of work is done; a tick, too."""
        self._failed_at = None
        self.tick()

    @property
    def problem(self) -> str:
        """Why it counts as hanging, for people; empty if it does not."""
        now, failed_at = time.monotonic(), self._failed_at
        if failed_at is not None and now - failed_at >= self.limit_s:
            return f"all that it tries has failed for {now - failed_at:.0f} s: see the log"
        if now - self._ticked >= self.limit_s:
            return f"no sign of life for {now - self._ticked:.0f} s"
        return ""


class _Thread:
    """One thread, its pulse, and how often in a row it ended by an error."""

    def __init__(self, pulse: Pulse, run: Run, stop: threading.Event) -> None:
        self.pulse = pulse
        self.crashes = 0
        self._run = run
        self._stop = stop
        self.thread = threading.Thread(target=self._loop, name=pulse.name, daemon=True)

    @property
    def is_lost(self) -> bool:
        return self.crashes >= len(_PAUSES_S)

    def _loop(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._run(self._stop, self.pulse.tick)
            except Exception:
                log.exception("thread ended, begins anew", extra={"loop": self.pulse.name})
            if time.monotonic() - started > self.pulse.limit_s:
                self.crashes = 0
            self._stop.wait(_PAUSES_S[min(self.crashes, len(_PAUSES_S) - 1)])
            self.crashes += 1


class Threads:
    """All of them; `stop` ends them."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._threads: list[_Thread] = []

    def start(self, run: Run, pulse: Pulse) -> threading.Thread:
        """Start a thread that is asked for its pulse from now on."""
        pulse.tick()
        thread = _Thread(pulse, run, self.stop)
        self._threads.append(thread)
        thread.thread.start()
        return thread.thread

    @property
    def is_alive(self) -> bool:
        """Whether all of them go on."""
        return not self.problems()

    def problems(self) -> tuple[str, ...]:
        """Return which threads do not go on, as sentences for people; empty when all do."""
        if self.stop.is_set():
            return ()
        return tuple(filter(None, map(_problem, tuple(self._threads))))

    def join(self, timeout_s: float) -> None:
        """Wait for those that end by themselves, all together that long at most."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.thread.join(max(0.0, deadline - time.monotonic()))


def _problem(thread: _Thread) -> str:
    pulse = thread.pulse
    if thread.is_lost:
        return f"{pulse.name}: ended by an error {thread.crashes} times in a row"
    if not thread.thread.is_alive():
        return f"{pulse.name}: ended"
    return f"{pulse.name}: {pulse.problem}" if pulse.problem else ""
