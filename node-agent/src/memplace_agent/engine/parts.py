# SPDX-License-Identifier: Apache-2.0
"""What the reconciler works with, put together by `build`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from memplace.assignment import PlacementIndex
from memplace.errors import FeatureUnavailable

from memplace_agent.engine.duelist import DueList
from memplace_agent.engine.expected import Table, expected
from memplace_agent.engine.explaining import Explainer
from memplace_agent.engine.look import Looker
from memplace_agent.engine.pulse import Pulse
from memplace_agent.engine.shims import Shims
from memplace_agent.engine.undo import Undoer
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
    shims: Shims
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

    def expect(self, world: World, placements: PlacementIndex, machine: Machine) -> list[str]:
        """Publish what the pods of a world imply, where the kernel can keep it.

        Returns:
            The shims that are to be looked at for it.
        """
        if not self.keeps_defaults or self.unsupported is not None:
            return []
        table = expected(world, placements, machine)
        self.publish(table, self.store)
        return self.shims.expect(table)

    def expect_nothing(self) -> None:
        """Publish that what comes is no matter of memplace's any more."""
        self.shims.expect({})
        self.publish({}, self.store)
