# SPDX-License-Identifier: Apache-2.0
"""What containers of this node have of tiers with limits, and what that means for each of them.

Kept for each container that runs, whatever it follows: what was placed for a placement that is
gone by now, or that asks for something else, counts for as long as the container's cgroup shows
that much on the tier. An agent that begins goes on from what the one before has written of it.
`memplace.limits` decides; for the reconciler's thread only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from memplace.api.v1alpha1 import ContainerReport, ContainerState, Placement
from memplace.assignment import precedence
from memplace.backends import Act
from memplace.limits import (
    UNLIMITED,
    Cap,
    Caps,
    Holder,
    Limited,
    Word,
    caps_on,
    held,
    is_closed,
    share_out,
)
from memplace.nodes import NodeSet
from memplace.objects import Common, ObjectId
from prometheus_client import Gauge

from memplace_agent.engine.known import Followed, Listed
from memplace_agent.node.machine import Machine
from memplace_agent.node.numa_stat import read_numa_stat
from memplace_agent.usage_store import PlacedBy, Usage, UsageStore
from memplace_agent.world import World

# Nobody waits for what was left behind: it goes when its program frees it.
_LEFT_AGAIN_S = 5.0

# For these, bytes on a tier are there by memplace's doing, or will be.
_COUNTED = frozenset({Act.PLACE, Act.MOVE, Act.PAUSE, Act.WAIT})

_NEVER = datetime.max.replace(tzinfo=UTC)


class Allotted(NamedTuple):
    """What has changed: for which containers, and whether for those that are still to come."""

    containers: frozenset[str] = frozenset()
    is_about_births: bool = False


@dataclass(slots=True)
class _Known:
    # What is known of one container. `has`, `needs` and `left` are bytes by tier: what it has
    # under its present placement (`needs` None: not looked at under it), and what it had under
    # earlier ones that may still be there. `had`: as `has`, found by the agent before this one,
    # until this one has looked. It counts where that can't be waited for.
    namespace: str
    order: tuple[object, ...] = ()
    placement: Placement | None = None
    act: Act = Act.LEAVE
    has: dict[str, int] = field(default_factory=dict)
    needs: dict[str, int] | None = None
    left: dict[str, int] = field(default_factory=dict)
    had: Mapping[str, int] = field(default_factory=dict)
    commons: tuple[Common, ...] = ()
    cgroup: Path | None = None

    def asks(self, tier: str) -> bool:
        rules = self.placement.spec.rules if self.placement and self.act.changes else ()
        return any(tier in rule.policy.tiers for rule in rules)

    def begin_anew(self) -> None:
        for tier, size in (self.has or self.had).items():
            self.left[tier] = max(size, self.left.get(tier, 0))
        self.has, self.had, self.needs, self.commons = {}, {}, None, ()

    def go_on_from(self, usage: Usage, winner: Placement | None, root: Path) -> None:
        self.cgroup = root / usage.cgroup if usage.cgroup else None
        self.had, self.left = usage.has, dict(usage.left)
        if winner is not None and usage.placement == _spec_of(winner):
            self.placement = winner
        else:
            self.begin_anew()

    def usage(self, tiers: Collection[str], root: Path) -> Usage:
        has = self.has or self.had
        return Usage(
            cgroup=str(self.cgroup.relative_to(root)) if self.cgroup else "",
            placement=_spec_of(self.placement) if self.placement else None,
            has={tier: size for tier, size in has.items() if tier in tiers and size},
            left={tier: size for tier, size in self.left.items() if tier in tiers and size},
        )

    def holder(self, container_id: str, tier: str, *, is_held: bool) -> Holder:
        has = self.has or (self.had if is_held else {})
        return Holder(
            container=container_id,
            order=self.order,
            has=max(has.get(tier, 0), self.left.get(tier, 0)),
            needs=None if self.needs is None else self.needs.get(tier, 0),
            asks=self.asks(tier) and not is_held,
            commons=self.commons,
        )


@dataclass(slots=True)
class Allotments:
    """See the module.

    Attributes:
        act_for: What is done for a placement on this node.
        gauge: How many containers get nothing new of a tier, by tier.
        usage: What outlives this agent.
        root: The root of the tree of cgroups.
        closed: Namespaces and tiers: what is still to come of the one gets nothing of the other.
    """

    act_for: Callable[[Placement], Act]
    gauge: Gauge
    usage: UsageStore
    root: Path
    closed: frozenset[tuple[str, str]] = frozenset()
    _caps: Caps = field(default_factory=Caps)
    _tiers: Mapping[str, NodeSet] = field(default_factory=dict)
    _known: dict[str, _Known] = field(default_factory=dict)
    _held: frozenset[str] = frozenset()
    _words: dict[tuple[str, str], dict[str, Word]] = field(default_factory=dict)
    _limited: dict[str, Limited] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _left_at: float = float("-inf")

    def limited(self, container_id: str) -> Limited:
        """Return what limits say about a container."""
        return self._limited.get(container_id, UNLIMITED)

    def take(
        self, world: World, machine: Machine, node_name: str, listed: Mapping[str, Listed]
    ) -> Allotted:
        """Take what the cluster wants now; containers that are not listed are forgotten."""
        self._tiers, self._held = machine.tiers, world.held
        self._caps = caps_on(world.tiers, machine.tiers, machine.sizes, node_name, world.labels)
        known, self._known = self._known, {}
        for container_id, each in listed.items():
            one = known.get(container_id) or self._begun(container_id, each)
            self._known[container_id] = one
            self._follow(one, each)
        self._keep(listed)
        return self._settle({each.namespace for each in self._known.values()}, is_whole=True)

    def looked(self, container_id: str, followed: Followed | None) -> Allotted:
        """Take what a look has found."""
        known = self._known.get(container_id)
        if known is None or followed is None or known.placement is None:
            return Allotted()
        known.cgroup = followed.ref.path if followed.ref else known.cgroup
        self._measure(known, followed.report, followed.container.commons)
        self._keep((container_id,))
        return self._settle({known.namespace})

    def audit(self, now: float) -> Allotted:
        """Look whether what earlier placements have left on tiers is there still.

        What changed since the last time survives the end of this agent then.
        """
        self.usage.write()
        if now - self._left_at < _LEFT_AGAIN_S or not self._caps.tiers:
            return Allotted()
        self._left_at = now
        about = {id_: each for id_, each in self._known.items() if each.left}
        for known in about.values():
            self._look_at_left(known)
        self._keep(about)
        return self._settle({each.namespace for each in about.values()})

    def _begun(self, container_id: str, listed: Listed) -> _Known:
        known, usage = _Known(listed.pod.ref.namespace), self.usage.get(container_id)
        if usage is not None:
            known.go_on_from(usage, _winner(listed), self.root)
        return known

    def _keep(self, container_ids: Iterable[str]) -> None:
        tiers = {tier.name for tier, _ in self._caps.tiers}
        if not tiers:
            return  # what an earlier agent wrote may be asked for yet
        for container_id in container_ids:
            self.usage.put(container_id, self._known[container_id].usage(tiers, self.root))
        self.usage.keep(self._known)

    def _follow(self, known: _Known, listed: Listed) -> None:
        winner, before = _winner(listed), known.placement
        is_same = before is winner or (
            before is not None
            and winner is not None
            and before.uid == winner.uid
            and before.asks_as(winner)
        )
        if not is_same:
            known.begin_anew()
        known.placement = winner
        known.act = self.act_for(winner) if winner else Act.LEAVE
        if winner:
            started = listed.pod.started or _NEVER
            known.order = (precedence(winner), started, listed.pod.ref.name, listed.name)

    def _measure(self, known: _Known, report: ContainerReport, commons: Iterable[Common]) -> None:
        if report.state is ContainerState.FAILED and not report.rules:
            # It could not be looked at: as it was.
            known.has, known.had = known.has or dict(known.had), {}
            known.needs = known.needs or {}
            return
        assert known.placement is not None
        tiers_of = {rule.name: rule.policy.tiers for rule in known.placement.spec.rules}
        has, needs = Counter[str](), Counter[str]()
        for rule in report.rules if known.act in _COUNTED else ():
            for tier in tiers_of.get(rule.name, ()):
                nodes = self._tiers.get(tier, frozenset())
                has[tier] += sum(each.bytes for each in rule.numa_nodes if each.id in nodes)
                needs[tier] += rule.misplaced_bytes
        known.has, known.needs, known.had = dict(has), dict(needs), {}
        limited = self._caps.of(known.namespace).keys()
        known.commons = tuple(
            common
            for common in commons
            if isinstance(common.of, ObjectId) and limited & set(tiers_of.get(common.rule, ()))
        )

    def _look_at_left(self, known: _Known) -> None:
        there = read_numa_stat(known.cgroup) if known.cgroup else None
        if there is None:
            if known.cgroup is not None and not known.cgroup.exists():
                known.left.clear()  # of a pod that follows nothing nobody tells that it ended
            return
        for tier, size in tuple(known.left.items()):
            on_tier = sum(there.get(node, 0) for node in self._tiers.get(tier, frozenset()))
            known.left[tier] = min(size, on_tier)
            if not known.left[tier]:
                del known.left[tier]

    # --- who gets what ---

    def _settle(self, namespaces: Iterable[str], *, is_whole: bool = False) -> Allotted:
        if not is_whole and not self._caps.tiers:
            return Allotted()
        before, was_closed = dict(self._limited), self.closed
        if is_whole:
            words, self._words, self._limited, self.closed = self._words, {}, {}, frozenset()
        else:
            words = dict(self._words)
        for namespace in namespaces:
            self._share_out(namespace, words)
        self._tell()
        ids = before.keys() | self._limited.keys()
        changed = (id_ for id_ in ids if before.get(id_, UNLIMITED) != self.limited(id_))
        return Allotted(frozenset(changed), self.closed != was_closed)

    def _tell(self) -> None:
        found = Counter(tier for each in self._limited.values() for tier in each.withheld)
        self._told |= {tier.name for tier, _ in self._caps.tiers}
        for tier in self._told:
            self.gauge.labels(tier).set(found[tier])

    def _share_out(
        self, namespace: str, before: Mapping[tuple[str, str], Mapping[str, Word]]
    ) -> None:
        caps = self._caps.of(namespace)
        mine = {id_: each for id_, each in self._known.items() if each.namespace == namespace}
        for tier, cap in caps.items():
            key = namespace, tier
            holders = [
                each.holder(id_, tier, is_held=id_ in self._held) for id_, each in mine.items()
            ]
            nodes = self._tiers.get(tier, frozenset())
            words = self._words[key] = share_out(cap.bytes, holders, nodes, before.get(key, {}))
            is_now = is_closed(cap.bytes, held(holders, nodes), words)
            self.closed = self.closed | {key} if is_now else self.closed - {key}
        for container_id in mine:
            limited = self._said(container_id, namespace, caps)
            if limited == UNLIMITED:
                self._limited.pop(container_id, None)
            else:
                self._limited[container_id] = limited

    def _said(self, container_id: str, namespace: str, caps: Mapping[str, Cap]) -> Limited:
        words = {tier: self._words[namespace, tier].get(container_id) for tier in caps}
        return Limited(
            {tier: caps[tier].text for tier, word in words.items() if word is Word.WITHHELD},
            frozenset(tier for tier, word in words.items() if word is Word.AWAITED),
        )


def _winner(listed: Listed) -> Placement | None:
    return listed.assignment.winner if listed.assignment else None


def _spec_of(placement: Placement) -> PlacedBy:
    return PlacedBy(placement.uid, placement.generation)
