# SPDX-License-Identifier: Apache-2.0
"""A process as rules see it: what a survey shows, seen through its container's claim. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from memplace.api.v1alpha1 import Rule
from memplace.backends import Act
from memplace.claim_view import View
from memplace.kinds import Policy
from memplace.matching import Matcher
from memplace.objects_claim import located
from memplace.policy import Move
from memplace.problems import Refusal
from memplace.regions import Region

from memplace_agent.engine.meant import Meant
from memplace_agent.engine.own import OwnPolicies
from memplace_agent.engine.survey import Survey


class Sharing(Protocol):
    """What is known of the memory that a process shares."""

    def view(self, region: Region) -> View | None:
        """Return how to see a region whose policy is in an object; None for all others."""

    def why_not(self, rule: Rule, region: Region) -> Refusal | None:
        """Return why a rule may not act on a shared region."""


class Seen:
    """A survey through the claim: policies as rules spell them, and which are memplace's."""

    def __init__(self, survey: Survey, view: View, shared: Sharing | None = None) -> None:
        self.survey, self.view, self.shared = survey, view, shared
        self.carried: set[int] = set()
        # As the kernel shows them, and as rules see them: mostly the same objects.
        self.mapped = survey.regions()
        # Those whose policies the container's claim speaks of.
        self.plain = [region for region in self.mapped if not region.in_object]
        is_plain = view.is_empty and len(self.plain) == len(self.mapped)
        self.regions = (
            self.mapped if is_plain else tuple(self._as_rules_see(region) for region in self.mapped)
        )

    def _as_rules_see(self, region: Region) -> Region:
        if region.in_object:
            of_object = self.shared.view(region) if self.shared else None
            policy = of_object.spelt(located(region)) if of_object else None
        else:
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
            if self._counts(match.rule, region)
        ]

    def holding(self, pages: Mapping[int, Mapping[int, int]]) -> tuple[Region, ...]:
        """Return the regions with their pages, which are given by first address."""
        found = ((region, pages.get(region.start, {})) for region in self.regions)
        return tuple(r if r.pages == held else r.holding(held) for r, held in found)

    def settled(self, moves: Iterable[Move], act: Act) -> Iterator[tuple[Move, Policy]]:
        """Yield moves with their policies in the form that is set, as a move sets it again.

        Where it could not be set there is nothing to move to.
        """
        for move in moves:
            region = self.mapped_at(move.start)
            if act is Act.MOVE:
                yield move, move.policy
            elif region and (region.own or self.ours(region)):
                yield move, region.policy

    @property
    def meant(self) -> Meant:
        """The mappings, for calls on them."""
        return Meant(self.survey.image, self.mapped)

    @property
    def own_policies(self) -> OwnPolicies:
        """What the program has set itself in this process."""
        own = (region for region in self.regions if region.own and not region.in_object)
        return OwnPolicies.of(region for region in own if not self.ours(region))

    def _counts(self, rule: Rule | None, region: Region) -> bool:
        if rule is None or self.ours(region):
            return self.ours(region)
        if not region.shared:
            return True
        return self.shared is not None and self.shared.why_not(rule, region) is None
