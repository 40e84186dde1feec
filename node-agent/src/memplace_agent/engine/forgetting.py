# SPDX-License-Identifier: Apache-2.0
"""Who is gone is forgotten, in every table that is kept by process or container.

Most tables hear of an end when a look finds it. These here are for what no look finds: pods that
were deleted with all their processes, and what was in a thread's hands at that moment.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from memplace_agent.containers.finder import Finder
from memplace_agent.engine.ending import Ending
from memplace_agent.engine.known import State
from memplace_agent.engine.parts import Parts
from memplace_agent.engine.trials import Trials

# Of processes: what is remembered of them is small, and to go through all of it is not free.
_AGAIN_S = 30.0


@dataclass(slots=True)
class Forgetting:
    """See the module; for the reconciler's thread only."""

    parts: Parts
    state: State
    finder: Finder
    ending: Ending
    trials: Trials
    _at: float = float("-inf")

    def containers(self, names: Collection[str]) -> None:
        """Forget all containers, shims and objects but these."""
        self.ending.keep(names)
        self.finder.keep(names)
        self.parts.objects.keep(names)
        self.parts.census.keep(names)

    def processes(self) -> None:
        """Forget processes that are in no container that is followed or given back."""
        now = self.parts.clock()
        if now - self._at < _AGAIN_S:
            return
        self._at = now
        followed = (each.container.identities for each in self.state.followed.values())
        identities = self.ending.identities.union(*followed)
        self.parts.looker.keep(identities)
        self.trials.keep(identities)
