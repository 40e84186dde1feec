# SPDX-License-Identifier: Apache-2.0
"""What a matcher says of a region: the rule that it follows, and why it does not follow others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from msgspec import Struct

from memplace.api.v1alpha1 import Rule
from memplace.entries import Mismatch
from memplace.regions import Region


@dataclass(frozen=True, slots=True, eq=False)
class WhyNot:
    """Why a region does not follow a rule.

    Attributes:
        rule: The rule's name.
        reason: For machines.
    """

    rule: str
    reason: Mismatch
    _tell: Callable[[Region], str]
    _region: Region

    @property
    def text(self) -> str:
        """For people. It is made when asked for: names are long, and most are never read."""
        return self._tell(self._region)

    def __eq__(self, other: object) -> bool:
        """Return whether the other says the same."""
        return isinstance(other, WhyNot) and self._said == other._said

    def __hash__(self) -> int:
        """Return the hash of what it says."""
        return hash(self._said)

    @property
    def _said(self) -> tuple[str, Mismatch, str]:
        return self.rule, self.reason, self.text


class Miss(NamedTuple):
    """A rule that regions of one sort do not follow; `tell` says to people why one does not."""

    rule: str
    reason: Mismatch
    tell: Callable[[Region], str]


class Decision(NamedTuple):
    """The rule that regions of one sort follow, if any, and the others."""

    rule: Rule | None
    misses: tuple[Miss, ...] = ()


class Match(Struct, frozen=True, eq=False, gc=False):
    """The rule that a region follows, if any."""

    rule: Rule | None
    _misses: tuple[Miss, ...] = ()
    _region: Region | None = None

    @property
    def why_not(self) -> tuple[WhyNot, ...]:
        """Why it does not follow the others; made when asked for."""
        region = self._region
        return () if region is None else tuple(WhyNot(*miss, region) for miss in self._misses)

    def __eq__(self, other: object) -> bool:
        """Return whether the other says the same."""
        return isinstance(other, Match) and (self.rule, self.why_not) == (other.rule, other.why_not)

    def __hash__(self) -> int:
        """Return the hash of what it says."""
        return hash((self.rule, self.why_not))


NO_MATCH = Match(None)
