# SPDX-License-Identifier: Apache-2.0
"""Who takes turns with memplace, region by region of one container; see `flapping`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from memplace.kinds import Policy
from memplace.policy import Move, Plan, Step

from memplace_agent.engine.flapping import Flapping, Verdict

# Regions of one process that are remembered: a program that moves more is not looked at
# region by region.
_MOST = 1024

# A process, a rule, and where the region starts.
_Key = tuple[int, str, int]


@dataclass(slots=True)
class Contention:
    """What had to be done again in the processes of a container."""

    _flapping: Flapping[_Key] = field(default_factory=Flapping)
    _known: dict[int, set[_Key]] = field(default_factory=dict)
    # Of these what was not seen in its place since it was to be done, or is contended: the
    # others have nothing new to tell until there is something to do again.
    _open: dict[int, dict[_Key, Step | Move]] = field(default_factory=dict)
    _contended: dict[_Key, Verdict] = field(default_factory=dict)

    def taker(self, identity: int, now: float) -> Callable[[Step], bool]:
        """Return a function that tells whether the program's own policy is overridden now."""

        def may_take(step: Step) -> bool:
            return self._see(identity, step, now, found=step.previous, misplaced=0)

        return may_take

    def after(self, identity: int, plan: Plan, now: float) -> tuple[Move, ...]:
        """Take note of what is left to do in a process; returns the moves that are due."""
        todo: tuple[Step | Move, ...] = (*plan.moves, *plan.policies)
        open_keys = {(identity, each.rule, each.start) for each in todo}
        for key, item in list(self._open.get(identity, {}).items()):
            if key not in open_keys:
                self._see(identity, item, now, found=item.policy, misplaced=0)
                if key not in self._contended:
                    del self._open[identity][key]
        return tuple(
            move
            for move in plan.moves
            if self._see(identity, move, now, found=move.policy, misplaced=move.bytes)
        )

    def keep(self, identities: Collection[int]) -> None:
        """Forget all processes but these."""
        for identity in self._known.keys() - set(identities):
            keys = self._known.pop(identity)
            self._open.pop(identity, None)
            self._flapping.forget(keys)
            for key in keys:
                self._contended.pop(key, None)

    @property
    def message(self) -> str:
        """Who fights over how many regions, for people; empty when nobody does."""
        if not self._contended:
            return ""
        (_, rule, _), verdict = next(iter(self._contended.items()))
        return f"rule {rule}: {len(self._contended)} regions were {verdict.message}"

    def _see(
        self, identity: int, item: Step | Move, now: float, *, found: Policy, misplaced: int
    ) -> bool:
        key = (identity, item.rule, item.start)
        known = self._known.setdefault(identity, set())
        if key not in known and len(known) >= _MOST:
            return True
        known.add(key)
        self._open.setdefault(identity, {})[key] = item
        verdict = self._flapping.see(
            key,
            wanted=item.policy,
            found=found,
            own=True,
            misplaced=misplaced,
            size=item.end - item.start,
            now=now,
        )
        if verdict.contended:
            self._contended[key] = verdict
        else:
            self._contended.pop(key, None)
        return verdict.act
