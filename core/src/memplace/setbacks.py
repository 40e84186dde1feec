# SPDX-License-Identifier: Apache-2.0
"""What did not work, and when to try it again: a memory of ranges of address spaces."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_DELAY_S = 30.0
LAST_DELAY_S = 3600.0

# Of one key; beyond that, what is due soonest is forgotten and tried as if for the first
# time. More would be a program whose pages are pinned here and there all over.
_MOST = 4096


def next_delay(delay: float, first: float = FIRST_DELAY_S, last: float = LAST_DELAY_S) -> float:
    """Return how long to wait after another failure: twice as long, from first to last."""
    return min(last, max(first, 2 * delay))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """A range ``[start, end)`` that is left alone until a time.

    Attributes:
        start: First address.
        end: First address after it.
        until: When it may be tried again.
        delay: For how long it was put off.
        tries: How often in a row it failed.
        why: What failed, one word.
        bytes: Bytes in it that are still where they should not be.
    """

    start: int
    end: int
    until: float
    delay: float
    tries: int
    why: str
    bytes: int = 0


class Setbacks(Generic[Key]):
    """Ranges that failed, per key (a process, say); those of one key do not overlap.

    A range that fails again is put off for twice as long, 30 s to one hour; one that only
    overlaps an earlier one counts as the same. A range that works is forgotten.
    """

    def __init__(self) -> None:
        self._known: dict[Key, list[Setback]] = {}

    def add(
        self,
        key: Key,
        start: int,
        end: int,
        *,
        why: str,
        now: float,
        left: int = 0,
        most: int = _MOST,
    ) -> Setback:
        """Note that a range failed; `left` bytes of it are still misplaced.

        Of the key no more than `most` ranges are known afterwards, nor more than 4,096.
        """
        before = self._cut_out(key, start, end)
        delay = next_delay(max((old.delay for old in before), default=0.0))
        new = Setback(
            start=start,
            end=end,
            until=now + delay,
            delay=delay,
            tries=1 + max((old.tries for old in before), default=0),
            why=why,
            bytes=left,
        )
        known = self._known.setdefault(key, [])
        known.insert(_index(known, start), new)
        if (over := len(known) - min(most, _MOST)) > 0:
            soonest = set(nsmallest(over, known, key=lambda old: old.until))
            self._known[key] = [old for old in known if old not in soonest]
        return new

    def clear(self, key: Key, start: int, end: int) -> None:
        """Forget what failed in a range: it worked."""
        self._cut_out(key, start, end)

    def forget(self, key: Key) -> None:
        """Forget a key."""
        self._known.pop(key, None)

    def keep(self, keys: Collection[Key]) -> None:
        """Forget all keys but these."""
        self._known = {key: known for key, known in self._known.items() if key in keys}

    def open_parts(self, key: Key, start: int, end: int, now: float) -> list[tuple[int, int]]:
        """Return the parts of a range that may be tried now, ascending."""
        parts = []
        for old in self._overlapping(key, start, end):
            if old.until > now:
                if old.start > start:
                    parts.append((start, old.start))
                start = max(start, old.end)
        if start < end:
            parts.append((start, end))
        return parts

    def next_time(self, key: Key, start: int, end: int, now: float) -> float:
        """Return when the first put-off part of a range is due; now if there is none."""
        held = (old.until for old in self._overlapping(key, start, end) if old.until > now)
        return min(held, default=now)

    def of(self, key: Key) -> tuple[Setback, ...]:
        """Return what is known of a key, ascending."""
        return tuple(self._known.get(key, ()))

    def _overlapping(self, key: Key, start: int, end: int) -> Iterator[Setback]:
        known = self._known.get(key, [])
        index = max(0, _index(known, start) - 1)
        while index < len(known) and known[index].start < end:
            if known[index].end > start:
                yield known[index]
            index += 1

    def _cut_out(self, key: Key, start: int, end: int) -> list[Setback]:
        known = self._known.get(key)
        if not known:
            return []
        hit = list(self._overlapping(key, start, end))
        rest = [old for old in known if old not in hit] if hit else known
        for old in hit:
            rest += [
                replace(old, start=low, end=high, bytes=_share(old, low, high))
                for low, high in ((old.start, min(old.end, start)), (max(old.start, end), old.end))
                if low < high
            ]
        if rest:
            self._known[key] = sorted(rest, key=lambda old: old.start)
        else:
            del self._known[key]
        return hit


def _share(old: Setback, low: int, high: int) -> int:
    return old.bytes * (high - low) // (old.end - old.start)


def _index(known: list[Setback], start: int) -> int:
    return bisect_left(known, start, key=lambda old: old.start)
