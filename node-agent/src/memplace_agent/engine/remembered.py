# SPDX-License-Identifier: Apache-2.0
"""Which policies a process had when they were last read, where a look does not tell them. Pure.

Kernels without a policy in PROCMAP_QUERY show policies in numa_maps only, which walks page
tables. Between two of these rare looks a mapping is taken to have what its range had, and
what was set on it since; a new one to have none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from memplace.claims import DEFAULT, Change
from memplace.kinds import Policy
from memplace.regions import Region
from msgspec import structs

_Range = tuple[int, int, Policy]


@dataclass(frozen=True, slots=True)
class Remembered:
    """Ranges with a policy of their own, ascending, not overlapping."""

    ranges: tuple[_Range, ...] = ()

    def note(self, changes: Iterable[Change]) -> Remembered:
        """Return what is remembered once these were set, one after the other."""
        ranges: Iterable[_Range] = self.ranges
        for run in _runs(changes):
            ranges = _noted(ranges, run)
        return Remembered(tuple(ranges))

    def recall(self, regions: Iterable[Region]) -> tuple[Region, ...]:
        """Return regions with the policies they are taken to have."""
        return tuple(self._recalled(region) for region in regions)

    def _recalled(self, region: Region) -> Region:
        at = bisect_right(self.ranges, region.start, key=lambda item: item[0]) - 1
        if at < 0 or self.ranges[at][1] < region.end:
            return region
        return structs.replace(region, policy=self.ranges[at][2], own=True)


def _runs(changes: Iterable[Change]) -> Iterator[list[Change]]:
    # Changes come ascending, or as a few such lists: each takes one pass, not one per change.
    run: list[Change] = []
    for change in changes:
        if run and change.start < run[-1].end:
            yield run
            run = []
        run.append(change)
    if run:
        yield run


def _noted(ranges: Iterable[_Range], run: Sequence[Change]) -> list[_Range]:
    ends = [change.end for change in run]
    new = [(c.start, c.end, c.policy) for c in run if c.policy != DEFAULT]
    for low, high, policy in ranges:
        at, first = bisect_right(ends, low), low
        while at < len(run) and run[at].start < high:
            if first < run[at].start:
                new.append((first, run[at].start, policy))
            first = run[at].end
            at += 1
        if first < high:
            new.append((first, high, policy))
    return sorted(new, key=lambda item: item[0])
