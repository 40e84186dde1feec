# SPDX-License-Identifier: Apache-2.0
"""Which backend a node has, and why not a better one. Pure: from what was tried on the node."""

from __future__ import annotations

from dataclasses import dataclass

from memplace.api.v1alpha1 import BackendName
from memplace.errors import FeatureUnavailable
from memplace.kinds import Capability

from memplace_agent.backends.move_pages import MovePages
from memplace_agent.backends.observe import Nothing, Observe
from memplace_agent.backends.process_mbind import ProcessMbind
from memplace_agent.backends.protocol import Backend
from memplace_agent.syscalls.features import Features

_BEST_FIRST: tuple[type[Backend], ...] = (ProcessMbind, MovePages, Observe, Nothing)

_INSTEAD = {
    BackendName.MOVE_PAGES: "Placements with onUnsupported: BestEffort have their pages moved here",
    BackendName.OBSERVE: "Placements that do not say onUnsupported: Fail are measured here",
}


_WALKS = (
    "This kernel tells policies of processes in numa_maps alone, which walks page tables: it is "
    "read rarely, and a policy that a program changes itself may be noticed late."
)


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend, and why not a better one.

    Attributes:
        kind: The backend.
        can: What it can on this node.
        better: The backends that would be better, best first, each with what is in the way.
        found: What is said of process_mbind() itself.
        walks: Policies can be read only by a walk of page tables.
        warning: What else moves pages here, or makes the agent slow; empty when nothing does.
    """

    kind: type[Backend]
    can: frozenset[Capability]
    better: tuple[tuple[BackendName, FeatureUnavailable], ...]
    found: str
    warning: str = ""
    walks: bool = False

    @property
    def name(self) -> BackendName:
        """As NodeMemory spells it."""
        return self.kind.name

    @property
    def is_sticky(self) -> bool:
        """Whether pages to come stay on their tier."""
        return Capability.POLICIES in self.can

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """What it can, from the least on."""
        return tuple(one for one in Capability if one in self.can)

    @property
    def message(self) -> str:
        """Why it is this one, what to change for a better one, and what is done meanwhile."""
        # Of the best one people hear more: what to do about it. What is in the way of several
        # is said once.
        parts, told = [self.found], {str(error) for _, error in self.better[:1]}
        parts += [f"{name}: {err}" for name, err in self.better[1:] if str(err) not in told]
        parts.append(f"{_INSTEAD[self.name]}." if self.name in _INSTEAD else "")
        parts.append(_WALKS if self.walks and Capability.MEASURES in self.can else "")
        if self.warning and Capability.MOVES in self.can and not self.is_sticky:
            parts.append(f"Beware: {self.warning}. No policy keeps pages where they are here.")
        return " ".join(part for part in parts if part)


def choose(features: Features) -> Choice:
    """Choose the best backend that a node can have."""
    better: list[tuple[BackendName, FeatureUnavailable]] = []
    for kind in _BEST_FIRST:
        error = kind.why_not(features)
        if error is None:
            break
        better.append((kind.name, error))
    can = kind.offers(features)
    return Choice(kind, can, tuple(better), features.message, features.warning, features.walks)
