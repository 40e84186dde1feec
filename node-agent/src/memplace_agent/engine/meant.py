# SPDX-License-Identifier: Apache-2.0
"""What calls that set policies are meant for, and what they hit instead. Pure.

A program may map something else between the read and the call, or execute another program.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from memplace.claims import DEFAULT, Change
from memplace.regions import Region


@dataclass(slots=True)
class Meant:
    """Mappings of a process as they were read.

    Attributes:
        image: Of the process, see `memplace.claims.Process`.
        regions: Ascending; at least those that calls are made for.
    """

    image: int
    regions: Sequence[Region]
    _ends: list[int] | None = None

    def at(self, change: Change) -> Iterator[Region]:
        """Yield the mappings in the range of a change."""
        if self._ends is None:
            self._ends = [region.end for region in self.regions]
        index = bisect_right(self._ends, change.start)
        while index < len(self.regions) and self.regions[index].start < change.end:
            yield self.regions[index]
            index += 1

    def is_private(self, change: Change) -> bool:
        """Return whether all that is mapped in the range is private anonymous memory."""
        found = list(self.at(change))
        return bool(found) and all(region.private_anonymous for region in found)

    def is_there(self, change: Change, now: Meant) -> bool:
        """Return whether the range is mapped to the same as before, as far as it is mapped."""
        meant = next(self.at(change), None)
        return meant is not None and all(_is_same(meant, found) for found in now.at(change))

    def strays(self, changes: Iterable[Change], now: Meant) -> list[Region]:
        """Return what has a policy of these changes by now, perhaps, and was not meant.

        That is what another program has mapped, and objects: their policies are in force for
        others. What else the same program has mapped meanwhile is told by its form later.
        """
        is_another = now.image != self.image
        found: dict[int, Region] = {}
        for change in changes:
            if change.policy == DEFAULT:
                continue
            meant = next(self.at(change), None)
            for region in now.at(change):
                if is_another or (region.in_object and not _is_same(meant, region)):
                    found[region.start] = region
        return sorted(found.values(), key=lambda region: region.start)


def _is_same(meant: Region | None, found: Region) -> bool:
    if meant is None or (meant.object, meant.shared) != (found.object, found.shared):
        return False
    return meant.object is None or meant.start - meant.offset == found.start - found.offset
