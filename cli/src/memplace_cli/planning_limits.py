# SPDX-License-Identifier: Apache-2.0
"""Whether limits of namespaces would be in the way of a plan, as far as reports tell. Pure.

Agents decide by what they measure. A report has the bytes of rules: it tells what a namespace has
of a tier, and how much more a container would need if its rules were measured before. Of the others
the memory limit is a bound. Where that is not enough to know, this says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from memplace.api.v1alpha1 import ContainerState, MemoryTier, NodeMemory, Placement
from memplace.assignment import Assignment, PodRef, meant, precedence, would_win
from memplace.backends import Act, act_for
from memplace.explain_rules import human_bytes
from memplace.limits import Cap, Caps, Claimant, Word, caps_on, outlook
from memplace.nodes import NumaSet
from memplace.reasons import Reason
from msgspec import structs

from memplace_cli.facts import Labels, capabilities
from memplace_cli.planned import DOABLE, ContainerPlan, PlanFacts, PodPlan, PodSeen
from memplace_cli.sizing import Reports, moves_of
from memplace_cli.words import count

_NEVER = datetime.max.replace(tzinfo=UTC)

_CAVEAT = (
    "what placements that are gone have left on a tier counts for its limits, and is not reported"
)

# These hold nothing by memplace's doing.
_ONLY_TELLS = (ContainerState.DRY_RUN, ContainerState.OBSERVED)

# Namespace, pod and container.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is known.

    Attributes:
        found: What was read.
        tiers: Per node its tiers, as they would be.
        memory_tiers: All MemoryTiers, as they would be.
        reports: What agents say of containers.
        assign: Who would have the containers of a pod, on a node with these labels.
    """

    found: PlanFacts
    tiers: Mapping[str, Mapping[str, NumaSet]]
    memory_tiers: tuple[MemoryTier, ...]
    reports: Reports
    assign: Callable[[PodRef, Labels | None], Mapping[str, Assignment]]

    @property
    def live(self) -> Mapping[str, Placement]:
        """The placements that are there, by uid."""
        return {each.uid: each for each in self.found.facts.placements or ()}


