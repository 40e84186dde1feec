# SPDX-License-Identifier: Apache-2.0
"""A process as rules see it: what a survey shows, seen through its container's claim. Pure."""

from __future__ import annotations

from bisect import bisect_left

from memplace.ledger import View
from memplace.matching import Matcher
from memplace.regions import Region

from memplace_agent.engine.survey import Survey

__all__ = ["Seen"]


class Seen:
    """A survey through the claim: policies as rules spell them, and which are memplace's."""

    def __init__(self, survey: Survey, view: View) -> None:
        self.survey, self.view = survey, view
        self.carried: set[int] = set()
        # As the kernel shows them, and as rules see them: mostly the same objects.
        self.mapped = survey.regions()
        self.regions = (
            self.mapped
            if view.is_empty
            else tuple(self._as_rules_see(region) for region in self.mapped)
        )

    def _as_rules_see(self, region: Region) -> Region:
        policy = self.view.spelt(region)
        if policy is None:
            return region
        self.carried.add(region.start)
        return region if policy == region.policy else region.like(policy)

    def mapped_at(self, start: int) -> Region | None:
        """Return the mapping that begins at an address, as the kernel shows it."""
        at = bisect_left(self.mapped, start, key=lambda region: region.start)
        found = self.mapped[at] if at < len(self.mapped) else None
        return found if found and found.start == start else None

    def ours(self, region: Region) -> bool:
        """Return whether memplace set the policy of a region."""
        return region.start in self.carried

    def following(self, matcher: Matcher) -> list[Region]:
        """Return the regions that count for the rules."""
        matches = matcher.match(self.regions, self.survey.name)
        return [
            region
            for region, match in zip(self.regions, matches, strict=True)
            if (match.rule is not None or self.ours(region)) and not region.shared
        ]
