# SPDX-License-Identifier: Apache-2.0
"""Nodes that are taken step by step: agents that obey, an operator's memory, and a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from memplace.api.v1alpha1 import Placement, PlacementStatus, Rollout, RolloutStatus
from memplace.reasons import Reason
from memplace.rollout import position, waits
from memplace_operator.pauses import Pauses
from memplace_operator.pressed import Fare
from memplace_operator.rollout import Progress, progress_of
from memplace_operator.verdicts import Verdict
from msgspec import UNSET

from tests.unit.operator_pkg.worlds import NOW, placement

NAMES = [f"n{i}" for i in range(12)]
ORDER = sorted(NAMES, key=lambda name: position("uid-mp", name))
PLACED, WAITING = Verdict(Reason.PLACED), Verdict(Reason.AWAITING_ROLLOUT)
MOVING, FULL = Verdict(Reason.MOVING), Verdict(Reason.TIER_FULL, "no room")
SILENT, CONFLICT = Verdict(Reason.AGENT_NOT_REPORTING), Verdict(Reason.CONFLICT, "has it")
UNSUPPORTED = Verdict(Reason.UNSUPPORTED)


def asking(max_nodes: int | str = 1, **fields: Any) -> Placement:
    return placement(rollout=Rollout(max_nodes, **fields))


@dataclass
class Site:
    """Nodes with agents that obey, an operator's memory, and a clock."""

    placement: Placement
    fares: dict[str, Verdict] = field(default_factory=dict)
    pauses: Pauses = field(default_factory=Pauses)
    now: float = 1000.0

    def judge(self, *of_the_spec: Verdict) -> Progress:
        quiet_s = self.pauses.quiet_s(self.placement, self.now)
        found = progress_of(self.placement, self.told, of_the_spec, quiet_s=quiet_s, now=NOW)
        assert found is not None
        self.pauses.judged(self.placement, found.status, self.now)
        self.write(found.status)
        return found

    def begin(self) -> None:
        """Have the first step released."""
        self.judge()
        asked = self.placement.spec.rollout
        assert asked is not UNSET
        self.pass_time(asked.pause_s)

    def write(self, rollout: RolloutStatus | None) -> None:
        status = PlacementStatus(rollout=rollout)
        self.placement = msgspec.structs.replace(self.placement, status=status)

    @property
    def told(self) -> list[Fare]:
        """A pod on each node."""
        return [Fare(name, each, f"uid-{name}", f"p-{name}") for name, each in self.fares.items()]

    @property
    def released(self) -> list[str]:
        return [name for name in ORDER if not waits(self.placement, name)]

    def work(self) -> None:
        """Be the agents: those that may act place, the others wait."""
        for name in self.fares:
            self.fares[name] = WAITING if waits(self.placement, name) else PLACED

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.judge()


def site(count: int = 4, max_nodes: int | str = 1, **fields: Any) -> Site:
    return Site(asking(max_nodes, **fields), dict.fromkeys(ORDER[:count], WAITING))
