# SPDX-License-Identifier: Apache-2.0
"""A default before the first page: containers get theirs while the runtime makes them.

A thread that does nothing else. It hears of a container's cgroup when that is made, and from
then on gives each process in it the default that the rules of its placement imply, which the
program keeps that it executes later. Which pods have which it is told by the reconciler, as a
table that nobody changes; as long as that is empty nothing is watched. What is not reached in
time is placed by the looks of the worker, as without this.

What can be told about a container by others, such as the runtime itself, comes in by `begin`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from memplace_agent.containers.events import Born, CgroupEvents
from memplace_agent.containers.index import Hierarchy, read_hierarchy
from memplace_agent.containers.pinning import Pinner
from memplace_agent.containers.place import find_place
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.apply import PolicySetter
from memplace_agent.engine.callers import Callers
from memplace_agent.engine.cradle import Cradle, Reached, Tools
from memplace_agent.engine.expected import NOTHING, Newborn, Table
from memplace_agent.hostfs import HostFs
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.metrics import Metrics
from memplace_agent.threads import hurry

__all__ = ["Births"]

log = logging.getLogger(__name__)

# Births at once; those that come while there are as many are left to the worker.
MAX_BIRTHS = 256

_IDLE_S = 1.0
_OPEN_AGAIN_S = 30.0
# So that a process that holds its address space delays no other container.
_THREADS = 4
# Python's threads take turns. At the default of 5 ms a busy worker would take half of the time
# there is before the first instruction.
_TURN_S = 0.0005


@dataclass(frozen=True, slots=True)
class _Told:
    table: Table
    store: LedgerStore | None


class Births:
    """See the module. `publish` and `wake` are for any thread, all else is for one.

    Args:
        host: Where /proc and the cgroups are.
        pinner: Pins processes.
        setter: Makes the calls.
        metrics: What is counted.
        begun: Called with the id and the cgroup of a container, before anything is done to it.
        born: Called with the id of a container that was reached.
        clock: Seconds, only forward.
    """

    def __init__(
        self,
        host: HostFs,
        pinner: Pinner,
        setter: PolicySetter,
        metrics: Metrics,
        begun: Callable[[str, CgroupRef], None] = lambda *_: None,
        born: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._pinner, self._setter = host, pinner, setter
        self._metrics, self._clock = metrics, clock
        self._begun, self._born = begun, born
        self._told = _Told(NOTHING, None)
        self._wake: int | None = None
        self._lock = threading.Lock()
        self._events: CgroupEvents | None = None
        self._open_at = float("-inf")
        self._cradles: dict[str, Cradle] = {}
        self._callers: Callers | None = None
        # Whose last call has not come back.
        self._leaving: list[tuple[Cradle, LedgerStore]] = []

    @property
    def lost(self) -> int:
        """Threads in calls that have not come back."""
        return self._callers.lost if self._callers else 0

    @property
    def is_watching(self) -> bool:
        """Whether cgroups are watched."""
        return self._events is not None and self._events.is_open

    @property
    def watches(self) -> int:
        """How many directories are watched."""
        return len(self._events) if self._events else 0

    def publish(self, table: Table, store: LedgerStore) -> None:
        """Say what is expected from now on, and where the claims are kept."""
        self._told = _Told(table, store)
        self.wake()

    def wake(self) -> None:
        """Have a look at once."""
        with self._lock:
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)

    def run(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        """Work until told to stop."""
        hurry()
        turn = sys.getswitchinterval()
        try:
            while not stop.is_set():
                tick()
                self.step(_IDLE_S)
                sys.setswitchinterval(_TURN_S if self.is_watching else turn)
        finally:
            sys.setswitchinterval(turn)
            self.close()

    def step(self, wait_s: float) -> None:
        """Wait for an event, at most that long, and do what is due then."""
        if self._wake is None:
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._watch()
        self._wait(wait_s)
        if self._events is not None and self._events.is_open:
            for born in self._events.read():
                self._hear(born)
        now = self._clock()
        for cradle in [each for each in self._cradles.values() if each.due_at <= now]:
            self._round(cradle)
        self._leave()

    def begin(self, born: Born, newborn: Newborn) -> None:
        """Reach a container that is being made, whoever told of it."""
        if len(self._cradles) >= MAX_BIRTHS:
            self._metrics.births.labels(Reached.MISSED).inc()
            return
        self._begun(born.container_id, born.ref)
        self._cradles.setdefault(born.container_id, Cradle(born, newborn, self._clock()))

    def close(self) -> None:
        """Watch nothing any more, and end the threads; `step` begins anew."""
        self._close()
        if self._callers is not None:
            self._callers.close()
        self._callers = None
        with self._lock:  # nobody writes to a number that is another file's by then
            if self._wake is not None:
                os.close(self._wake)
            self._wake = None

    # --- what is watched ---

    def _watch(self) -> None:
        is_wanted = bool(self._told.table)
        if is_wanted == self.is_watching or self._clock() < self._open_at:
            return
        if not is_wanted:
            self._close()
            return
        self._open_at = self._clock() + _OPEN_AGAIN_S
        if read_hierarchy(self._host.cgroup) is not Hierarchy.UNIFIED:
            return
        if self._events is None:
            self._events = CgroupEvents(self._host.cgroup, find_place(self._host))
        try:
            self._events.open()
        except OSError as err:
            self._events.close()
            log.warning("new containers are found late only", extra={"error": str(err)})
            return
        self._callers = self._callers or Callers(self._setter, _THREADS, self._clock)
        self._open_at = float("-inf")

    def _close(self) -> None:
        if self._events is not None:
            self._events.close()

    def _wait(self, wait_s: float) -> None:
        due_at = min((each.due_at for each in self._cradles.values()), default=None)
        if due_at is not None:
            # A poll knows whole milliseconds only.
            time.sleep(min(wait_s, max(0.0, due_at - self._clock())))
            wait_s = 0.0
        assert self._wake is not None
        waiter = select.poll()
        waiter.register(self._wake, select.POLLIN)
        if self._events is not None and self._events.is_open:
            waiter.register(self._events.fileno(), select.POLLIN)
        waiter.poll(wait_s * 1000)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    # --- who is born ---

    def _hear(self, born: Born) -> None:
        expected = self._told.table.get(born.ref.pod_uid)
        newborn = expected.of(None) if expected else None
        if newborn is not None:
            self.begin(born, newborn)

    def _is_still(self, born: Born, newborn: Newborn) -> bool:
        expected = self._told.table.get(born.ref.pod_uid)
        now = expected.containers.values() if expected else ()
        return any(each is newborn or (each and each.means(newborn)) for each in now)

    def _round(self, cradle: Cradle) -> None:
        container_id, store = cradle.born.container_id, self._told.store
        goes_on = False
        try:
            if store is not None:
                goes_on = cradle.round(self._tools(store))
        except Exception as err:  # whatever it is, it is about this container
            log.warning("birth failed", extra={"container": container_id, "error": repr(err)})
            self._metrics.births.labels(Reached.MISSED).inc()
        else:
            if not goes_on:
                self._count(cradle)
        if not goes_on:
            del self._cradles[container_id]
            if store is not None:
                self._leaving.append((cradle, store))

    def _leave(self) -> None:
        # A claim is held for as long as a call may come.
        for cradle, store in [each for each in self._leaving if not each[0].is_calling]:
            store.end_birth(cradle.born.container_id)
            self._born(cradle.born.container_id)
        self._leaving = [each for each in self._leaving if each[0].is_calling]

    def _tools(self, store: LedgerStore) -> Tools:
        callers = self._callers = self._callers or Callers(self._setter, _THREADS, self._clock)
        return Tools(self._pinner, callers, store, self._is_still, self._clock)

    def _count(self, cradle: Cradle) -> None:
        if cradle.error is not None:
            extra = {"container": cradle.born.container_id, "error": str(cradle.error)}
            log.warning("birth failed", extra=extra)
        if cradle.reached is not None:
            self._metrics.births.labels(cradle.reached).inc()
        if cradle.in_force is not None:
            self._metrics.birth_duration.observe(cradle.in_force - cradle.began)
