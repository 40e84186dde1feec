# SPDX-License-Identifier: Apache-2.0
"""A claim that may have to end: of a container that follows nothing, a pod's shim, an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from memplace.claims import Claim

from memplace_agent.containers.finder import Finder
from memplace_agent.containers.index import CgroupRef
from memplace_agent.engine.duelist import Outcome
from memplace_agent.engine.known import State, standing_of
from memplace_agent.engine.parts import Parts
from memplace_agent.engine.undoing import Decision, Undoing

__all__ = ["Ending"]


@dataclass(frozen=True, slots=True)
class Ending:
    """See the module; for one thread.

    Attributes:
        parts: Of the reconciler.
        state: What it knows.
        finder: Finds cgroups.
        ended: Called when a claim is gone.
    """

    parts: Parts
    state: State
    finder: Finder
    ended: Callable[[], None]
    undoing: Undoing = field(default_factory=Undoing)

    def look(self, claim: Claim) -> Outcome:
        """Keep a claim, or give back what it speaks of."""
        refs = self.finder.refs(claim.container)
        is_populated = self.finder.is_populated(refs)
        standing = standing_of(claim, self.state, is_populated=is_populated)
        decision = self.undoing.decide(claim.container, standing, self.parts.clock())
        if decision is Decision.FORGET:
            self.parts.store.drop(claim.container)
            self.ended()
            return Outcome.QUIET
        if decision is Decision.KEEP and standing.is_paused:
            self.state.undoing.pop(claim.container, None)
            return Outcome.QUIET
        if decision is not Decision.UNDO:
            # Ask again soon, but for what is as it is to be: objects come here as well.
            return Outcome.QUIET if decision is Decision.FOLLOW else Outcome.CHANGED
        return Outcome.CHANGED if self.undo(claim, refs) else Outcome.FAILED

    def undo(self, claim: Claim, refs: tuple[CgroupRef, ...]) -> bool:
        """Give back what a claim speaks of; returns whether all of it is."""
        undone = self.parts.undo(claim, refs, is_whole=self.finder.is_whole)
        if undone.whole:
            self.state.undoing.pop(claim.container, None)
            self.ended()
        else:
            before = self.state.undoing.get(claim.container, "")
            self.state.undoing[claim.container] = undone.message or before
        return undone.whole
