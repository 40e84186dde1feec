# SPDX-License-Identifier: Apache-2.0
"""Whether to leave a process as it is for a while, since another plan would not mend it.

A range that the kernel refuses is refused again, and a process with as many mappings as it
may have has not fewer in a second. To plan anew at each look costs a walk over all mappings
and a sample of the pages, for nothing. So the next plan waits longer each time, until
something else is wanted, or what was in the way is gone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from memplace.reasons import Reason

from memplace_agent.engine.backoff import Backoffs
from memplace_agent.engine.placer import Outcome, Wanted, is_near_limit
from memplace_agent.engine.survey import Survey


@dataclass(frozen=True, slots=True)
class PutOff:
    """See the module; for one thread. The clock is the caller's."""

    _backoffs: Backoffs[int] = field(
        default_factory=lambda: Backoffs[int](first_s=2.0, limit_s=300.0)
    )

    def planned(self, outcome: Outcome, now: float) -> None:
        """Take what came of a plan."""
        if outcome.problems:
            self._backoffs.failed(outcome.identity, now)
        else:
            self._backoffs.succeeded(outcome.identity)

    def is_so(self, before: Outcome | None, survey: Survey, wanted: Wanted, now: float) -> bool:
        """Return whether a process that is wanted the same as before is not planned yet.

        Args:
            before: What came of the last plan, None if there was none.
            survey: What it is now.
            wanted: What it is to have.
            now: The time.
        """
        if before is None or not before.problems:
            return False
        if self._backoffs.is_ready(before.identity, now):
            return False
        if any(problem.reason is Reason.TOO_MANY_MAPPINGS for problem in before.problems):
            return is_near_limit(survey, wanted)
        return survey.is_like(before.survey)

    def keep(self, identities: Collection[int]) -> None:
        """Forget all processes but these."""
        self._backoffs.keep(identities)
