# SPDX-License-Identifier: Apache-2.0
"""Extents: adjacent mappings that are one piece of memory to whoever wrote a rule.

The kernel cuts what a program sees as one arena into many mappings: mprotect() does, a
name does, and so does a policy, memplace's own too. So sizes in rules are sizes of extents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from memplace.regions import Region


@dataclass(frozen=True, slots=True)
class Extent:
    """Adjacent regions of one sort, in ascending address order; never empty."""

    regions: tuple[Region, ...]

    @property
    def start(self) -> int:
        """First address."""
        return self.regions[0].start

    @property
    def end(self) -> int:
        """First address after it."""
        return self.regions[-1].end

    @property
    def size(self) -> int:
        """Bytes of address space, resident or not."""
        return self.end - self.start


def joins(before: Region, after: Region) -> bool:
    """Return whether two regions are of one extent, `after` the next in address order.

    They are when they touch, are of one kind and file, and both or neither can be run.
    Policies, names and the other permissions do not matter.
    """
    return (
        before.end == after.start
        and before.kind is after.kind
        and before.shared == after.shared
        and before.special == after.special
        and before.path == after.path
        and before.executable == after.executable
    )


def extents(regions: Iterable[Region]) -> Iterator[Extent]:
    """Join regions, in any order, to extents in ascending address order.

    Every region is in exactly one extent, and no two extents could be joined.
    """
    run: list[Region] = []
    for region in sorted(regions, key=lambda region: region.start):
        if run and not joins(run[-1], region):
            yield Extent(tuple(run))
            run = []
        run.append(region)
    if run:
        yield Extent(tuple(run))
