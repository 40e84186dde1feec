# SPDX-License-Identifier: Apache-2.0
"""What the reconciler works with, put together by `build`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from memplace.assignment import PlacementIndex
from memplace.claims import Claim
from memplace.errors import FeatureUnavailable
from memplace.objects import object_of

from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.duelist import DueList
from memplace_agent.engine.expected import Table, expected
from memplace_agent.engine.explaining import Explainer
from memplace_agent.engine.look import Looker
from memplace_agent.engine.objects import Objects
from memplace_agent.engine.pulse import Pulse
from memplace_agent.engine.undo import Undoer, Undone
from memplace_agent.hostfs import HostFs
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.metrics import Metrics
from memplace_agent.node.machine import Machine
from memplace_agent.world import World

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a reconciler works with.

    `keeps_defaults`: the kernel has MPOL_MF_FUTURE. `publish` takes what is expected of
    containers that are not there yet, and where their claims are kept.
    """

    node_name: str
    host: HostFs
    store: LedgerStore
    looker: Looker
    undoer: Undoer
    objects: Objects
    due: DueList
    pulse: Pulse
    metrics: Metrics
    unsupported: FeatureUnavailable | None
    keeps_defaults: bool = False
    explainer: Explainer = field(default_factory=Explainer)
    clock: Callable[[], float] = time.monotonic
    cost: Callable[[], float] = time.perf_counter
    tick: Callable[[], None] = lambda: None
    publish: Callable[[Table, LedgerStore], None] = lambda *_: None

    def undo(self, claim: Claim, refs: tuple[CgroupRef, ...], *, is_whole: bool) -> Undone:
        """Give back what a claim speaks of: of a container, or of an object.

        Args:
            claim: The claim.
            refs: The cgroups of its container.
            is_whole: Whether there are no others.
        """
        if object_of(claim.container):
            return Undone(*self.objects.undo(claim))
        if not refs and not is_whole:
            return Undone(whole=False, message="the tree of cgroups could not be read whole")
        return self.undoer.undo(claim, refs)

    def expect(self, world: World, placements: PlacementIndex, machine: Machine) -> None:
        """Publish what the pods of a world imply, where the kernel can keep it."""
        if self.keeps_defaults and self.unsupported is None:
            self.publish(expected(world, placements, machine), self.store)
