# SPDX-License-Identifier: Apache-2.0
"""Which ranges of a process follow which rule, in little memory. Pure.

They are kept from one look to the next: while a process maps as it did, where its pages are is
all that can have changed, and that needs no regions and no plan.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import NamedTuple

from memplace.api.v1alpha1 import Rule
from memplace.limits import Limited, Word
from memplace.objects import Common, ObjectId
from memplace.policy import RuleResult, measured
from memplace.regions import Region
from memplace.residency import Span

# They are kept for each of thousands of processes; smaller ones count as if nobody shared them.
_MOST_COMMONS = 256


class _Sort(NamedTuple):
    rule: str
    page_size: int
    object: ObjectId | None


@dataclass(frozen=True, slots=True)
class Holding:
    """Ranges with the rule they follow: addresses, and what many have in common."""

    _starts: array[int] = field(default_factory=lambda: array("Q"))
    _ends: array[int] = field(default_factory=lambda: array("Q"))
    _sort_of: array[int] = field(default_factory=lambda: array("I"))
    _sorts: tuple[_Sort, ...] = ()
    # Where in their objects those begin that are of one, in their order.
    _offsets: array[int] = field(default_factory=lambda: array("Q"))

    @classmethod
    def of(cls, following: Iterable[tuple[Region, Rule]]) -> Holding:
        """Keep what a plan says that follows its rules."""
        starts, ends, offsets, sort_of = array("Q"), array("Q"), array("Q"), array("I")
        sorts: dict[_Sort, int] = {}
        for region, rule in following:
            starts.append(region.start)
            ends.append(region.end)
            sort = _Sort(rule.name, region.page_size, region.object)
            sort_of.append(sorts.setdefault(sort, len(sorts)))
            if region.object is not None:
                offsets.append(region.offset)
        return cls(starts, ends, sort_of, tuple(sorts), offsets)

    def spans(self) -> list[Span]:
        """Return the ranges, ascending."""
        return [
            Span(start, end, self._sorts[sort].page_size)
            for start, end, sort in zip(self._starts, self._ends, self._sort_of, strict=True)
        ]

    def measured(
        self,
        rules: Iterable[Rule],
        before: Sequence[RuleResult],
        pages: Mapping[int, Mapping[int, int]],
    ) -> tuple[RuleResult, ...]:
        """Return what the rules hold after another look at the pages of the ranges.

        Args:
            rules: All of the placement's.
            before: What they held by the plan that this was made of.
            pages: By first address, the resident bytes per NUMA node of ranges that have any.
        """
        held: dict[str, dict[int, int]] = {result.rule: {} for result in before}
        for start, sort in zip(self._starts, self._sort_of, strict=True):
            on_node = held[self._sorts[sort].rule]
            for node, size in pages.get(start, {}).items():
                on_node[node] = on_node.get(node, 0) + size
        by_name = {rule.name: rule for rule in rules}
        return tuple(measured(by_name[result.rule], result, held[result.rule]) for result in before)

    def commons(
        self,
        pages: Mapping[int, Mapping[int, int]],
        shares: Mapping[int, float],
        image: int,
        forked: float = 0.0,
    ) -> tuple[Common, ...]:
        """Return what of the pages other mappings may have as well.

        Args:
            pages: As for `measured`.
            shares: By first address, the share of a range's bytes that something else maps.
                Where nothing is said: all of an object's, for what it is says it all; of what
                is private `forked`.
            image: What fork() copies of the process: what is private may be its parent's, too.
            forked: What it is on average, where it is not known range by range.
        """
        found: list[Common] = []
        private: dict[str, dict[int, int]] = {}
        offsets = iter(self._offsets)
        for start, end, sort in zip(self._starts, self._ends, self._sort_of, strict=True):
            rule, _, of = self._sorts[sort]
            offset = next(offsets) if of is not None else 0
            share = shares.get(start, forked if of is None else 1.0)
            common = {n: round(size * share) for n, size in pages.get(start, {}).items()}
            if of is not None:
                found.append(Common(rule, of, offset, offset + end - start, common))
                continue
            on_node = private.setdefault(rule, {})
            for node, size in common.items():
                on_node[node] = on_node.get(node, 0) + size
        found += [Common(rule, image, 0, 1, held) for rule, held in private.items()]
        found = [common for common in found if common.bytes]
        return tuple(nlargest(_MOST_COMMONS, found, key=lambda common: common.bytes))


def objects_in(following: Iterable[tuple[Region, Rule]], limited: Limited) -> frozenset[ObjectId]:
    """Return what of a plan's following regions others may map as well.

    What a limit withholds is left out: it ends as an object does that nobody has by a rule.
    """
    shared = ((region, rule) for region, rule in following if region.shared and region.object)
    return frozenset(
        region.object
        for region, rule in shared
        if region.object is not None and limited.word(rule) is not Word.WITHHELD
    )
