# SPDX-License-Identifier: Apache-2.0
"""Mappings are given the policy that their objects have, before pages are moved through them.

A call that moves some pages sets the policy on their part of the mapping, too: where the mapping
has none, as another process has set the object's, that would cut it in pieces.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from memplace.claims import Change
from memplace.kinds import Policy
from memplace.policy import Move

from memplace_agent.containers.pinning import Pinned
from memplace_agent.engine.hands import Hands
from memplace_agent.engine.meant import Meant


@dataclass(slots=True)
class Covering:
    """See the module; for one thread."""

    hands: Hands
    # By process, the mappings that were given their object's policy as a whole.
    _covered: dict[int, set[tuple[int, int, Policy]]] = field(default_factory=dict)

    def cover(
        self, pinned: Pinned, group: str, meant: Meant, moves: Iterable[tuple[Move, Policy]]
    ) -> None:
        """Cover the mappings of objects that pages are to be moved through.

        Args:
            pinned: The process.
            group: Who pays for threads that it loses.
            meant: What it has mapped.
            moves: Each with the policy that its object has; others are left alone.

        Raises:
            ProcessGone: It ended.
            Stuck: It did not let a call finish in time.
        """
        known = self._covered.get(pinned.identity, set())
        new = {(m.start, m.end, policy) for m, policy in moves if m.object is not None} - known
        if new:
            changes = [Change(start=low, end=high, policy=policy) for low, high, policy in new]
            self.hands.set(pinned, group, changes, meant)
            self._covered[pinned.identity] = known | new

    def forget(self, identity: int) -> None:
        """Forget a process that ended."""
        self._covered.pop(identity, None)

    def keep(self, identities: Collection[int]) -> None:
        """Forget all processes but these."""
        for identity in self._covered.keys() - set(identities):
            del self._covered[identity]
