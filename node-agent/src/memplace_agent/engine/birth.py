# SPDX-License-Identifier: Apache-2.0
"""A default before the first page: containers get theirs while the runtime makes them.

A thread that does nothing else. It hears of a container's cgroup when that is made, and from
then on gives each process in it the default that the rules of its placement imply, which the
program keeps that it executes later. Which pods have which it is told by the reconciler, as a
table that nobody changes; as long as that is empty nothing is watched. What is not reached in
time is placed by the looks of the worker, as without this.

The runtime itself may tell of a container, and waits for the answer: that comes in by `ask`.
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
from queue import Empty, SimpleQueue

from memplace_agent.containers.events import Born, CgroupEvents
from memplace_agent.containers.index import Hierarchy, read_hierarchy
from memplace_agent.containers.pinning import Pinner
from memplace_agent.containers.place import find_place
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.containers.sandbox import Guard, at_once
from memplace_agent.engine.apply import PolicySetter
from memplace_agent.engine.asked import Asked
from memplace_agent.engine.callers import Callers
from memplace_agent.engine.cradle import Cradle, Reached, Source, Tools
from memplace_agent.engine.expected import NOTHING, Newborn, Table
from memplace_agent.engine.shim_birth import ShimCradle
from memplace_agent.engine.shim_claims import inherited, shim_id
from memplace_agent.hostfs import HostFs
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.metrics import Metrics
from memplace_agent.threads import hurry

log = logging.getLogger(__name__)

# Births at once; those that come while there are as many are left to the worker.
MAX_BIRTHS = 256

_IDLE_S = 1.0
# A poll knows whole milliseconds only.
_POLL_S = 0.001
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
    """See the module. `publish`, `wake`, `expects`, `ask`: for any thread, all else is for one.

    Args:
        host: Where /proc and the cgroups are.
        pinner: Pins processes.
        setter: Makes the calls.
        metrics: What is counted.
        begun: Called with the id and the cgroup of a container, before anything is done to it.
        born: Called with the id of a container that was reached.
        clock: Seconds, only forward.
        shims: Whether the shims of new pods get a default as well.
        guard: Reads what tells shims from sandboxes; who is born waits for it meanwhile.
    """

    def __init__(
        self,
        host: HostFs,
        pinner: Pinner,
        setter: PolicySetter,
        metrics: Metrics,
        *,
        begun: Callable[[str, CgroupRef], None] = lambda *_: None,
        born: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        shims: bool = False,
        guard: Guard = at_once,
    ) -> None:
        self._shims, self._guard = shims, guard
        self._host, self._pinner, self._setter = host, pinner, setter
        self._metrics, self._clock = metrics, clock
        self._begun, self._born = begun, born
        self._told = _Told(NOTHING, None)
        self._wake: int | None = None
        self._lock = threading.Lock()
        self._events: CgroupEvents | None = None
        self._open_at = float("-inf")
        self._cradles: dict[str, Cradle | ShimCradle] = {}
        self._callers: Callers | None = None
        # Whose last call has not returned.
        self._leaving: list[tuple[Cradle | ShimCradle, LedgerStore]] = []
        self._asked: SimpleQueue[Asked] = SimpleQueue()
        self._waiting: list[tuple[Cradle, Asked]] = []

    @property
    def lost(self) -> int:
        """Threads in calls that have not returned."""
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

    def expects(self, pod_uid: str, name: str) -> Newborn | None:
        """Return what a container of a pod is to have; None for nothing, or nothing known."""
        expected = self._told.table.get(pod_uid)
        return expected.of(name) if expected else None

    def ask(self, asked: Asked) -> None:
        """Have a container reached that somebody waits for, who is answered as soon as it is."""
        self._asked.put(asked)
        self.wake()

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
        # Who asked before there was a number to wake found none.
        self._wait(wait_s if self._asked.empty() else 0.0)
        if self._events is not None and self._events.is_open:
            for born in self._events.read():
                self._hear(born)
        with contextlib.suppress(Empty):
            while True:
                self._take_up(self._asked.get_nowait())
        now = self._clock()
        for name in [name for name, each in self._cradles.items() if each.due_at <= now]:
            self._round(name)
        self._answer()
        self._leave()

    def begin(self, born: Born, newborn: Newborn, source: Source = Source.CGROUP) -> Cradle | None:
        """Reach a container that is being made; None if there are too many already."""
        known = self._cradles.get(born.container_id)
        if isinstance(known, Cradle):
            return known
        if len(self._cradles) >= MAX_BIRTHS:
            self._metrics.births.labels(Reached.MISSED, source).inc()
            return None
        self._begun(born.container_id, born.ref)
        cradle = Cradle(born, newborn, self._clock(), source=source)
        self._cradles[born.container_id] = cradle
        return cradle

    def _begin_shim(self, born: Born, newborn: Newborn) -> None:
        # The first container of a pod is its sandbox.
        name, store = shim_id(born.ref.pod_uid), self._told.store
        is_new = store is not None and not inherited(store, born.ref.pod_uid)
        if self._shims and is_new and len(self._cradles) < MAX_BIRTHS:
            self._cradles.setdefault(name, ShimCradle(born, newborn, self._clock()))

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
            wait_s = min(wait_s, max(0.0, due_at - self._clock()))
            if wait_s < _POLL_S:
                time.sleep(wait_s)
                wait_s = 0.0
        assert self._wake is not None
        waiter = select.poll()
        waiter.register(self._wake, select.POLLIN)
        if self._events is not None and self._events.is_open:
            waiter.register(self._events.fileno(), select.POLLIN)
        waiter.poll(int(wait_s * 1000))
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    # --- who is born ---

    def _hear(self, born: Born) -> None:
        expected = self._told.table.get(born.ref.pod_uid)
        newborn = expected.of(None) if expected else None
        if newborn is not None:
            self._begin_shim(born, newborn)
            self.begin(born, newborn)

    def _take_up(self, asked: Asked) -> None:
        # Its cgroup is there, the runtime has made it; whether the event was read or not.
        self._watch()
        born = None
        if self._events is not None and self._events.is_open:
            born = self._events.find(asked.pod_uid, asked.container_id)
        cradle = self.begin(born, asked.newborn, Source.NRI) if born else None
        if cradle is None:
            asked.answer(is_ready=False)
            return
        # The runtime tells of its sandboxes in another way.
        cradle.is_app, cradle.newborn, cradle.due_at = True, asked.newborn, self._clock()
        self._waiting.append((cradle, asked))

    def _answer(self) -> None:
        for cradle, asked in self._waiting:
            if cradle.is_ready(asked.pid):
                asked.answer(is_ready=True)
            elif self._cradles.get(cradle.born.container_id) is not cradle:
                asked.answer(is_ready=False)
        self._waiting = [each for each in self._waiting if each[1].is_ready is None]

    def _is_still(self, born: Born, newborn: Newborn) -> bool:
        expected = self._told.table.get(born.ref.pod_uid)
        now = expected.containers.values() if expected else ()
        return any(each is newborn or (each and each.means(newborn)) for each in now)

    def _round(self, name: str) -> None:
        cradle, store = self._cradles[name], self._told.store
        goes_on = False
        try:
            if store is not None:
                goes_on = cradle.round(self._tools(store))
        except Exception as err:  # whatever it is, it is about this container
            log.warning("birth failed", extra={"container": name, "error": repr(err)})
            self._metrics.births.labels(Reached.MISSED, cradle.source).inc()
        else:
            if not goes_on:
                self._count(cradle)
        if not goes_on:
            del self._cradles[name]
            if store is not None:
                self._leaving.append((cradle, store))

    def _leave(self) -> None:
        # A claim is held for as long as a call may come.
        for cradle, store in [each for each in self._leaving if not each[0].is_calling]:
            store.end_birth(cradle.claim_id)
            self._born(cradle.claim_id)
        self._leaving = [each for each in self._leaving if each[0].is_calling]

    def _tools(self, store: LedgerStore) -> Tools:
        callers = self._callers = self._callers or Callers(self._setter, _THREADS, self._clock)
        shims = sum(isinstance(each, ShimCradle) for each in self._cradles.values())
        found = self._is_still, self._clock, shims, self._guard
        return Tools(self._pinner, callers, store, *found)

    def _count(self, cradle: Cradle | ShimCradle) -> None:
        if cradle.error is not None:
            extra = {"container": cradle.born.container_id, "error": str(cradle.error)}
            log.warning("birth failed", extra=extra)
        if cradle.reached is not None:
            self._metrics.births.labels(cradle.reached, cradle.source).inc()
        if cradle.in_force is not None:
            self._metrics.birth_duration.observe(cradle.in_force - cradle.began)
