# SPDX-License-Identifier: Apache-2.0
"""Who takes turns with memplace, region by region of one container; see `flapping`. Pure.

What is remembered of a process is bounded. A region counts from when it was first seen in its
place: what is not there yet can't be disturbed. When there is no room for another one, regions
that nobody disturbs are forgotten first. While all of them are disturbed, others are left where
they are: nobody could tell how often they were put right.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from memplace.kinds import Policy
from memplace.policy import Move, Plan, Step

from memplace_agent.engine.flapping import Flapping, Verdict

# Regions of one process that are remembered, and as many that are to come to their place.
_MOST = 1024

# A process, a rule, and where the region starts.
_Key = tuple[int, str, int]


@dataclass(slots=True)
class _Process:
    # Regions that were in their place, the one that was seen longest ago first.
    known: dict[_Key, None] = field(default_factory=dict)
    # Of these what was not seen in its place since it was to be done, or is contended: the
    # others have nothing new to tell until there is something to do again.
    open: dict[_Key, Step | Move] = field(default_factory=dict)
    # What was to be done, and was not seen in its place yet; the latest.
    new: dict[_Key, Step | Move] = field(default_factory=dict)
    # What may be forgotten for others, as of a time.
    spare: deque[_Key] = field(default_factory=deque)
    spare_at: float = float("-inf")
    # What was left where it is for want of room, by the last plan and of the last look.
    left_policies: int = 0
    left_moves: int = 0


@dataclass(slots=True)
class Contention:
    """What had to be done again in the processes of a container."""

    _flapping: Flapping[_Key] = field(default_factory=Flapping)
    _processes: dict[int, _Process] = field(default_factory=dict)
    _contended: dict[_Key, Verdict] = field(default_factory=dict)

    def taker(self, identity: int, now: float) -> Callable[[Step], bool]:
        """Return a function that tells whether the program's own policy is overridden now."""
        process = self._of(identity)
        process.left_policies = 0

        def may_take(step: Step) -> bool:
            may = self._to_do(identity, step, now, found=step.previous, misplaced=0)
            if may is None:
                process.left_policies += 1
            return bool(may)

        return may_take

    def after(self, identity: int, plan: Plan, now: float) -> tuple[Move, ...]:
        """Take note of what is left to do in a process; returns the moves that are due."""
        process = self._of(identity)
        todo: tuple[Step | Move, ...] = (*plan.moves, *plan.policies)
        self._settle(process, {(identity, each.rule, each.start) for each in todo}, now)
        may = [
            self._to_do(identity, move, now, found=move.policy, misplaced=move.bytes)
            for move in plan.moves
        ]
        process.left_moves = may.count(None)
        return tuple(move for move, is_due in zip(plan.moves, may, strict=True) if is_due)

    def keep(self, identities: Collection[int]) -> None:
        """Forget all processes but these."""
        for identity in self._processes.keys() - set(identities):
            self._forget(list(self._processes.pop(identity).known))

    @property
    def message(self) -> str:
        """Who fights over how many regions, for people; empty when nobody does."""
        left = sum(each.left_policies + each.left_moves for each in self._processes.values())
        parts = []
        if self._contended:
            (_, rule, _), verdict = next(iter(self._contended.items()))
            parts.append(f"rule {rule}: {len(self._contended)} regions were {verdict.message}")
        if left:
            parts.append(
                f"{left} other regions are left where they are, since {_MOST} regions of their "
                "process were disturbed"
            )
        return "; ".join(parts)

    def _of(self, identity: int) -> _Process:
        return self._processes.setdefault(identity, _Process())

    def _settle(self, process: _Process, todo: Collection[_Key], now: float) -> None:
        # What is not to be done any more is in its place.
        for key in [key for key in process.open if key not in todo]:
            item = process.open[key]
            self._see(process, key, item, now, found=item.policy, misplaced=0)
            if key not in self._contended:
                del process.open[key]
        for key in [key for key in process.new if key not in todo]:
            item = process.new.pop(key)
            if self._has_room(process, now):
                if len(process.known) >= _MOST:
                    gone = process.spare.popleft()
                    del process.known[gone]
                    process.open.pop(gone, None)
                    self._forget([gone])
                self._see(process, key, item, now, found=item.policy, misplaced=0)

    def _to_do(
        self, identity: int, item: Step | Move, now: float, *, found: Policy, misplaced: int
    ) -> bool | None:
        # Returns whether it may be done now; None if nobody could tell how often it was.
        process, key = self._of(identity), (identity, item.rule, item.start)
        if key in process.known:
            process.open[key] = item
            return self._see(process, key, item, now, found=found, misplaced=misplaced)
        if not self._has_room(process, now):
            process.new.pop(key, None)
            return None
        if key not in process.new and len(process.new) >= _MOST:
            del process.new[next(iter(process.new))]
        process.new[key] = item
        return True

    def _see(
        self,
        process: _Process,
        key: _Key,
        item: Step | Move,
        now: float,
        *,
        found: Policy,
        misplaced: int,
    ) -> bool:
        process.known.pop(key, None)
        process.known[key] = None
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

    def _has_room(self, process: _Process, now: float) -> bool:
        if len(process.known) < _MOST:
            return True
        if process.spare_at != now:
            process.spare_at, process.spare = now, deque(process.known)
        while process.spare and not self._flapping.is_calm(process.spare[0], now):
            process.spare.popleft()
        return bool(process.spare)

    def _forget(self, keys: Collection[_Key]) -> None:
        self._flapping.forget(keys)
        for key in keys:
            self._contended.pop(key, None)