@dataclass(frozen=True, slots=True)
class Outlook:
    """Which containers a limit would refuse, and why; and what else is to be said."""

    refused: Mapping[Key, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def applied(self, pod: PodPlan) -> PodPlan:
        """Return a pod with what limits mean for it; they come before room, as for the agent."""
        return structs.replace(pod, containers=tuple(self._of(pod, e) for e in pod.containers))

    def _of(self, pod: PodPlan, found: ContainerPlan) -> ContainerPlan:
        why = self.refused.get((pod.namespace, pod.name, found.name), "")
        if not why or found.reason not in (*DOABLE, Reason.TIER_FULL):
            return found
        before = found.message if found.reason == Reason.DRY_RUN else ""
        message = "; ".join(filter(None, (before, why)))
        return structs.replace(found, reason=Reason.NAMESPACE_LIMIT, message=message)


@dataclass(frozen=True, slots=True)
class _Asker:
    # A container that would follow a placement whose rules name a tier.
    pod: PodSeen
    name: str
    placement: Placement

    @property
    def key(self) -> Key:
        return self.pod.state.ref.namespace, self.pod.state.ref.name, self.name

    def is_of(self, placement: Placement) -> bool:
        return self.placement.uid == placement.uid


def look_at_limits(placement: Placement, scene: Scene) -> Outlook:
    """Return whether limits would be in the way of a placement; of a dry run as if it was meant."""
    named = {tier for rule in placement.spec.rules for tier in rule.policy.tiers}
    limited = [
        tier
        for tier in scene.memory_tiers
        if tier.name in named
        and tier.spec.namespace_limits
        and (placement.is_cluster or tier.spec.limit_of(placement.namespace))
    ]
    if not limited:
        return Outlook()
    if scene.found.facts.nodes is None:
        names = ", ".join(tier.name for tier in limited)
        return Outlook(
            notes=(
                f"namespaces have limits of tier {names}; whether they are in the way is not "
                "known, for want of the right to read NodeMemories",
            )
        )
    refused: dict[Key, str] = {}
    notes: list[str] = []
    for node in scene.found.facts.nodes:
        here = list(_askers(placement, node, scene))
        caps = _caps(limited, node, scene)
        for namespace in sorted({each.key[0] for each in here if each.is_of(placement)}):
            theirs = [each for each in here if each.key[0] == namespace]
            mine = {each.key for each in theirs if each.is_of(placement)}
            for tier, cap in caps.of(namespace).items():
                has = _has(tier, namespace, node, scene)
                claims = [_claim(e, tier, node, scene) for e in theirs if _names(e.placement, tier)]
                words = outlook(cap.bytes, has, claims)
                said = {key: words["/".join(key)] for key in mine}
                why = cap.forecast if placement.spec.is_dry_run else cap.text
                refused |= {key: why for key, w in said.items() if w is Word.WITHHELD}
                notes.append(f"node {node.name}: {_said(cap, has, Counter(said.values()))}")
    return Outlook(refused, (*notes, _CAVEAT) if notes else ())


def _names(placement: Placement, tier: str) -> bool:
    return any(tier in rule.policy.tiers for rule in placement.spec.rules)


def _caps(limited: Iterable[MemoryTier], node: NodeMemory, scene: Scene) -> Caps:
    sizes = {numa.id: numa.total_bytes for numa in node.status.numa_nodes}
    labels = scene.found.labels_of(node.name) or {}
    return caps_on(limited, scene.tiers.get(node.name, {}), sizes, node.name, labels)


def _askers(placement: Placement, node: NodeMemory, scene: Scene) -> Iterator[_Asker]:
    # The containers on a node that would be placed.
    can, labels = capabilities(node), scene.found.labels_of(node.name)
    for pod in scene.found.pods or ():
        state = pod.state
        if state.node != node.name or state.life == "Ended":
            continue
        for name, assigned in scene.assign(state.whole, labels).items():
            follows = _as_meant(placement, assigned)
            is_placed = act_for(follows.spec, can) in (Act.PLACE, Act.MOVE)
            if is_placed and name in state.container_ids and name not in pod.done:
                yield _Asker(pod, name, follows)


def _as_meant(placement: Placement, assigned: Assignment) -> Placement:
    # Whom a container would follow, if the dry run that is planned was meant.
    for each in (assigned.winner, *assigned.losers):
        is_it = each.uid == placement.uid and each.spec.is_dry_run
        if is_it and (each is assigned.winner or would_win(each, assigned.winner)):
            return meant(each)
    return assigned.winner


def _has(tier: str, namespace: str, node: NodeMemory, scene: Scene) -> int:
    # What a namespace has of a tier, by what agents report of placements that act.
    nodes, live = scene.tiers.get(node.name, {}).get(tier, frozenset()), scene.live
    total = 0
    for report in node.status.placements:
        spec = live[report.uid].spec if report.uid in live else None
        names = {r.name for r in spec.rules if tier in r.policy.tiers} if spec else frozenset()
        total += sum(
            at.bytes
            for pod in report.pods
            if (pod.namespace or report.namespace) == namespace
            for each in pod.containers
            if each.state not in _ONLY_TELLS
            for rule in each.rules
            if rule.name in names
            for at in rule.numa_nodes
            if at.id in nodes
        )
    return total


def _claim(asker: _Asker, tier: str, node: NodeMemory, scene: Scene) -> Claimant:
    state, after = asker.pod.state, asker.placement
    report = scene.reports.of(
        state.ref.uid, asker.name, state.container_ids.get(asker.name, ""), after.uid
    )
    live = scene.live.get(after.uid)
    tiers = scene.tiers.get(node.name, {})
    needs = moves_of(report, live.spec if live else None, after.spec, tiers, tier)
    bound = asker.pod.limits.get(asker.name) if needs is None else needs
    order = (precedence(after), state.started or _NEVER, state.ref.name, asker.name)
    return Claimant(container="/".join(asker.key), order=order, least=needs or 0, most=bound)


def _said(cap: Cap, has: int, words: Counter[Word]) -> str:
    text = f"{cap.said}, and has {human_bytes(has)} of it by what its agent reports: "
    refused, unknown = words[Word.WITHHELD], words[Word.AWAITED]
    if refused:
        text += f"{count(refused, 'container')} of this placement would be refused"
    if unknown:
        text += ", and " if refused else ""
        text += (
            f"whether {count(unknown, 'container')} of this placement would be refused can't be "
            "told before the agent has measured: apply it with mode: DryRun first"
        )
    return text if refused or unknown else f"{text}this placement fits"
