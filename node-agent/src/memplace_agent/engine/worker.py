# SPDX-License-Identifier: Apache-2.0
"""The one thread that decides: takes worlds, does what is due, reports, retires."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from memplace.api.conditions import Condition
from memplace.api.v1alpha1 import AgentMode, NodeMemoryStatus
from memplace.errors import FeatureUnavailable
from memplace.reasons import Reason

from memplace_agent.engine.known import News
from memplace_agent.engine.reconcile import Reconciler
from memplace_agent.engine.rest import Rest
from memplace_agent.hostfs import HostFs
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.metrics import Metrics
from memplace_agent.node.memory import read_kernel_moves
from memplace_agent.report import Reports, Retirement, node_status
from memplace_agent.retire import has_profile, remove_host_files, restore_profile
from memplace_agent.syscalls.features import Features, blocked
from memplace_agent.threads import Pulse
from memplace_agent.world import World

log = logging.getLogger(__name__)

# A look is short, and a thread that reports for others has to come by.
_LOOKS_PER_STEP = 64
_STEP_S = 1.0
_REPORT_S = 1.0
# To put a report together takes a node with many containers longer than to look at one of them.
_FIGURES_S = 10.0
# Who edits placements all the time does not keep the containers of others from being looked at.
# The first change of a quiet time is taken at once.
_TAKE_S, _LAST_TAKE_S = 0.25, 2.0

# A namespace without pods here is known for longer than this.
_CLAIMS_S = 10.0

# A second agent waits that long before it asks for the ledger again.
_ASK_AGAIN_S = 5.0
# An undo that something is in the way of waits before it goes on.
_UNDO_AGAIN_S = 2.0

_ACTIVE = Retirement(Reason.ACTIVE)


class Source(Protocol):
    """Knows what the cluster wants."""

    changed: threading.Event

    @property
    def is_synced(self) -> bool:
        """Whether everything has been listed."""

    def snapshot(self) -> World:
        """Return what is wanted now."""

    def claim(self, namespaces: frozenset[str]) -> None:
        """Take the namespaces of the placements for which something was done; "" for none."""


class Sink(Protocol):
    """Takes the status of this node."""

    def publish(self, status: NodeMemoryStatus) -> None:
        """Take a status; returns at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """What a worker works with.

    Attributes:
        host: The host's files.
        features: What the kernel has.
        open_ledger: Opens the ledger; raises AnotherAgent.
        make_reconciler: Makes what works on it.
        metrics: What is counted.
        source: What is wanted.
        sink: Who is told.
        pulse: Told as the work goes on, and whether it goes well.
        version: The agent's.
        clock: Seconds, only forward.
        cost: Seconds that the worker's thread has worked.
    """

    host: HostFs
    features: Features
    open_ledger: Callable[[], LedgerStore]
    make_reconciler: Callable[[LedgerStore], Reconciler]
    metrics: Metrics
    source: Source
    sink: Sink
    pulse: Pulse
    version: str
    clock: Callable[[], float] = time.monotonic
    cost: Callable[[], float] = time.thread_time


