# SPDX-License-Identifier: Apache-2.0
"""What containers are to have by the placements they follow, on this node as it is. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from memplace.api.v1alpha1 import Placement
from memplace.backends import act_for
from memplace.future import implied_future
from memplace.kinds import Capability
from memplace.limits import UNLIMITED, Limited
from memplace.matching import Matcher

from memplace_agent.engine.placer import Wanted
from memplace_agent.node.machine import Machine


@dataclass(slots=True)
class Wants:
    """Knows for each placement what was wanted last: its rules are compiled once.

    Attributes:
        can: What the node's backend can.
    """

    can: frozenset[Capability]
    _last: dict[str, Wanted] = field(default_factory=dict)

    def keep(self, uids: Collection[str]) -> None:
        """Forget all placements but these."""
        self._last = {uid: known for uid, known in self._last.items() if uid in uids}

    def of(
        self,
        container_id: str,
        placement: Placement,
        machine: Machine,
        limited: Limited = UNLIMITED,
    ) -> Wanted:
        """Return what a container is to have that follows a placement."""
        known = self._last.get(placement.uid)
        if known is None or not known.placement.spec.asks_as(placement.spec):
            matcher = Matcher(placement.spec.rules)
            keeps_defaults = Capability.DEFAULTS in self.can
            future = implied_future(matcher.rules) if keeps_defaults else None
        else:
            matcher, future = known.matcher, known.future
        act = act_for(placement.spec, self.can, waits=placement.waits)
        wanted = self._last[placement.uid] = Wanted(
            placement=placement,
            matcher=matcher,
            container_id=container_id,
            tiers=machine.tiers,
            known_tiers=machine.known_tiers,
            weights=machine.weights,
            max_mappings=machine.max_mappings,
            future=future if act.changes else None,
            act=act,
            can_set=Capability.POLICIES in self.can,
            limited=limited,
        )
        return wanted
