# SPDX-License-Identifier: Apache-2.0
"""What the reconciler works with, put together by `build`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from memplace.api.v1alpha1 import Placement
from memplace.assignment import PlacementIndex, View
from memplace.backends import Act, act_for
from memplace.claims import Claim
from memplace.errors import FeatureUnavailable
from memplace.kinds import Capability
from memplace.objects import object_of

from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.census import Census
from memplace_agent.engine.duelist import DueList
from memplace_agent.engine.expected import Table, expected
from memplace_agent.engine.explainer import Explainer
from memplace_agent.engine.look import Looker
from memplace_agent.engine.objects import Objects
from memplace_agent.engine.pressures import Pressures
from memplace_agent.engine.pulse import Pulse
from memplace_agent.engine.shims import Shims
from memplace_agent.engine.undo import Undoer, Undone
from memplace_agent.hostfs import HostFs
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.metrics import Metrics
from memplace_agent.node.machine import Machine
from memplace_agent.node.senses import SensesLike
from memplace_agent.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a reconciler works with.

    `can`: what the node's backend can; `unsupported`: why it can't set policies. `publish`
    takes what is expected of containers that are not there yet, and where their claims are kept.
    """

    node_name: str
    host: HostFs
    store: LedgerStore
    looker: Looker
    undoer: Undoer
    census: Census
    shims: Shims
    objects: Objects
    due: DueList
    pulse: Pulse
    pressures: Pressures
    metrics: Metrics
    senses: SensesLike
    unsupported: FeatureUnavailable | None
    can: frozenset[Capability]
    explainer: Explainer = field(default_factory=Explainer)
    clock: Callable[[], float] = time.monotonic
    cost: Callable[[], float] = time.perf_counter
    tick: Callable[[], None] = lambda: None
    publish: Callable[[Table, LedgerStore], None] = lambda *_: None

    def expect(
        self,
        world: World,
        placements: PlacementIndex,
        machine: Machine,
        closed: Collection[tuple[str, str]] = (),
    ) -> list[str]:
        """Publish what the pods of a world imply, where the kernel can keep it; see `expected`.

        Returns:
            The shims that are to be looked at for it.
        """
        if Capability.DEFAULTS not in self.can:
            return []
        table = expected(world, placements, machine, closed)
        self.publish(table, self.store)
        return self.shims.expect(table)

    def expect_nothing(self) -> None:
        """Publish that what comes is no matter of memplace's any more."""
        self.shims.expect({})
        self.publish({}, self.store)

    def act_for(self, placement: Placement) -> Act:
        """Return what is done for a placement on this node."""
        return act_for(placement.spec, self.can, waits=placement.waits)

    def acts(self, view: View) -> dict[str, Act]:
        """Return what is done to containers that follow a placement, of those it is done to."""
        found = view.assignments.items()
        acts = {id_: self.act_for(assignment.winner) for id_, assignment in found}
        return {id_: act for id_, act in acts.items() if act is not Act.LEAVE}

    def undo(self, claim: Claim, refs: tuple[CgroupRef, ...], *, is_whole: bool) -> Undone:
        """Give back what a claim speaks of: a container, a pod's shim, or an object.

        Args:
            claim: The claim.
            refs: The cgroups of its container, or of the shim's pod.
            is_whole: Whether there are no others.
        """
        if object_of(claim.container):
            return Undone(*self.objects.undo(claim))
        if not refs and not is_whole:
            return Undone(whole=False, message="the tree of cgroups could not be read whole")
        return (self.shims if claim.process else self.undoer).undo(claim, refs)
