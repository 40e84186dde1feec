# SPDX-License-Identifier: Apache-2.0
"""One container between its cgroup and its program: each process in it gets the default.

A runtime goes through stages (runc has three processes, one made by the other) before it
executes the program. Who was forked before its parent had the default lacks it, so the list of
processes is read again and again. A process counts as done when its status shows the default,
not because a call returned 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from memplace.claims import Claim
from memplace.errors import ProcessGone
from memplace.ledger import claim_for, inherit

from memplace_agent.containers.elders import has_elder
from memplace_agent.containers.events import Born
from memplace_agent.containers.members import member_test, read_pids
from memplace_agent.containers.pinning import Pinned, Pinner
from memplace_agent.containers.sandbox import Guard, at_once
from memplace_agent.engine.apply import SetFuture
from memplace_agent.engine.callers import Call, Callers
from memplace_agent.engine.expected import Newborn
from memplace_agent.engine.shim_claims import inherited
from memplace_agent.hostfs import read_file, read_proc
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.procfs.status import parse_status

# runc 1.1 had a process in the cgroup for 11 ms at least before it executed the program.
_EARLY_S = 0.010
# After the last process that needed a call, stages that come later are waited for.
_WATCHED_S = 0.1
# The runtime has that long to put a process into the cgroup that it made.
_EMPTY_S = 2.0
# However often processes appear that need a call; the looks of the worker go on.
_AT_MOST_S = 5.0
# A look every half millisecond, until two in a row have found nothing to do.
_SOON_S, _LATER_S = 0.0005, 0.005

# A write of the ledger takes a fraction of a millisecond; the round after this one tries again.
LEDGER_S = 0.003

# A container that is being made has few cgroups; who makes more keeps no other one waiting.
_CGROUPS = 64

# What the runtime runs beside the program, whatever cgroup that is in.
_NOT_A_PROGRAM = frozenset({"pause", "conmon"})


class Reached(StrEnum):
    """How a container was reached; the label of a metric."""

    INHERITED = "inherited"
    EARLY = "early"
    LATE = "late"
    MISSED = "missed"


class Source(StrEnum):
    """Who told of a container; the label of a metric."""

    CGROUP = "cgroup"
    NRI = "nri"


@dataclass(frozen=True, slots=True)
class Tools:
    """What cradles work with.

    `still` says whether the same is wanted of a pod's container; `shims` is how many pods' shims
    are looked for just now; `guard` reads what tells them from sandboxes.
    """

    pinner: Pinner
    callers: Callers
    store: LedgerStore
    still: Callable[[Born, Newborn], bool]
    clock: Callable[[], float] = time.monotonic
    shims: int = 0
    guard: Guard = at_once


@dataclass(slots=True)
class Cradle:
    """See the module.

    Attributes:
        born: The cgroup.
        newborn: What its processes are to have.
        began: When it was heard of.
        due_at: When the next round is.
        is_app: Whether it is one of the pod's spec, and not the runtime's; None: to be found out.
        source: Who told of it.
        in_force: When a process had the default for the first time; None before.
    """

    born: Born
    newborn: Newborn
    began: float
    is_app: bool | None = None
    source: Source = Source.CGROUP
    due_at: float = field(init=False)
    in_force: float | None = None
    _last_new: float = field(init=False)
    _read_at: float = field(init=False)
    _ready: set[int] = field(default_factory=set)
    _seen: set[int] = field(default_factory=set)
    # By pid: the last one, and the time of the list before the one with that process.
    _calls: dict[int, tuple[Call, float]] = field(default_factory=dict)
    _clean: int = 0
    _slowest: float = 0.0
    _is_heir: bool = False
    # A runtime that is slower than this waits; the next look finds what it makes.
    _in_vain: bool = False
    _error: Exception | None = None

    def __post_init__(self) -> None:
        self.due_at = self._last_new = self._read_at = self.began

    @property
    def reached(self) -> Reached | None:
        """How it ended; None if there was nothing to do, or nobody to do it to."""
        if self._error is not None or self._seen - self._ready or self._in_vain:
            return Reached.MISSED
        if self.in_force is None:
            return Reached.INHERITED if self._is_heir else None
        return Reached.EARLY if self._slowest <= _EARLY_S else Reached.LATE

    @property
    def error(self) -> Exception | None:
        """Why a process could not be reached, if it was not for lack of time."""
        return self._error

    @property
    def claim_id(self) -> str:
        """Under which name its claim is."""
        return self.born.container_id

    @property
    def is_calling(self) -> bool:
        """Whether a call on one of its processes has not returned."""
        return any(call.ended is None for call, _ in self._calls.values())

    def is_ready(self, pid: int) -> bool:
        """Return whether a process has the default, as its status says; 0: all that there are."""
        return pid in self._ready if pid else bool(self._seen) and self._seen <= self._ready

    def round(self, tools: Tools) -> bool:
        """Look once; returns whether more rounds are to follow."""
        now = tools.clock()
        self._hear_of_calls()
        pids = _pids(self.born.ref.path)
        if pids is None or not tools.still(self.born, self.newborn):
            self._seen.clear()
            return False
        if pids and self.is_app is None:
            self.is_app = has_elder(self.born)
        if pids and not self.is_app:
            return False
        # Who is not listed any more may come back as another process.
        self._ready &= pids
        self._seen = set(pids)
        for pid in pids - self._ready:
            self._try(pid, tools)
        self._clean = self._clean + 1 if pids and pids == self._ready else 0
        self._read_at = now
        self.due_at = tools.clock() + (self._pace(now) if pids else self._pace_empty(now))
        return self._goes_on(now, is_empty=not pids)

    def _pace(self, now: float) -> float:
        return _LATER_S if self._clean >= 2 or now - self._last_new > _WATCHED_S else _SOON_S

    def _pace_empty(self, now: float) -> float:
        return _LATER_S if now - self.began > _WATCHED_S else _SOON_S

    def _goes_on(self, now: float, *, is_empty: bool) -> bool:
        if self._error is not None or now - self.began > _AT_MOST_S:
            return False
        if is_empty:
            goes = now - self._last_new < (_EMPTY_S if self.in_force is None else _WATCHED_S)
            self._in_vain = not goes and self.is_app is None and has_elder(self.born)
            return goes
        return self._clean < 2 or now - self._last_new < _WATCHED_S

    def _try(self, pid: int, tools: Tools) -> None:
        is_member = member_test(tools.pinner.host, self.born.ref)
        try:
            with tools.pinner.pin(pid, is_member) as pinned:
                if self._is_done(pinned, tools):
                    self._ready.add(pid)
        except ProcessGone:
            self._seen.discard(pid)

    def _is_done(self, pinned: Pinned, tools: Tools) -> bool:
        status = parse_status(read_proc(tools.pinner.host.pid(pinned.pid) / "status"))
        if not status.has_memory:
            return False  # between two programs, or about to end
        if status.name in _NOT_A_PROGRAM:
            return True
        before = self._claim(tools)
        claim, steps = self.newborn.steps(before, status)
        if not steps:
            return self._inherits(before, tools)
        # Before the call: whoever comes after a crash has to know what it may have done.
        if pinned.pid not in self._calls and tools.store.put_newborn(claim, LEDGER_S):
            self._set(pinned, steps, tools)
        return False  # the next round reads what came of it

    def _claim(self, tools: Tools) -> Claim:
        new = claim_for(self.born.container_id, self.newborn.names, time.time())
        known = tools.store.get(self.born.container_id) or new
        return inherit(known, inherited(tools.store, self.born.ref.pod_uid))

    def _inherits(self, claim: Claim, tools: Tools) -> bool:
        # What its shim gave it is nobody's while no claim of the container's knows of it.
        if claim.defaults and claim is not tools.store.get(self.born.container_id):
            self._is_heir = tools.store.put_newborn(claim, LEDGER_S)
            return self._is_heir
        return True

    def _set(self, pinned: Pinned, steps: Sequence[SetFuture], tools: Tools) -> None:
        call = tools.callers.submit(pinned.pidfd, self.newborn.placement.tenant, steps)
        if call is not None:
            self._calls[pinned.pid] = call, self._read_at

    def _hear_of_calls(self) -> None:
        ended = {pid: each for pid, each in self._calls.items() if each[0].ended is not None}
        for pid, (call, read_at) in ended.items():
            del self._calls[pid]
            self._error = self._error or call.error
            if call.is_set and call.ended is not None:
                self.in_force = min(self.in_force or call.ended, call.ended)
                self._last_new = max(self._last_new, call.ended)
                # It was not there when the list was read before.
                self._slowest = max(self._slowest, call.ended - read_at)


def _pids(cgroup: Path) -> set[int] | None:
    # None when it is gone. crun and systemd make cgroups of their own below.
    try:
        text = read_file(f"{cgroup}/cgroup.procs")
    except OSError:
        return None
    return {int(pid) for pid in text.split() if pid != b"0"} or set(read_pids(cgroup, _CGROUPS))
