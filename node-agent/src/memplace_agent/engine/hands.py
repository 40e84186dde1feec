# SPDX-License-Identifier: Apache-2.0
"""What placer and undo do to a process: read it, look at its pages, set its policies.

All of it goes through the pool, so that no process can keep the agent waiting for long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

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
from memplace_agent.engine.measure import Measured, Sampler
from memplace_agent.engine.pool import Pool, Turn
from memplace_agent.engine.survey import Survey, Surveyor
from memplace_agent.errors import errno_name
from memplace_agent.metrics import Metrics
from memplace_agent.node.forked import Others
from memplace_agent.syscalls import PidFd

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
        regions: Iterable[Region],
        *,
        undo: Collection[Change] = (),
    ) -> PolicyReport:
        """Set policies, in as few calls as possible; `undo` comes first.

        Args:
            pinned: The process.
            group: See the class.
            changes: What to set.
            regions: What it has mapped: private anonymous memory is to be that still.
            undo: What to give back.

        Raises:
            ProcessGone: It ended.
            Stuck: It did not let a call finish in time.
        """
        private = {region.start for region in regions if region.private_anonymous}
        steps = [
            *(_step(change, private, undo=True) for change in undo),
            *(_step(change, private, undo=False) for change in changes),
        ]
        start = time.monotonic()
        report = self.pool.run(
            partial(self._apply, pinned.identity, steps),
            target=pinned.identity,
            group=group,
            deadline_s=_DEADLINE_S,
            pidfd=pinned.pidfd,
        )
        if report.calls:
            self.metrics.apply_duration.observe(time.monotonic() - start)
        for failure in report.errors:
            self.metrics.syscall_errors.labels("process_mbind", errno_name(failure.error)).inc()
        self.surveyor.note(pinned.identity, [*undo, *changes])
        return report

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

    def _apply(self, identity: int, steps: Sequence[SetPolicy], turn: Turn) -> PolicyReport:
        pidfd = PidFd(turn.pidfd)
        return self.setter.apply(pidfd, identity, steps, now=self.clock(), check=turn.check)


def _step(change: Change, private: Collection[int], *, undo: bool) -> SetPolicy:
    return SetPolicy(
        start=change.start,
        end=change.end,
        policy=change.policy,
        private_anonymous=change.start in private and not undo,
        undo=undo,
    )
