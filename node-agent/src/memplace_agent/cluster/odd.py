# SPDX-License-Identifier: Apache-2.0
"""Placements and tiers in a form that this version of the agent can't parse.

An older agent meets them during an upgrade, and after a rollback. What they order is unknown;
it is not an order to undo. Nor is it known which nodes are of which tier while a MemoryTier
can't be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from memplace import selectors
from memplace.api.convert import from_builtins
from memplace.api.v1alpha1 import LabelSelector, Level, Placement
from memplace.assignment import PodRef, precedence, rank, selects_pod
from memplace.errors import MemplaceError
from memplace.kinds import Enforcement
from memplace.pods import PodState
from msgspec import UNSET

_OLDEST = datetime(1970, 1, 1, tzinfo=UTC)
# What nobody can read may be the highest: what it may have is left as it is.
_HIGHEST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """What can be read of such a placement.

    Attributes:
        uid: Its uid.
        namespace: Its namespace; empty for one of the cluster.
        name: Its name.
        created: When; long ago if that can't be read.
        priority: Its priority; the highest if that can't be read.
        problem: Why it can't be understood.
        selector: None when not even that is understood: it may mean every pod.
        containers: Names; None for each container.
        is_dry_run: Whether it says that it only tells.
        node_selector: What it wants of nodes, as far as that can be read.
        namespaces: Of one of the cluster, which it means; None when that is not understood.
        level: Whose word it is; what can't be read may be enforced.
    """

    uid: str
    namespace: str
    name: str
    created: datetime
    priority: int
    problem: str
    selector: LabelSelector | None
    containers: frozenset[str] | None
    is_dry_run: bool = False
    node_selector: Mapping[str, str] = field(default_factory=dict)
    namespaces: LabelSelector | None = None
    level: Level = Level.NAMESPACE

    @property
    def is_cluster(self) -> bool:
        """Whether it is one of the cluster."""
        return self.level is not Level.NAMESPACE

    def may_be_on(self, labels: Mapping[str, str]) -> bool:
        """Return whether it may mean a node with these labels."""
        return all(labels.get(key) == value for key, value in self.node_selector.items())

    def may_select(self, pod: PodRef) -> bool:
        """Return whether the pod may be in a namespace that it means and have its labels."""
        is_there = self.namespace == pod.namespace
        if self.is_cluster:
            is_there = _may_match(self.namespaces, pod.namespace_labels)
        return is_there and _may_match(self.selector, pod.labels)


def _may_match(selector: LabelSelector | None, labels: Mapping[str, str] | None) -> bool:
    return selector is None or labels is None or selectors.matches(selector, labels)


def unsure(placement: Placement) -> Odd:
    """Return what is known of one of the cluster, for pods whose namespaces are not known yet."""
    spec = placement.spec
    return Odd(
        uid=placement.uid,
        namespace=placement.namespace,
        name=placement.name,
        created=placement.creation_timestamp,
        priority=spec.priority,
        problem="",
        selector=spec.selector,
        containers=None if spec.containers is UNSET else frozenset(spec.containers),
        is_dry_run=spec.is_dry_run,
        level=spec.level,
    )


@dataclass(frozen=True, slots=True)
class OddTier:
    """What can be read of a MemoryTier that can't be understood.

    Attributes:
        name: Its name.
        problem: Why it can't be understood.
        node_names: The nodes that it says it is about; None for all.
    """

    name: str
    problem: str
    node_names: frozenset[str] | None

    def may_be_about(self, node_name: str) -> bool:
        """Return whether it may be about a node; any, if that has no name."""
        return self.node_names is None or not node_name or node_name in self.node_names


def parse_odd_tier(obj: Mapping[str, Any], problem: str) -> OddTier:
    """Read what can be read of an object that has a uid."""
    meta, spec = _mapping(obj.get("metadata")), _mapping(obj.get("spec"))
    return OddTier(str(meta.get("name", "")), problem, _names(spec.get("nodeNames")))


def unclear(placements: Iterable[Placement], tiers: Iterable[OddTier]) -> list[Odd]:
    """Return the placements of which nobody knows what they mean while tiers can't be read.

    A MemoryTier may take any NUMA node out of another tier, so all with rules on tiers are.
    """
    found = min(tiers, key=lambda tier: tier.name, default=None)
    if found is None:
        return []
    text = f"it names tiers, and nobody can tell what MemoryTier {found.name} says: {found.problem}"
    return [
        replace(unsure(each), problem=text)
        for each in placements
        if any(rule.policy.tiers for rule in each.spec.rules)
    ]


def parse_odd(obj: Mapping[str, Any], problem: str, *, is_cluster: bool = False) -> Odd:
    """Read what can be read of an object that has a uid."""
    meta, spec = _mapping(obj.get("metadata")), _mapping(obj.get("spec"))
    return Odd(
        uid=str(meta["uid"]),
        namespace=str(meta.get("namespace", "")),
        name=str(meta.get("name", "")),
        created=_time(meta.get("creationTimestamp")),
        priority=_priority(spec.get("priority", 0)),
        problem=problem,
        selector=_selector(spec.get("selector")),
        containers=_names(spec.get("containers")),
        is_dry_run=spec.get("mode") == Enforcement.DRY_RUN,
        node_selector=_mapping(spec.get("nodeSelector")),
        namespaces=_selector(spec.get("namespaceSelector")),
        level=_level(spec.get("enforced", False)) if is_cluster else Level.NAMESPACE,
    )


def held_containers(odd: Odd, pod: PodRef, placements: Iterable[Placement]) -> frozenset[str]:
    """Return the names of a pod's containers that may follow a placement nobody understands.

    Args:
        odd: The placement.
        pod: A pod.
        placements: Those that are understood; one that comes first has its containers, whatever
            the odd one says.
    """
    if not odd.may_select(pod):
        return frozenset()
    mine = rank(
        odd.priority,
        odd.created,
        odd.name,
        odd.uid,
        is_dry_run=odd.is_dry_run,
        level=odd.level,
    )
    first = [p for p in placements if precedence(p) < mine and selects_pod(p, pod)]
    return frozenset(
        name
        for name in pod.containers
        if (odd.containers is None or name in odd.containers)
        and not any(p.spec.selects_container(name) for p in first)
    )


def held_pods(odd: Iterable[Odd], pods: Iterable[PodState]) -> frozenset[str]:
    """Return the uids of pods that may follow one of some placements nobody understands."""
    odd = tuple(odd)
    return frozenset(pod.ref.uid for pod in pods if any(each.may_select(pod.ref) for each in odd))


def held(
    odd: Iterable[Odd], pods: Iterable[PodState], placements: Iterable[Placement]
) -> frozenset[str]:
    """Return the ids of containers that may follow one of them; see held_containers."""
    odd = tuple(odd)
    return frozenset(
        pod.container_ids[name]
        for pod in pods
        for each in odd
        for name in held_containers(each, pod.ref, placements)
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _selector(value: Any) -> LabelSelector | None:
    try:
        return None if value is None else from_builtins(value, LabelSelector, "")
    except (MemplaceError, TypeError):
        return None


def _names(value: Any) -> frozenset[str] | None:
    return frozenset(map(str, value)) if isinstance(value, list) else None


def _priority(value: Any) -> int:
    return value if isinstance(value, int) and abs(value) <= _HIGHEST else _HIGHEST


def _level(enforced: Any) -> Level:
    return Level.CLUSTER if enforced is False else Level.ENFORCED


def _time(value: Any) -> datetime:
    try:
        return from_builtins(value, datetime, "")
    except (MemplaceError, TypeError):
        return _OLDEST
