# SPDX-License-Identifier: Apache-2.0
"""A claim that may have to end: of a container that follows nothing, a pod's shim, an object."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from memplace.api.v1alpha1 import Placement
from memplace.backends import Act
from memplace.claims import Claim
from memplace.evidence import has_cpus
from memplace.kinds import OnDelete
from memplace.objects import object_of

from memplace_agent.containers.finder import Finder
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.duelist import Outcome
from memplace_agent.engine.going_back import GoingBack
from memplace_agent.engine.known import State, standing_of
from memplace_agent.engine.parts import Parts
from memplace_agent.engine.placer import Outcome as Seen
from memplace_agent.engine.shim_claims import first_shims
from memplace_agent.engine.undo import Undone
from memplace_agent.engine.undoing import Decision, Undoing
from memplace_agent.engine.words import keep_words, owned, write
from memplace_agent.errors import told

log = logging.getLogger(__name__)


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
    going_back: GoingBack = field(init=False)

    def __post_init__(self) -> None:
        # The dataclass is frozen for those who use it.
        back = GoingBack(self.parts.looker, self.parts.store)
        object.__setattr__(self, "going_back", back)

    @property
    def identities(self) -> frozenset[int]:
        """The processes to which something is given back."""
        return self.parts.undoer.identities | self.going_back.identities

    def keep(self, names: Collection[str]) -> None:
        """Forget all containers, shims and objects but these."""
        self.undoing.keep(names)
        self.parts.undoer.keep(names)
        for name in self.state.undoing.keys() - set(names):
            del self.state.undoing[name]

    def know(self) -> None:
        """Take what placements say of their end from a new world."""
        keep_words(self.parts.store, self.state.world)

    def begin(self, claim: Claim | None, placement: Placement) -> None:
        """Say that a container follows a placement: what was done is as if done for that."""
        if claim is None:
            return
        self.going_back.stop(claim.container)
        now = owned(claim, placement)
        if now != claim and self.parts.act_for(placement) is Act.PLACE:
            write(self.parts.store, now)

    def take_over(self, seen: Iterable[Seen], placement: Placement) -> None:
        """Say that objects which a deleted placement left follow another one by now."""
        if self.parts.act_for(placement) is not Act.PLACE:
            return
        for one in {one for each in seen for one in each.objects}:
            claim = self.parts.objects.claim(one)
            if claim is not None and claim.is_left:
                write(self.parts.store, owned(claim, placement))

    def look(self, claim: Claim) -> Outcome:
        """Keep a claim, or give back what it speaks of."""
        refs = self.finder.refs(claim.container)
        is_populated = self.finder.is_populated(refs)
        standing = standing_of(claim, self.state, is_populated=is_populated)
        decision = self.undoing.decide(claim.container, standing, self.parts.clock())
        if decision is Decision.FORGET:
            self.parts.store.drop(claim.container)
            self.going_back.stop(claim.container)
            self.ended()
            return Outcome.QUIET
        if decision is Decision.KEEP and standing.is_paused:
            self.state.undoing.pop(claim.container, None)
            return Outcome.QUIET
        if decision is not Decision.UNDO:
            # Ask again soon, but for what is as it is to be: objects come here as well.
            return Outcome.QUIET if decision is Decision.FOLLOW else Outcome.CHANGED
        # Not so one that gives back, is elsewhere or has lost the container, and is there.
        is_deleted = not self.state.world.has(claim.placement[0])
        word = claim.on_delete if is_deleted else OnDelete.RESTORE_POLICY
        if word is OnDelete.LEAVE and claim.process is None:
            return self._leave(claim)
        if word is OnDelete.RESTORE_PAGES and claim.process is None and refs:
            near = {n.id for n in self.state.machine.numa_nodes if has_cpus(n)}
            how_far = self.going_back.look(claim, refs, frozenset(near))
            if how_far:
                self.state.undoing[claim.container] = how_far
                return Outcome.CHANGED
        return Outcome.CHANGED if self.undo(claim, refs) else Outcome.FAILED

    def _leave(self, claim: Claim) -> Outcome:
        self.state.undoing.pop(claim.container, None)
        if object_of(claim.container) and self.parts.objects.is_gone(claim):
            self.ended()
            return Outcome.QUIET
        if claim.is_left or write(self.parts.store, replace(claim, is_left=True)):
            is_there = object_of(claim.container) or claim.container in self.state.listed
            return Outcome.QUIET if is_there else Outcome.CHANGED
        return Outcome.FAILED

    def look_at_shim(self, pod_uid: str) -> Outcome:
        """Bring the shim of a pod in line with what is expected of the pod's containers."""
        state = self.state
        held = state.world.held_pods | state.paused_pods
        if not state.is_synced or pod_uid in held:
            return Outcome.QUIET
        outcome, in_the_way = self.parts.shims.look(pod_uid, self.finder)
        state.undoing |= in_the_way
        self.ended()
        return outcome

    def undo_all(self) -> None:
        """Give back what all claims speak of; what is in the way of one is in no other's."""
        for claim in first_shims(self.parts.store):
            self.undo(claim)

    def undo(self, claim: Claim, refs: tuple[CgroupRef, ...] | None = None) -> bool:
        """Give back what a claim speaks of; returns whether all of it is.

        Args:
            claim: The claim.
            refs: Its cgroups; None: to be found.
        """
        found = refs or ()
        try:
            found = self.finder.refs_of(claim) if refs is None else refs
            undone = self._undo(claim, found)
        except Exception as err:  # whatever it is, it is about this claim
            undone = Undone(whole=False, message=told(err))
            extra = {"container": claim.container, "error": undone.message}
            log.warning("undo failed", extra=extra, exc_info=not isinstance(err, OSError))
        if undone.whole:
            self.state.undoing.pop(claim.container, None)
            self.ended()
        else:
            # What goes on executing programs meanwhile has them written down, too.
            self.parts.census.take(claim.container, lambda: found)
            before = self.state.undoing.get(claim.container, "")
            self.state.undoing[claim.container] = undone.message or before
        return undone.whole

    def _undo(self, claim: Claim, refs: tuple[CgroupRef, ...]) -> Undone:
        self.going_back.end(claim.container)
        undone = self.parts.undo(claim, refs, is_whole=self.finder.is_whole)
        if undone.whole:
            self.going_back.stop(claim.container)
        return undone
