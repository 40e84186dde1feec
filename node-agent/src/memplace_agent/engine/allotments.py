# SPDX-License-Identifier: Apache-2.0
"""What containers of this node have of tiers with limits, and what that means for each of them.

Kept for each container that runs, whatever it follows: what was placed for a placement that is
gone by now, or that asks for something else, counts for as long as the container's cgroup shows
that much on the tier. An agent that begins goes on from what the one before has written of it. Of
dry runs it is foreseen what the limits would mean for each, were it meant. `memplace.limits`
decides; for the reconciler's thread only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from memplace.api.v1alpha1 import ContainerState, Placement
from memplace.assignment import meant, precedence
from memplace.backends import Act
from memplace.limits import (
    UNLIMITED,
    Cap,
    Caps,
    Limited,
    Word,
    caps_on,
    foresee,
    held,
    is_closed,
    share_out,
)
from memplace.nodes import NumaSet
from memplace.objects import ObjectId
from prometheus_client import Gauge

from memplace_agent.engine.known import Followed, Listed
from memplace_agent.engine.tier_use import Bytes, TierUse, Tried, would_be_holders
from memplace_agent.node.machine import Machine
from memplace_agent.node.numa_stat import read_numa_stat
from memplace_agent.usage_store import UsageStore
from memplace_agent.world import World

# Nobody waits for what was left behind: it goes when its program frees it.
_LEFT_AGAIN_S = 5.0

# For these, bytes on a tier are there by memplace's doing, or will be.
_COUNTED = frozenset({Act.PLACE, Act.MOVE, Act.PAUSE, Act.WAIT})

_NEVER = datetime.max.replace(tzinfo=UTC)

# What was said of containers, by namespace, tier and uid of a dry run; without one as it is.
_Words = Mapping[tuple[str, str, str], Mapping[str, Word]]


class Allotted(NamedTuple):
    """What has changed: for which containers, and whether for those that are still to come."""

    containers: frozenset[str] = frozenset()
    is_about_births: bool = False


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
    _tiers: Mapping[str, NumaSet] = field(default_factory=dict)
    _known: dict[str, TierUse] = field(default_factory=dict)
    _held: frozenset[str] = frozenset()
    _words: dict[tuple[str, str, str], dict[str, Word]] = field(default_factory=dict)
    # By container, and uid of a dry run; without one as it is.
    _limited: dict[tuple[str, str], Limited] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _left_at: float = float("-inf")

    def limited(self, container_id: str) -> Limited:
        """Return what limits say about a container."""
        return self._limited.get((container_id, ""), UNLIMITED)

    def refused(self, container_id: str, of: Placement) -> dict[str, str]:
        """Return which rules of a placement get nothing new in a container, and why.

        Of a dry run: which would get nothing if it was meant.
        """
        key = container_id, of.uid if of.spec.is_dry_run else ""
        return self._limited.get(key, UNLIMITED).refused(of.spec.rules)

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

    def looked(
        self, container_id: str, followed: Followed | None, trial: Followed | None = None
    ) -> Allotted:
        """Take what a look has found.

        Args:
            container_id: The container.
            followed: What was found under the placement that it follows.
            trial: The same under a dry run that it does not follow.
        """
        known = self._known.get(container_id)
        if known is None or followed is None or known.placement is None:
            return Allotted()
        known.cgroup = followed.ref.path if followed.ref else known.cgroup
        before = replace(known.bytes, has=known.bytes.has or dict(known.had))
        known.bytes = self._found(before, followed) if known.act in _COUNTED else Bytes(needs={})
        known.had = {}
        for each in (followed, trial):
            tried = known.tried.get(each.container.wanted.placement.uid) if each else None
            if tried is not None and each is not None:
                tried.bytes = self._found(tried.bytes, each)
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

    def _begun(self, container_id: str, listed: Listed) -> TierUse:
        known, usage = TierUse(listed.pod.ref.namespace), self.usage.get(container_id)
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

    def _follow(self, known: TierUse, listed: Listed) -> None:
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
        before_it, known.tried = known.tried, {}
        pod = (listed.pod.started or _NEVER, listed.pod.ref.name, listed.name)
        if winner:
            known.order = (precedence(winner), *pod)
        for placement in listed.tried(self.act_for):
            tried = before_it.get(placement.uid)
            if tried is None or not tried.placement.asks_as(placement):
                tried = Tried(placement)
            tried.order = (precedence(meant(placement)), *pod)
            known.tried[placement.uid] = tried

    def _found(self, before: Bytes, followed: Followed) -> Bytes:
        report, placement = followed.report, followed.container.wanted.placement
        if report.state is ContainerState.FAILED and not report.rules:
            # It could not be looked at: as it was.
            return replace(before, needs=before.needs or {})
        tiers_of = {rule.name: rule.policy.tiers for rule in placement.spec.rules}
        has, needs = Counter[str](), Counter[str]()
        for rule in report.rules:
            for tier in tiers_of.get(rule.name, ()):
                nodes = self._tiers.get(tier, frozenset())
                has[tier] += sum(each.bytes for each in rule.numa_nodes if each.id in nodes)
                needs[tier] += rule.misplaced_bytes
        limited = self._caps.of(placement.tenant).keys()
        commons = tuple(
            common
            for common in followed.container.commons
            if isinstance(common.of, ObjectId) and limited & set(tiers_of.get(common.rule, ()))
        )
        return Bytes(dict(has), dict(needs), commons)

    def _look_at_left(self, known: TierUse) -> None:
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
        keys = before.keys() | self._limited.keys()
        changed = (key for key in keys if before.get(key) != self._limited.get(key))
        return Allotted(frozenset(id_ for id_, _ in changed), self.closed != was_closed)

    def _tell(self) -> None:
        real = (each for (_, uid), each in self._limited.items() if not uid)
        found = Counter(tier for each in real for tier in each.withheld)
        self._told |= {tier.name for tier, _ in self._caps.tiers}
        for tier in self._told:
            self.gauge.labels(tier).set(found[tier])

    def _share_out(self, namespace: str, before: _Words) -> None:
        caps = self._caps.of(namespace)
        mine = {id_: each for id_, each in self._known.items() if each.namespace == namespace}
        for tier, cap in caps.items():
            holders = [
                each.holder(id_, tier, is_held=id_ in self._held) for id_, each in mine.items()
            ]
            nodes = self._tiers.get(tier, frozenset())
            last = before.get((namespace, tier, ""), {})
            words = self._words[namespace, tier, ""] = share_out(cap.bytes, holders, nodes, last)
            key = namespace, tier
            is_now = is_closed(cap.bytes, held(holders, nodes), words)
            self.closed = self.closed | {key} if is_now else self.closed - {key}
            for uid, tried in would_be_holders(mine, tier, self._held).items():
                last = {**words, **before.get((namespace, tier, uid), {})}
                found = foresee(cap.bytes, holders, tried, nodes, last)
                self._words[namespace, tier, uid] = found
        for container_id, each in mine.items():
            for uid in ("", *each.tried):
                self._put((container_id, uid), namespace, caps)

    def _put(self, key: tuple[str, str], namespace: str, caps: Mapping[str, Cap]) -> None:
        container_id, uid = key
        words = {t: self._words.get((namespace, t, uid), {}).get(container_id) for t in caps}
        why = {tier: cap.forecast if uid else cap.text for tier, cap in caps.items()}
        limited = Limited(
            {tier: why[tier] for tier, word in words.items() if word is Word.WITHHELD},
            # What is foreseen nobody waits for.
            frozenset(t for t, word in words.items() if word is Word.AWAITED and not uid),
        )
        if limited == UNLIMITED:
            self._limited.pop(key, None)
        else:
            self._limited[key] = limited


def _winner(listed: Listed) -> Placement | None:
    return listed.assignment.winner if listed.assignment else None