class Worker:
    """See the module."""

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._features = parts.features
        self._store: LedgerStore | None = None
        self._reconciler: Reconciler | None = None
        self._world: World | None = None
        # Something differs from the world that was seen last; the reconciler has that one whole.
        self._is_stale, self._is_taken = True, False
        clock, cost = parts.clock, parts.cost
        self._take_rest = Rest(clock, cost, least_s=_TAKE_S, most_s=_LAST_TAKE_S)
        self._report_rest = Rest(clock, cost, least_s=_REPORT_S, most_s=_FIGURES_S)
        self._not_before = float("-inf")
        self._reported_at = float("-inf")
        self._claim_at = float("-inf")
        self._news = News.NONE
        self._retirement = _ACTIVE
        self._took_profile = False
        self._conditions: tuple[Condition, ...] = ()

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; an error is logged, and it goes on.

        A restart may help a node on which nothing works any more, so that is told by the pulse.
        What fails for one container never comes here.
        """
        pulse = self._parts.pulse
        while not stop.is_set():
            # What changes during a rest waits for its end, and wakes nobody.
            wakes = self._parts.source.changed if self._take_rest.is_over else stop
            wakes.wait(self._pause())
            if stop.is_set():
                return
            try:
                self.step()
                pulse.went_well()
            except Exception:
                log.exception("a step failed")
                pulse.failed()
                stop.wait(_STEP_S)

    def step(self) -> None:
        """Do what is due now; nothing before everything is listed.

        What was not done because of an error is due at the next step.
        """
        source = self._parts.source
        if self._is_change_due:
            # What is set from now on is for the next one.
            source.changed.clear()
            self._is_stale = True
        if not source.is_synced:
            return
        if self._is_stale:
            with self._take_rest.after():
                self._world, self._news = source.snapshot(), News.STATE
            self._is_stale, self._is_taken = False, False
        try:
            self._do()
        finally:
            self._claim()
            self._report()

    @property
    def _is_change_due(self) -> bool:
        return self._parts.source.changed.is_set() and self._take_rest.is_over

    def _do(self) -> None:
        assert self._world is not None
        if self._is_to_retire(self._world):
            self._retire()
            return
        if self._retirement is not _ACTIVE:
            self._retirement, self._not_before = _ACTIVE, float("-inf")
            self._give_profile_back()
        reconciler = self._opened()
        if reconciler is None:
            return
        if not self._is_taken:
            with self._take_rest.after():
                reconciler.take(self._world)
            self._is_taken = True
        self._look(reconciler)

    def _look(self, reconciler: Reconciler) -> None:
        went_well = reconciler.audit()
        self._news = max(self._news, reconciler.take_news())
        clock = self._parts.clock
        # What changes meanwhile is to be felt in about a second.
        end = clock() + _STEP_S
        for _ in range(_LOOKS_PER_STEP):
            self._parts.pulse.tick()
            if not reconciler.step():
                if went_well:
                    self._parts.metrics.last_success.set_to_current_time()
                return
            self._news = max(self._news, reconciler.take_news())
            if self._is_change_due or clock() >= end:
                return

    def _pause(self) -> float:
        reconciler, now = self._reconciler, self._parts.clock()
        if reconciler is None or self._retirement is not _ACTIVE:
            return _STEP_S
        due_at = reconciler.next_at()
        pause = _STEP_S if due_at is None else min(_STEP_S, due_at - now)
        rest_s = self._take_rest.left_s
        return max(0.0, min(pause, rest_s) if rest_s > 0 else pause)

    # --- the ledger ---

    def _opened(self) -> Reconciler | None:
        if self._reconciler is not None or self._parts.clock() < self._not_before:
            return self._reconciler
        try:
            self._store = self._parts.open_ledger()
            self._reconciler = self._parts.make_reconciler(self._store)
        except Exception as err:
            # What is held is in the way of the next try, and of another agent.
            if self._store is not None:
                self._store.close()
                self._store = None
            self._not_before = self._parts.clock() + _ASK_AGAIN_S
            self._blocked(err)
            return None
        self._features, self._is_taken = self._parts.features, False
        self._news = News.STATE
        return self._reconciler

    def _blocked(self, err: Exception) -> None:
        error, is_odd = err, not isinstance(err, OSError)
        if not isinstance(error, FeatureUnavailable):
            text = f"the ledger can't be opened: {repr(err) if is_odd else err}"
            what = (err.errno, text) if isinstance(err, OSError) else (text,)
            error = FeatureUnavailable(*what)
        if str(self._features.error) != str(error):
            log.error("waiting for the ledger", extra={"error": str(error)}, exc_info=is_odd)
        self._features = blocked(self._parts.features, error)
        self._news = News.STATE

    def _claim(self) -> None:
        # What is claimed may outlive its pod, as shared memory does, and the agent before this.
        if self._store is None or self._parts.clock() < self._claim_at:
            return
        self._claim_at = self._parts.clock() + _CLAIMS_S
        self._parts.source.claim(frozenset(claim.placement[1] for claim in self._store))

    # --- retirement ---

    def _is_to_retire(self, world: World) -> bool:
        # A retired agent whose NodeMemory is deleted must not take up its work again and leave
        # files on the host. An uninstall ends the agents first, but only if it was told to.
        was_retired = self._retirement is not _ACTIVE
        return world.mode is AgentMode.RETIRED or (world.mode is None and was_retired)

    def _retire(self) -> None:
        if self._retirement.done:
            return
        if self._retirement is _ACTIVE:
            self._retirement = Retirement(Reason.UNDOING, "policies are being restored")
            self._not_before = float("-inf")
        reconciler = self._opened()
        now = self._parts.clock()
        if reconciler is None or self._store is None or now < self._not_before:
            return
        self._not_before = now + _UNDO_AGAIN_S
        self._news = News.STATE
        whole, why = reconciler.undo_all()
        self._retirement = self._retired(self._store, whole=whole, why=why)
        if self._retirement.done:
            self._store, self._reconciler = None, None

    def _retired(self, store: LedgerStore, *, whole: bool, why: str) -> Retirement:
        unsupported = self._parts.features.error
        if not whole and unsupported is not None:
            left = len(tuple(store))
            message = f"{left} containers carry policies of memplace's, and {unsupported}"
            return Retirement(Reason.CANNOT_UNDO, f"{message} {unsupported.HELP}")
        if not whole:
            message = "policies are being restored"
            return Retirement(Reason.UNDOING, f"{message}: {why}" if why else message)
        if store.unread:
            files = ", ".join(f"{unread.file} ({unread.reason})" for unread in store.unread[:3])
            message = f"{len(store.unread)} files of the ledger are not understood: {files}"
            return Retirement(
                Reason.CANNOT_UNDO, f"{message}. Run the agent that wrote them, or reboot"
            )
        return self._cleaned(store)

    def _cleaned(self, store: LedgerStore) -> Retirement:
        try:
            self._took_profile |= has_profile(self._parts.host)
            remove_host_files(self._parts.host)
        except OSError as err:
            return Retirement(Reason.FAILED, f"files on the host can't be removed: {err}")
        store.close()
        return Retirement(Reason.RETIRED, "everything is undone and the host is clean")

    def _give_profile_back(self) -> None:
        if not self._took_profile:
            return
        try:
            restore_profile(self._parts.host)
        except OSError as err:
            # The work goes on; what is lost without the profile is the next restart.
            log.error("no seccomp profile: delete this pod", extra={"error": str(err)})
        self._took_profile = False

    # --- the report ---

    def _report(self) -> None:
        now = self._parts.clock()
        is_early = self._news is News.FIGURES and now - self._reported_at < _FIGURES_S
        if self._news is News.NONE or is_early or not self._report_rest.is_over:
            return
        self._news = News.STATE  # until it is told
        with self._report_rest.after():
            self._parts.sink.publish(self._status())
        self._news, self._reported_at = News.NONE, now

    def _status(self) -> NodeMemoryStatus:
        reconciler, world = self._reconciler, self._world
        status = node_status(
            reconciler.reports if reconciler else Reports(),
            self._warned(),
            self._retirement,
            before=self._conditions,
            version=self._parts.version,
            now=datetime.now(UTC),
            not_understood=world.not_understood if world else (),
        )
        self._conditions = status.conditions
        return status

    def _warned(self) -> Features:
        # What the kernel moves by itself, an admin can turn off; placements can't.
        warnings = (self._features.warning, read_kernel_moves(self._parts.host).message)
        return replace(self._features, warning="; ".join(filter(None, warnings)))
