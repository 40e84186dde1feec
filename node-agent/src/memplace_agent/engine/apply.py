# SPDX-License-Identifier: Apache-2.0
"""Set the policies of a process: all of them, in as few calls as possible, moving nothing.

Without pages to move a call takes as long as there are mappings to change; so it needs no
limit of size, and the last mapping of a large process has its policy as soon as the first.

    policies = PolicySetter(backend)
    report = policies.apply(process.pidfd, identity, steps, now=clock())

Pages are moved by `memplace_agent.engine.mover`, later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from memplace.calls import MAX_CALL_RANGES
from memplace.errors import MissingCapability
from memplace.kinds import Policy, RegionKind
from memplace.reasons import Reason
from memplace.setbacks import Setbacks

from memplace_agent.backends.protocol import Backend
from memplace_agent.engine.answers import Answer, answer_of
from memplace_agent.errors import CallFailed
from memplace_agent.syscalls import PidFd

# Errors that are told; all are counted, and the ranges behind them are done.
_MOST_TOLD = 8

# A process of 65,530 mappings that all fail would take twice as many calls. What failed is
# put off, so the next round gets further.
_MOST_FAILURES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPolicy:
    """A policy for one range ``[start, end)``.

    Attributes:
        start: First address, page aligned.
        end: First address after it.
        policy: What to set.
        private_anonymous: The range was private anonymous memory when it was read; if it is
            something else by now, it is left alone (where the kernel can tell).
        undo: It gives something back; such steps come first.
    """

    start: int
    end: int
    policy: Policy
    private_anonymous: bool = False
    undo: bool = False


class Failure(NamedTuple):
    """An error of a step, and the range ``[start, end)`` that it is about."""

    start: int
    end: int
    error: CallFailed | MissingCapability


@dataclass(slots=True)
class PolicyReport:
    """What came of it.

    Attributes:
        calls: How many calls were made.
        done: Steps that were carried out.
        changed: Steps whose range is something else by now: normal.
        astray: Shared objects that got a policy which was meant for something else: it was taken
            away at once.
        put_off: Steps that failed before and are not due yet.
        left: Steps not reached: the process is busy, or too many others failed.
        failed: Steps that failed now.
        busy: The process is in the middle of something; try again soon.
        errors: A few of the errors.
    """

    calls: int = 0
    done: int = 0
    changed: int = 0
    astray: int = 0
    put_off: int = 0
    left: int = 0
    failed: int = 0
    busy: bool = False
    errors: list[Failure] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all that could be done is done."""
        return not (self.put_off or self.left or self.failed)

    def told(self, pid: int, of: str = "") -> list[tuple[Reason, str]]:
        """Return what is in the way in a process, for people.

        Args:
            pid: The process.
            of: Whose ranges they are, such as " of shared memory".
        """
        found = [
            (error.reason, f"process {pid}, {start:#x}-{end:#x}: {error} {error.HELP}")
            for start, end, error in self.errors
        ]
        if self.astray:
            text = "mapped shared memory over what was meant: that has no policy again"
            found.append((Reason.FAILED, f"process {pid} {text}"))
        if not found and (failed := self.put_off + self.failed):
            text = f"process {pid}: {failed} ranges{of} failed and are tried again later"
            found.append((Reason.FAILED, text))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFuture:
    """A default for mappings to come.

    Attributes:
        kinds: Of `memplace.future.BORN`: what it is for.
        policy: What to set; the default policy takes the default away.
        least: Bytes of the smallest mmap() that gets it; 0 is any.
    """

    kinds: frozenset[RegionKind]
    policy: Policy
    least: int = 0


@dataclass(slots=True)
class FutureReport:
    """What came of it.

    Attributes:
        calls: How many calls were made.
        busy: The process uses its parent's memory, or is in execve(): try again soon.
        error: What failed; what came after it was not tried.
    """

    calls: int = 0
    busy: bool = False
    error: CallFailed | MissingCapability | None = None

    @property
    def complete(self) -> bool:
        """Whether all is done."""
        return not self.busy and self.error is None


