# SPDX-License-Identifier: Apache-2.0
"""Which ranges of a process follow which rule, in little memory. Pure.

They are kept from one look to the next: while a process maps as it did, where its pages are is
all that can have changed, and that needs no regions and no plan.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from memplace.api.v1alpha1 import Rule
from memplace.policy import RuleResult, measured
from memplace.regions import Region
from memplace.residency import Span

__all__ = ["Holding"]


@dataclass(frozen=True, slots=True)
class Holding:
    """Ranges with the rule they follow: addresses, and what many have in common."""

    _starts: array[int] = field(default_factory=lambda: array("Q"))
    _ends: array[int] = field(default_factory=lambda: array("Q"))
    _sort_of: array[int] = field(default_factory=lambda: array("I"))
    _sorts: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, following: Iterable[tuple[Region, Rule]]) -> Holding:
        """Keep what a plan says that follows its rules."""
        starts, ends, sort_of = array("Q"), array("Q"), array("I")
        sorts: dict[tuple[str, int], int] = {}
        for region, rule in following:
            starts.append(region.start)
            ends.append(region.end)
            sort_of.append(sorts.setdefault((rule.name, region.page_size), len(sorts)))
        return cls(starts, ends, sort_of, tuple(sorts))

    def spans(self) -> list[Span]:
        """Return the ranges, ascending."""
        return [
            Span(start, end, self._sorts[sort][1])
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
            on_node = held[self._sorts[sort][0]]
            for node, size in pages.get(start, {}).items():
                on_node[node] = on_node.get(node, 0) + size
        by_name = {rule.name: rule for rule in rules}
        return tuple(measured(by_name[result.rule], result, held[result.rule]) for result in before)
