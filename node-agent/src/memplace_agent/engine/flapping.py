# SPDX-License-Identifier: Apache-2.0
"""Notice what has to be done again and again, and stop taking turns. Pure.

A program that binds its buffers itself, reclaim that demotes, NUMA balancing that
promotes: whoever comes last wins, at the cost of the program. So a region that was in
place and is not any more is put right, each time after twice as long, and from the third
time on it counts as contended.

    verdict = flapping.see(key, wanted=rule_policy, found=region.policy, own=region.own,
                           misplaced=misplaced_bytes, size=resident_bytes, now=clock())
    if verdict.act: ...  # put it right
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeVar

from memplace.kinds import Mode, Policy
from memplace.setbacks import next_delay

Key = TypeVar("Key", bound=Hashable)

CONTENDED_AFTER = 3

_FIRST_DELAY_S = 60.0

# In place for so long without being disturbed: whoever took turns has stopped.
_FORGOTTEN_AFTER_S = 7200.0

# Who took a turn or two, and none since, has most likely stopped; enough to make room for others.
_CALM_AFTER_S = 600.0

# What a running program or a page at the wrong moment can make of a region in place.
_NOISE_BYTES = 1 << 20
_NOISE_SHARE = 0.01


class Cause(StrEnum):
    """What had to be done again."""

    POLICY = "the program sets another policy"
    PAGES = "pages are moved away (demotion, NUMA balancing, or the program itself)"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about a region.

    Attributes:
        act: It may be worked on now; also true when there is nothing to do.
        contended: Somebody takes turns with memplace.
        times: How often it had to be done again.
        cause: What was done again last; None if nothing was.
    """

    act: bool
    contended: bool = False
    times: int = 0
    cause: Cause | None = None

    @property
    def message(self) -> str:
        """For people; empty while there is nothing to say."""
        if not self.contended:
            return ""
        return f"done again {self.times} times, since {self.cause}; tried ever more rarely"


@dataclass(frozen=True, slots=True)
class _History:
    wanted: Policy
    in_place: bool = False
    times: int = 0
    delay: float = 0.0
    begin: float = 0.0  # it may be put right from then on, until it is in place again
    last: float = 0.0
    cause: Cause | None = None


class Flapping(Generic[Key]):
    """Counts per region; a key names a process, a rule and where the region starts."""

    def __init__(self) -> None:
        self._known: dict[Key, _History] = {}

    def see(
        self,
        key: Key,
        *,
        wanted: Policy,
        found: Policy,
        own: bool,
        misplaced: int,
        size: int,
        now: float,
    ) -> Verdict:
        """Take note of a region as it was read, and say what to do.

        Args:
            key: Which region.
            wanted: The policy it should have.
            found: The policy it shows.
            own: The policy is the mapping's own, not that of the task.
            misplaced: Resident bytes that should be elsewhere.
            size: Resident bytes.
            now: Seconds of a clock that never runs backwards.
        """
        known = self._known.get(key)
        if known is None or known.wanted != wanted:
            known = _History(wanted)
        elif now - known.last > _FORGOTTEN_AFTER_S:
            known = _History(wanted, known.in_place)
        if found != wanted and (not own or found.mode is Mode.DEFAULT):
            # Without a policy of its own it is a new mapping at this address.
            known = _History(wanted)
        elif known.in_place and (cause := _disturbed(wanted, found, misplaced, size)):
            known = _again(known, cause, now)
        elif found == wanted and not misplaced:
            known = replace(known, in_place=True)
        self._known[key] = known
        contended = known.times >= CONTENDED_AFTER
        return Verdict(known.in_place or known.begin <= now, contended, known.times, known.cause)

    def is_calm(self, key: Key, now: float) -> bool:
        """Return whether a region is in its place and not disturbed: to forget it does no harm."""
        known = self._known.get(key)
        if known is None or not known.in_place:
            return known is None
        if known.times >= CONTENDED_AFTER:
            return now - known.last > _FORGOTTEN_AFTER_S
        return not known.times or now - known.begin >= _CALM_AFTER_S

    def forget(self, keys: Iterable[Key]) -> None:
        """Forget regions that are gone."""
        for key in keys:
            self._known.pop(key, None)


def _again(known: _History, cause: Cause, now: float) -> _History:
    return replace(
        known,
        in_place=False,
        times=known.times + 1,
        delay=next_delay(known.delay, first=_FIRST_DELAY_S),
        begin=max(now, known.begin + known.delay),
        last=now,
        cause=cause,
    )


def _disturbed(wanted: Policy, found: Policy, misplaced: int, size: int) -> Cause | None:
    if found != wanted:
        return Cause.POLICY
    if misplaced > max(_NOISE_BYTES, _NOISE_SHARE * size):
        return Cause.PAGES
    return None
