# SPDX-License-Identifier: Apache-2.0
"""What placer and undo do to a process: read it, look at its pages, set its policies.

All of it goes through the pool, so that no process can keep the agent waiting for long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from memplace.astray import withdraw
from memplace.claims import Change
from memplace.regions import Region
from memplace.residency import Ranged

from memplace_agent.containers.pinning import Pinned
from memplace_agent.engine.apply import (
    FutureReport,
    PolicyReport,
    PolicySetter,
    SetFuture,
    SetPolicy,
)
from memplace_agent.engine.meant import Meant
from memplace_agent.engine.measure import Measured, Sampler
from memplace_agent.engine.pool import Pool, Turn
from memplace_agent.engine.survey import Survey, Surveyor
from memplace_agent.errors import errno_name
from memplace_agent.metrics import Metrics
from memplace_agent.node.forked import Others
from memplace_agent.syscalls import PidFd

log = logging.getLogger(__name__)

# A call that sets policies of 1,024 mappings takes milliseconds; the rest is for a busy node.
_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Hands:
    """See the module; for one thread. `group` is the namespace that pays for lost threads."""

    pool: Pool
    surveyor: Surveyor
    sampler: Sampler
    setter: PolicySetter
    metrics: Metrics
    clock: Callable[[], float] = time.monotonic

    def read(self, pinned: Pinned, group: str, *, audit: bool = False) -> Survey:
        """Read as `Surveyor.read` does."""
        return self.surveyor.read(pinned, group, audit=audit)

    def measure(
        self,
        pinned: Pinned,
        group: str,
        regions: Sequence[Ranged],
        resident: int,
        *,
        others: Others | None = None,
    ) -> Measured:
        """Measure as `Sampler.measure` does."""
        return self.sampler.measure(pinned, group, regions, resident, others=others)

    def set(
        self,
        pinned: Pinned,
        group: str,
        changes: Collection[Change],
        meant: Meant,
        *,
        undo: Collection[Change] = (),
    ) -> PolicyReport:
        """Set policies, in as few calls as possible; `undo` comes first.

        What is private anonymous memory the kernel leaves alone if it is something else by now.
        All else is read again right before the calls and after them. Policies that another
        program got, or an object that was not meant, are taken away at once.

        Args:
            pinned: The process.
            group: See the class.
            changes: What to set.
            meant: What they were made of, and `undo` as well.
            undo: What to give back.

        Raises:
            ProcessGone: It ended.
            Stuck: It did not let a call finish in time.
        """
        todo = [*undo, *changes]
        steps = [
            *(_step(change, meant, undo=True) for change in undo),
            *(_step(change, meant, undo=False) for change in changes),
        ]
        kept = self.setter.knows_private
        loose = {n for n, step in enumerate(steps) if not (kept and step.private_anonymous)}
        gone: set[int] = set()
        if loose:
            survey = self.read(pinned, group)
            if survey.incomplete:
                return PolicyReport(busy=True, left=len(todo))
            now = Meant(survey.image, survey.regions())
            gone = {n for n in loose if not meant.is_there(todo[n], now)}
            steps = [step for n, step in enumerate(steps) if n not in gone]
        start = time.monotonic()
        report, image = self.pool.run(
            partial(self._apply, pinned, steps, meant.image),
            target=pinned.identity,
            group=group,
            deadline_s=_DEADLINE_S,
            pidfd=pinned.pidfd,
        )
        report.changed += len(gone)
        if report.calls:
            self.metrics.apply_duration.observe(time.monotonic() - start)
        for failure in report.errors:
            self.metrics.syscall_errors.labels("process_mbind", errno_name(failure.error)).inc()
        done = [change for n, change in enumerate(todo) if n not in gone]
        self.surveyor.note(pinned.identity, done)
        if report.calls and (loose or image != meant.image):
            self._take_back(pinned, group, done, meant, report)
        return report

    def _take_back(
        self,
        pinned: Pinned,
        group: str,
        done: Sequence[Change],
        meant: Meant,
        report: PolicyReport,
    ) -> None:
        survey = self.read(pinned, group)
        if survey.incomplete or not self._strays(survey, done, meant):
            return
        if not survey.view.knows_policies:
            survey = self.read(pinned, group, audit=True)
            if survey.incomplete:
                return
        strays = self._strays(survey, done, meant)
        back = withdraw(done, survey.process, strays)
        if not back:
            return
        log.warning("policies on other mappings taken back", extra={"pid": pinned.pid})
        again = self.set(pinned, group, (), Meant(survey.image, strays), undo=back)
        report.changed += len(back)
        report.astray += sum(1 for region in strays if region.in_object)
        report.failed += again.failed
        report.left += again.left
        report.errors += again.errors

    def _strays(self, survey: Survey, done: Sequence[Change], meant: Meant) -> list[Region]:
        return meant.strays(done, Meant(survey.image, survey.regions()))

    def set_future(self, pinned: Pinned, group: str, steps: Collection[SetFuture]) -> FutureReport:
        """Set defaults for mappings to come, or take them away.

        Raises:
            ProcessGone: It ended.
            Stuck: It did not let a call finish in time.
        """

        def set_them(turn: Turn) -> FutureReport:
            return self.setter.set_future(PidFd(turn.pidfd), steps, check=turn.check)

        report = self.pool.run(
            set_them,
            target=pinned.identity,
            group=group,
            deadline_s=_DEADLINE_S,
            pidfd=pinned.pidfd,
        )
        if report.error is not None:
            self.metrics.syscall_errors.labels("process_mbind", errno_name(report.error)).inc()
        return report

    def _apply(
        self, pinned: Pinned, steps: Sequence[SetPolicy], image: int, turn: Turn
    ) -> tuple[PolicyReport, int]:
        # Also returns what the process is afterwards.
        if self.surveyor.image(pinned.pid) != image:
            return PolicyReport(busy=True, left=len(steps)), image
        pidfd, identity = PidFd(turn.pidfd), pinned.identity
        report = self.setter.apply(pidfd, identity, steps, now=self.clock(), check=turn.check)
        return report, self.surveyor.image(pinned.pid)


def _step(change: Change, meant: Meant, *, undo: bool) -> SetPolicy:
    return SetPolicy(
        start=change.start,
        end=change.end,
        policy=change.policy,
        private_anonymous=meant.is_private(change),
        undo=undo,
    )
