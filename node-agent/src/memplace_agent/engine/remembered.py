# SPDX-License-Identifier: Apache-2.0
"""Which policies a process had when they were last read, where a look does not tell them. Pure.

Kernels without a policy in PROCMAP_QUERY show policies in numa_maps only, which walks page
tables. Between two of these rare looks a mapping is taken to have what its range had, and
what was set on it since; a new one to have none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from memplace.claims import DEFAULT, Change
from memplace.kinds import Policy
from memplace.regions import Region

__all__ = ["Remembered"]

_Range = tuple[int, int, Policy]


@dataclass(slots=True)
class Remembered:
    """Ranges with a policy of their own, ascending, not overlapping."""

    ranges: list[_Range] = field(default_factory=list)

    @classmethod
    def of(cls, regions: Iterable[Region]) -> Remembered:
        """Remember what was read; regions in ascending order."""
        return cls([(r.start, r.end, r.policy) for r in regions if r.own])

    def note(self, changes: Iterable[Change]) -> None:
        """Take up what was set."""
        for change in changes:
            before = [r for old in self.ranges for r in _outside(old, change.start, change.end)]
            new = [] if change.policy == DEFAULT else [(change.start, change.end, change.policy)]
            self.ranges = sorted([*before, *new], key=lambda item: item[0])

    def recall(self, regions: Iterable[Region]) -> tuple[Region, ...]:
        """Return regions with the policies they are taken to have."""
        return tuple(self._recalled(region) for region in regions)

    def _recalled(self, region: Region) -> Region:
        at = bisect_right(self.ranges, region.start, key=lambda item: item[0]) - 1
        if at < 0 or self.ranges[at][1] < region.end:
            return region
        return replace(region, policy=self.ranges[at][2], own=True)


def _outside(old: _Range, start: int, end: int) -> list[_Range]:
    low, high, policy = old
    if high <= start or end <= low:
        return [old]
    parts = [(low, start, policy), (end, high, policy)]
    return [part for part in parts if part[0] < part[1]]