class PolicySetter:
    """Sets policies, and remembers the ranges that failed. For one thread."""

    def __init__(self, backend: Backend) -> None:
        """Make one on a backend that carries it out."""
        self._backend = backend
        # Apart, so that what could not be set is no reason to wait with giving it back.
        self._setbacks = {undo: Setbacks[int]() for undo in (True, False)}

    @property
    def knows_private(self) -> bool:
        """Whether the kernel leaves alone what should be private anonymous memory and is not."""
        return self._backend.knows_private

    def apply(
        self,
        pidfd: PidFd,
        identity: int,
        steps: Iterable[SetPolicy],
        *,
        now: float,
        check: Callable[[], None] = lambda: None,
    ) -> PolicyReport:
        """Set the policies of one process.

        Args:
            pidfd: The process.
            identity: What tells it from all others; for the memory of what failed.
            steps: What to set; ranges should not overlap.
            now: The time, of a clock that never runs backwards.
            check: Called before each call; what it raises ends the rest.

        Raises:
            ProcessGone: It ended; what was done is gone with it.
        """
        report = PolicyReport()
        groups = self._groups(identity, steps, report, now)
        for index, group in enumerate(groups):
            if not self._group(pidfd, identity, group, report, now=now, check=check):
                report.left += sum(map(len, groups[index + 1 :]))
                break
        return report

    def set_future(
        self,
        pidfd: PidFd,
        steps: Iterable[SetFuture],
        *,
        check: Callable[[], None] = lambda: None,
    ) -> FutureReport:
        """Set defaults for mappings to come of one process.

        Args:
            pidfd: The process.
            steps: What to set.
            check: Called before each call; what it raises ends the rest.

        Raises:
            ProcessGone: It ended.
        """
        report = FutureReport()
        for step in steps:
            check()
            report.calls += 1
            try:
                self._backend.set_default(pidfd, step.policy, step.kinds, step.least)
            except (CallFailed, MissingCapability) as error:
                if answer_of(error) is Answer.BUSY:
                    report.busy = True
                else:
                    report.error = error
                break
        return report

    def forget(self, identity: int) -> None:
        """Forget a process that ended."""
        for setbacks in self._setbacks.values():
            setbacks.forget(identity)

    def keep(self, identities: Collection[int]) -> None:
        """Forget all processes but these."""
        for setbacks in self._setbacks.values():
            setbacks.keep(identities)

    def _groups(
        self, identity: int, steps: Iterable[SetPolicy], report: PolicyReport, now: float
    ) -> list[list[SetPolicy]]:
        # One policy and one set of flags go into a call.
        groups: dict[tuple[bool, Policy, bool], list[SetPolicy]] = {}
        for step in sorted(steps, key=lambda step: (not step.undo, step.start)):
            tried = self._setbacks[step.undo]
            if tried.next_time(identity, step.start, step.end, now) > now:
                report.put_off += 1
                continue
            key = (step.undo, step.policy, step.private_anonymous)
            groups.setdefault(key, []).append(step)
        return list(groups.values())

    def _group(
        self,
        pidfd: PidFd,
        identity: int,
        group: list[SetPolicy],
        report: PolicyReport,
        *,
        now: float,
        check: Callable[[], None],
    ) -> bool:
        # Returns whether the process takes more.
        at = 0
        while at < len(group):
            if report.failed >= _MOST_FAILURES:
                report.left += len(group) - at
                return False
            check()
            report.calls += 1
            some = group[at : at + MAX_CALL_RANGES]
            try:
                done = self._call(pidfd, some)
            except (CallFailed, MissingCapability) as error:
                if not self._failed(identity, some[0], error, report, now):
                    report.left += len(group) - at
                    return False
                done = 1
            else:
                report.done += done
                self._worked(identity, some[:done])
            at += done
        return True

    def _call(self, pidfd: PidFd, steps: Sequence[SetPolicy]) -> int:
        ranges = [(step.start, step.end) for step in steps]
        first = steps[0]
        return self._backend.set_policy(
            pidfd, ranges, first.policy, private_anonymous=first.private_anonymous
        )

    def _worked(self, identity: int, steps: Sequence[SetPolicy]) -> None:
        setbacks = self._setbacks[steps[0].undo]
        if setbacks.of(identity):
            for step in steps:
                setbacks.clear(identity, step.start, step.end)

    def _failed(
        self,
        identity: int,
        step: SetPolicy,
        error: CallFailed | MissingCapability,
        report: PolicyReport,
        now: float,
    ) -> bool:
        answer = answer_of(error)
        if answer is Answer.CHANGED:
            report.changed += 1
            return True
        if answer is Answer.BUSY:
            report.busy = True
            return False
        if len(report.errors) < _MOST_TOLD:
            report.errors.append(Failure(step.start, step.end, error))
        if answer is Answer.REFUSED:
            return False
        report.failed += 1
        self._setbacks[step.undo].add(identity, step.start, step.end, why=Reason.FAILED, now=now)
        return True
