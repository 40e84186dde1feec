# SPDX-License-Identifier: Apache-2.0
"""One look at one container: each of its processes in turn, and what came of it.

Nothing that one process does keeps the look from the next. What fails has a reason and a
backoff of its own; what is as it was costs one read of its mappings.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from memplace.backends import Act
from memplace.errors import ProcessGone
from memplace.objects import Common, ObjectId
from memplace.reasons import Reason

from memplace_agent.containers.members import member_test, read_members
from memplace_agent.containers.pinning import IsMember, Pinned, Pinner
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.again import is_same, look_again
from memplace_agent.engine.backoff import Backoffs
from memplace_agent.engine.contention import Contention
from memplace_agent.engine.hands import Hands
from memplace_agent.engine.judge import passes, problem_in, problem_of_error
from memplace_agent.engine.lesser import sample_again_s
from memplace_agent.engine.mover import Mover
from memplace_agent.engine.ordering import moves_all, orders_of
from memplace_agent.engine.orders import Follows, follows_as_taken
from memplace_agent.engine.own import OwnPolicies
from memplace_agent.engine.placer import Outcome, Placer, Problem, Wanted
from memplace_agent.engine.pool import PoolBusy, Stuck
from memplace_agent.engine.put_off import PutOff
from memplace_agent.engine.sharing import Sharing
from memplace_agent.engine.survey import Survey
from memplace_agent.metrics import Metrics
from memplace_agent.node.forked import Others, others_in

log = logging.getLogger(__name__)

# Who has thousands of processes does not keep others waiting: the next look goes on.
_BUDGET_S = 1.0

# execve() and exit() are short: who has no memory at so many looks may have none for long.
_FREE_TRIES = 3
# After that it is asked who else maps what a process shares; others may have asked just now.
_INDEX_AGE_S = 30.0
_GONE = Problem(Reason.PROCESS_GONE, "")


@dataclass(slots=True)
class _Process:
    # What the last look found in a process.
    pid: int
    outcome: Outcome | None = None
    problem: Problem | None = None
    wanted: Wanted | None = None
    sampled_at: float = float("-inf")
    sampled_among_many: bool = False
    has_orders: bool = False


@dataclass(slots=True)
class Container:
    """What is known of a container that follows a placement.

    Attributes:
        wanted: What it is to have.
        cancel: Set when that is not wanted any more: ends its moves.
        contention: Who takes turns with memplace in it.
        others: What its processes may have in common; None if it is one only.
    """

    wanted: Wanted
    cancel: threading.Event = field(default_factory=threading.Event)
    contention: Contention = field(default_factory=Contention)
    others: Others | None = None
    _processes: dict[int, _Process] = field(default_factory=dict)
    # By pid, when it was looked at last.
    _looked: dict[int, float] = field(default_factory=dict)
    # By pid, what is in the way of looking at it at all.
    _unpinned: dict[int, Problem] = field(default_factory=dict)

    def follow(self, wanted: Wanted) -> bool:
        """Take what it is to have from now on; returns whether that is something else.

        Moves for what was wanted before end with the call that is under way.
        """
        before, self.wanted = self.wanted, wanted
        same = replace(before, placement=wanted.placement, container_id=wanted.container_id)
        is_same = same == wanted and before.placement.asks_as(wanted.placement)
        if not is_same or before.placement.uid != wanted.placement.uid:
            self.cancel.set()
            self.cancel = threading.Event()
            return True
        return False

    @property
    def identities(self) -> frozenset[int]:
        """Its processes, as of the last look."""
        return frozenset(self._processes)

    def may_map(self, one: ObjectId) -> bool:
        """Return whether a process has an object by a rule, or may have: none was seen yet."""
        seen = [each.outcome for each in self._processes.values()]
        return not seen or any(each is None or one in each.objects for each in seen)

    @property
    def commons(self) -> Iterator[Common]:
        """What of its bytes others may have as well, as of the last look."""
        outcomes = (each.outcome for each in self._processes.values())
        return (common for outcome in outcomes if outcome for common in outcome.commons)

    @property
    def carried(self) -> int:
        """Ranges with a policy of memplace's in it, as of the last look."""
        outcomes = (each.outcome for each in self._processes.values())
        return sum(outcome.carried for outcome in outcomes if outcome)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found.

    Attributes:
        outcomes: Of the processes that could be looked at.
        unseen: Why others could not be, one each.
        changed: Something was changed.
        failed: Something failed.
        is_whole: No process is left to the next look.
    """

    outcomes: tuple[Outcome, ...]
    unseen: tuple[Problem, ...]
    changed: bool
    failed: bool
    is_whole: bool

    @property
    def is_empty(self) -> bool:
        """Whether there was no process to say anything of."""
        return self.is_whole and not self.outcomes and not self.unseen


@dataclass(slots=True)
class Looker:
    """Looks at containers. For one thread."""

    pinner: Pinner
    hands: Hands
    placer: Placer
    mover: Mover
    metrics: Metrics
    clock: Callable[[], float]
    cost: Callable[[], float]
    merges_pages: Callable[[], bool]
    sharing: Sharing
    tick: Callable[[], None] = lambda: None
    follows: Follows = follows_as_taken
    _backoffs: Backoffs[int] = field(
        default_factory=lambda: Backoffs[int](first_s=2.0, limit_s=300.0)
    )
    _put_off: PutOff = field(default_factory=PutOff)

    def look(self, container: Container, ref: CgroupRef) -> Seen:
        """Look at all processes of a container.

        Raises:
            OSError: They can't be listed.
        """
        is_member = member_test(self.pinner.host, ref)
        members = read_members(ref)
        container.others = others_in(self.pinner.host, ref.path, members)
        found: dict[int, _Process] = {}
        looked_at: set[int] = set()
        changed, until = False, self.cost() + _BUDGET_S
        # Those that were looked at longest ago come first.
        for pid in sorted(members, key=lambda pid: (container._looked.get(pid, 0.0), pid)):
            if looked_at and self.cost() > until:
                break
            self.tick()
            looked_at.add(pid)
            container._looked[pid] = self.clock()
            changed |= self._visit(container, pid, found, ref, is_member)
        changed |= self._forget_gone(container, members, looked_at, found)
        new = len(members - container._looked.keys())
        return _sum(container, changed=changed, new=new, is_whole=len(looked_at) == len(members))

    def _visit(
        self,
        container: Container,
        pid: int,
        found: dict[int, _Process],
        ref: CgroupRef,
        is_member: IsMember,
    ) -> bool:
        # Returns whether something was changed, or is new.
        container._unpinned.pop(pid, None)
        try:
            with self.pinner.pin(pid, is_member) as pinned:
                is_new = pinned.identity not in container._processes
                known = container._processes.setdefault(pinned.identity, _Process(pid))
                found[pinned.identity] = known
                return self._process(container, pinned, known, ref, is_member) or is_new
        except ProcessGone:
            self.metrics.processes_gone.inc()
        except Exception as err:  # whatever it is, it is about this process
            container._unpinned[pid] = problem = problem_of_error(err)
            _log(pid, problem)
        return False

    def _forget_gone(
        self,
        container: Container,
        members: frozenset[int],
        looked_at: set[int],
        found: dict[int, _Process],
    ) -> bool:
        # Returns whether any is gone.
        gone = [
            identity
            for identity, each in container._processes.items()
            if each.pid not in members
            or each.problem == _GONE
            or (each.pid in looked_at - container._unpinned.keys() and identity not in found)
        ]
        for identity in gone:
            del container._processes[identity]
            self.mover.forget(identity)
            self.hands.setter.forget(identity)
            self.placer.forget(identity)
        for pid in container._looked.keys() - members:
            del container._looked[pid]
            container._unpinned.pop(pid, None)
        container.contention.keep(container._processes.keys())
        return bool(gone)

    def keep(self, identities: frozenset[int]) -> None:
        """Forget all processes but these."""
        self._backoffs.keep(identities)
        self._put_off.keep(identities)
        self.placer.keep(identities)
        self.mover.keep(identities)
        self.hands.setter.keep(identities)
        self.hands.surveyor.keep(identities)
        self.hands.pool.keep(set(identities))

    def _process(
        self,
        container: Container,
        pinned: Pinned,
        known: _Process,
        ref: CgroupRef,
        is_member: IsMember,
    ) -> bool:
        # Returns whether something was changed.
        if not self._backoffs.is_ready(pinned.identity, self.clock()):
            return False
        try:
            survey = self._read(container.wanted, pinned, known)
            before = known.outcome if known.wanted == container.wanted else None
            if survey and self._put_off.is_so(before, survey, container.wanted, self.clock()):
                return False
            changed = survey is not None and self._place(container, pinned, known, survey)
        except ProcessGone:
            known.outcome, known.problem = None, _GONE
            return True
        except Exception as err:  # whatever it is, it is about this process
            self._failed(pinned, known, err)
            return False
        if known.problem is None:
            self._backoffs.succeeded(pinned.identity)
        else:
            self._wait(pinned, known.problem)
        self._order(container, pinned, known, ref, is_member)
        return changed

    def _place(self, container: Container, pinned: Pinned, known: _Process, survey: Survey) -> bool:
        wanted, now = container.wanted, self.clock()
        # Since it forked, each of its pages may be the child's as well.
        has_forked = container.others is not None and not known.sampled_among_many
        if known.outcome is not None and known.wanted == wanted and is_same(known.outcome, survey):
            if now - known.sampled_at < sample_again_s(wanted.act) and not has_forked:
                return False
            is_foreign = self.sharing.why_not(known.outcome.objects, wanted.group, _INDEX_AGE_S)
            outcome = (
                None
                if is_foreign
                else look_again(
                    self.hands, pinned, wanted, known.outcome, survey, others=container.others
                )
            )
            if outcome is not None:
                known.outcome, known.sampled_at = outcome, now
                known.sampled_among_many = container.others is not None
                return False
        outcome = self.placer.place(
            pinned,
            survey,
            wanted,
            _relatives(container, survey),
            container.contention.taker(pinned.identity, now),
            others=container.others,
        )
        known.outcome, known.wanted, known.sampled_at = outcome, wanted, now
        known.sampled_among_many = container.others is not None
        known.problem = problem_in(outcome.survey)
        self._put_off.planned(outcome, now)
        if outcome.changed:
            self.metrics.apply.labels("success", "").inc()
        return outcome.changed

    def _read(self, wanted: Wanted, pinned: Pinned, known: _Process) -> Survey | None:
        survey = self.hands.read(pinned, wanted.group)
        known.problem = problem_in(survey)
        known.outcome = None if known.problem else known.outcome
        return None if known.problem else survey

    def _failed(self, pinned: Pinned, known: _Process, err: Exception) -> None:
        problem = problem_of_error(err)
        if known.problem is None or known.problem.reason is not problem.reason:
            _log(pinned.pid, problem)
        known.outcome, known.problem = None, problem
        self.metrics.apply.labels("failed", problem.reason).inc()
        if not isinstance(err, PoolBusy | Stuck):  # these have a quarantine of their own
            self._wait(pinned, problem)

    def _wait(self, pinned: Pinned, problem: Problem) -> None:
        self._backoffs.failed(pinned.identity, self.clock(), free=_FREE_TRIES * passes(problem))

    # --- what the mover gets ---

    def _order(
        self,
        container: Container,
        pinned: Pinned,
        known: _Process,
        ref: CgroupRef,
        is_member: IsMember,
    ) -> None:
        outcome, wanted = known.outcome, container.wanted
        if outcome is None or outcome.plan is None:
            return
        due = outcome.plan.moves
        if wanted.act is Act.PLACE:  # others have to do again what comes anew
            due = container.contention.after(pinned.identity, outcome.plan, self.clock())
        moves = [(move, policy) for move, policy in outcome.moves if move in due]
        known.outcome = outcome.without_mappings
        if not moves and not known.has_orders:
            return
        known.has_orders = bool(moves)
        self.mover.submit(
            pinned.identity,
            orders_of(
                moves,
                partial(moves_all, outcome.survey.view.vmas, self.merges_pages()),
                pid=outcome.survey.pid,
                identity=outcome.identity,
                pin=partial(self.pinner.pidfd, outcome.survey.pid, is_member, outcome.identity),
                placement=wanted.placement,
                container=wanted.container_id,
                cancel=container.cancel,
                is_wanted=partial(self.follows, wanted.container_id, wanted.placement),
                cgroup=ref.path,
                may_share=partial(self.sharing.check, wanted.group),
                has_policy=wanted.act is Act.PLACE,
                weights=wanted.weights,
            ),
        )


def _relatives(container: Container, survey: Survey) -> list[OwnPolicies]:
    return [
        each.outcome.own
        for each in container._processes.values()
        if each.outcome
        and each.outcome.identity != survey.identity
        and each.outcome.survey.image == survey.image
    ]


def _log(pid: int, problem: Problem) -> None:
    level = logging.INFO if passes(problem) else logging.WARNING
    log.log(level, "process failed", extra={"pid": pid, "error": problem.message})


def _sum(container: Container, *, changed: bool, new: int, is_whole: bool) -> Seen:
    processes = tuple(container._processes.values())
    outcomes = tuple(each.outcome for each in processes if each.outcome)
    unseen = tuple(each.problem for each in processes if each.problem)
    unseen = (*unseen, *container._unpinned.values())
    if new:
        text = f"{new} processes have not been looked at yet"
        unseen = (*unseen, Problem(Reason.TRY_AGAIN, text))
    failed = bool(unseen) or any(outcome.problems for outcome in outcomes)
    return Seen(outcomes, unseen, changed, failed, is_whole)
