# SPDX-License-Identifier: Apache-2.0
"""Which policies a program has set itself in one process, in little memory.

They are kept from one look to the next, for other processes of the same image. Pure.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from memplace.claims import Mapped
from memplace.kinds import Policy


class OwnPolicy(NamedTuple):
    """A mapping with a policy of its own; see `memplace.claims.Mapped`."""

    start: int
    end: int
    policy: Policy
    policy_is_whole: bool
    page_size: int
    own: bool = True


@dataclass(frozen=True, slots=True)
class OwnPolicies:
    """Mappings with a policy of their own: addresses, and what many have in common."""

    _starts: array[int] = field(default_factory=lambda: array("Q"))
    _ends: array[int] = field(default_factory=lambda: array("Q"))
    _sort_of: array[int] = field(default_factory=lambda: array("I"))
    _sorts: tuple[tuple[Policy, bool, int], ...] = ()

    @classmethod
    def of(cls, regions: Iterable[Mapped]) -> OwnPolicies:
        """Keep what the ledger has to know of regions that have policies of their own."""
        starts, ends, sort_of = array("Q"), array("Q"), array("I")
        sorts: dict[tuple[Policy, bool, int], int] = {}
        for region in regions:
            starts.append(region.start)
            ends.append(region.end)
            sort = (region.policy, region.policy_is_whole, region.page_size)
            sort_of.append(sorts.setdefault(sort, len(sorts)))
        return cls(starts, ends, sort_of, tuple(sorts))

    def __iter__(self) -> Iterator[OwnPolicy]:
        for start, end, sort in zip(self._starts, self._ends, self._sort_of, strict=True):
            yield OwnPolicy(start, end, *self._sorts[sort])
