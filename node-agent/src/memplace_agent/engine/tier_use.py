# SPDX-License-Identifier: Apache-2.0
"""What one container has of tiers with limits, under which placement, and from earlier ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from memplace.api.v1alpha1 import Placement
from memplace.backends import Act
from memplace.limits import Holder
from memplace.objects import Common

from memplace_agent.usage_store import PlacedBy, Usage


@dataclass(slots=True)
class Bytes:
    """What was found of a container under a placement.

    Attributes:
        has: Bytes on each tier.
        needs: Bytes that are still to come, by tier; None where it was not looked at.
        commons: Memory that it shares.
    """

    has: dict[str, int] = field(default_factory=dict)
    needs: dict[str, int] | None = None
    commons: tuple[Common, ...] = ()

    def needed(self, tier: str) -> int | None:
        """Return what it needs of a tier; None where it was not looked at."""
        return None if self.needs is None else self.needs.get(tier, 0)


@dataclass(slots=True)
class Tried:
    """A dry run that tells what it would do to a container; `order` is as if it was meant."""

    placement: Placement
    order: tuple[object, ...] = ()
    bytes: Bytes = field(default_factory=Bytes)


@dataclass(slots=True)
class TierUse:
    """What is known of one container.

    Attributes:
        namespace: Its pod's.
        order: When it is served.
        placement: What it follows, if anything.
        act: What is done for that.
        bytes: What it has under that placement.
        left: Bytes by tier that it had under earlier ones, which may still be there.
        had: Bytes by tier under that placement which the agent before this one found, until this
            one has looked. They count where that can't be waited for.
        tried: Dry runs, by uid.
        cgroup: Its directory, once that is known.
    """

    namespace: str
    order: tuple[object, ...] = ()
    placement: Placement | None = None
    act: Act = Act.LEAVE
    bytes: Bytes = field(default_factory=Bytes)
    left: dict[str, int] = field(default_factory=dict)
    had: Mapping[str, int] = field(default_factory=dict)
    tried: dict[str, Tried] = field(default_factory=dict)
    cgroup: Path | None = None

    def asks(self, tier: str) -> bool:
        """Return whether it may get something of a tier."""
        return self.placement is not None and self.act.changes and names(self.placement, tier)

    def begin_anew(self) -> None:
        """Follow another spec: what it had so far is left behind."""
        for tier, size in (self.bytes.has or self.had).items():
            self.left[tier] = max(size, self.left.get(tier, 0))
        self.bytes, self.had = Bytes(), {}

    def go_on_from(self, usage: Usage, winner: Placement | None, root: Path) -> None:
        """Take what the agent before this one has written of it."""
        self.cgroup = root / usage.cgroup if usage.cgroup else None
        self.had, self.left = usage.has, dict(usage.left)
        if winner is not None and usage.placement == _spec_of(winner):
            self.placement = winner
        else:
            self.begin_anew()

    def usage(self, tiers: Collection[str], root: Path) -> Usage:
        """Return what the next agent should know of it."""
        has = self.bytes.has or self.had
        return Usage(
            cgroup=str(self.cgroup.relative_to(root)) if self.cgroup else "",
            placement=_spec_of(self.placement) if self.placement else None,
            has={tier: size for tier, size in has.items() if tier in tiers and size},
            left={tier: size for tier, size in self.left.items() if tier in tiers and size},
        )

    def holder(self, container_id: str, tier: str, *, is_held: bool) -> Holder:
        """Return it as limits look at it."""
        return Holder(
            container=container_id,
            order=self.order,
            has=self._counted(tier, is_held=is_held),
            needs=self.bytes.needed(tier),
            asks=self.asks(tier) and not is_held,
            commons=self.bytes.commons,
        )

    def would_be(self, container_id: str, tier: str, uid: str) -> Holder:
        """Return the same as if a dry run was meant."""
        # What it has under another placement would be left behind, and counts.
        tried = self.tried[uid]
        return Holder(
            container=container_id,
            order=tried.order,
            has=max(self._counted(tier), tried.bytes.has.get(tier, 0)),
            needs=tried.bytes.needed(tier),
            commons=tried.bytes.commons,
        )

    def _counted(self, tier: str, *, is_held: bool = False) -> int:
        has = self.bytes.has or (self.had if is_held else {})
        return max(has.get(tier, 0), self.left.get(tier, 0))


def names(placement: Placement, tier: str) -> bool:
    """Return whether a rule of a placement names a tier."""
    return any(tier in rule.policy.tiers for rule in placement.spec.rules)


def would_be_holders(
    known: Mapping[str, TierUse], tier: str, held: frozenset[str]
) -> dict[str, list[Holder]]:
    """Return what containers would be, by uid of each dry run that names a tier."""
    found: dict[str, list[Holder]] = {}
    for container_id, each in known.items():
        for uid, tried in each.tried.items():
            if names(tried.placement, tier) and container_id not in held:
                found.setdefault(uid, []).append(each.would_be(container_id, tier, uid))
    return found


def _spec_of(placement: Placement) -> PlacedBy:
    return PlacedBy(placement.uid, placement.generation)
