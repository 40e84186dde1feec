# SPDX-License-Identifier: Apache-2.0
"""Which placement a container follows when several select it, and what a change changes.

The agent acts on the winners, the operator explains the losers; both ask here, so that
they can't disagree. A node asks for its few pods out of all placements of the cluster, again
at each change: so placements are looked up by namespace and label, not one by one, and two
views are compared to name the containers that a change is about. An edit that is about none
of them costs this comparison and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from memplace import selectors
from memplace.api.v1alpha1 import ClusterPlacementSpec, Level, Placement
from memplace.kinds import Enforcement
from memplace.nodes import NumaSet


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRef:
    """What an assignment needs to know of a pod.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        uid: Its uid.
        labels: Its labels.
        containers: Names of its containers, as far as they count.
        namespace_labels: Those of its namespace; None while nobody knows them, or asks.
    """

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[str, ...] = ()
    namespace_labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """The placement a container follows, and those it does not, in order of precedence."""

    winner: Placement
    losers: tuple[Placement, ...] = ()

    @property
    def trial(self) -> Placement | None:
        """The dry run that would have the container if it were meant; of several the first."""
        return next((each for each in self.losers if would_win(each, self.winner)), None)


Rank = tuple[bool, int, int, datetime, str, str]


def rank(
    priority: int,
    created: datetime,
    name: str,
    uid: str,
    *,
    is_dry_run: bool = False,
    level: Level = Level.NAMESPACE,
) -> Rank:
    """Return the sort key of a placement: the smallest has the containers it selects.

    Who acts comes before who only tells, whatever its priority: a dry run that had the
    container of another would have that one's work given back. Then what the cluster's admin
    enforces comes before what a namespace asks for, and that before what is the cluster's
    default. Among those
    the higher priority wins, then the older placement, then the name decides. So with
    priorities of their own the winner is told by manifests alone, in whatever order they
    were applied.
    """
    return is_dry_run, level, -priority, created, name, uid


def precedence(placement: Placement) -> Rank:
    """Return the `rank` of a placement."""
    return rank(
        placement.spec.priority,
        placement.creation_timestamp,
        placement.name,
        placement.uid,
        is_dry_run=placement.spec.is_dry_run,
        level=placement.spec.level,
    )


def why_first(winner: Placement, loser: Placement, it: str = "this one") -> str:
    """Say why a placement comes before another, for people: ``is older``.

    Args:
        winner: The first of the two.
        loser: The other one.
        it: What the loser is called.
    """
    if winner.spec.is_dry_run is not loser.spec.is_dry_run:
        return f"acts, {it} only tells (mode DryRun),"
    if winner.spec.level is not loser.spec.level:
        if winner.spec.level is Level.ENFORCED:
            return f"is enforced, {it} is not,"
        return f"is of the pod's namespace, {it} a default of the cluster,"
    mine, its = winner.spec.priority, loser.spec.priority
    if mine != its:
        return f"has priority {mine}, {it} {its},"
    if winner.creation_timestamp != loser.creation_timestamp:
        return "is older"
    return "is as old, comes first by name"


def meant(trial: Placement) -> Placement:
    """Return a dry run as it would be with mode Enforce."""
    spec = msgspec.structs.replace(trial.spec, mode=Enforcement.ENFORCE)
    return msgspec.structs.replace(trial, spec=spec)


def would_win(trial: Placement, winner: Placement) -> bool:
    """Return whether a dry run that lost to a placement would come first if it were meant.

    One that is paused tells nothing of what would be.
    """
    spec = trial.spec
    mine = (False, *precedence(trial)[1:])
    return spec.is_dry_run and not spec.paused and mine < precedence(winner)


def forecast(trial: Placement, winner: Placement) -> str:
    """Say who has a container that a dry run selects, and who would if it were meant.

    Example:
        ``placement ns/a has it, and with mode Enforce this one would: it is older``
    """
    has = f"{winner.title} has it, and"
    if would_win(trial, winner):
        why = why_first(meant(trial), winner, "that one").rstrip(",")
        return f"{has} with mode Enforce this one would: it {why}"
    why = why_first(winner, meant(trial)).rstrip(",")
    return f"{has} would have it with mode Enforce, too: it {why}"


def gives_way(loser: Placement, winner: Placement) -> bool:
    """Return whether that a placement loses to another is how it is meant, and no conflict.

    A default of the cluster is what holds where a namespace has nothing of its own.
    """
    return loser.spec.level is Level.CLUSTER and winner.spec.level is Level.NAMESPACE


def selects_pod(placement: Placement, pod: PodRef) -> bool:
    """Return whether the pod is in a namespace that is meant and has the labels."""
    is_there = (
        placement.namespace == pod.namespace
        if not placement.is_cluster
        else pod.namespace_labels is not None and means_namespace(placement, pod.namespace_labels)
    )
    return is_there and selectors.matches(placement.spec.selector, pod.labels)


def means_namespace(placement: Placement, labels: Mapping[str, str]) -> bool:
    """Return whether a placement of the cluster means namespaces with these labels."""
    spec = placement.spec
    return isinstance(spec, ClusterPlacementSpec) and selectors.matches(
        spec.namespace_selector, labels
    )


# A namespace (empty: the cluster's), and a label that a placement's selector asks for, or None when
# it asks for none.
_Key = tuple[str, tuple[str, str] | None]


class PlacementIndex:
    """All placements, by namespace and by one label that the selector asks for.

    A pod is compared with the placements that ask for one of its labels and those that ask
    for none. Immutable once made; threads may share it.

    Example:
        >>> index = PlacementIndex([])
        >>> index.assign(PodRef(namespace="cache", name="redis-0", uid="u", containers=("c",)))
        {}
    """

    def __init__(self, placements: Iterable[Placement]) -> None:
        self._by_key: dict[_Key, list[Placement]] = {}
        self._size = 0
        for placement in placements:
            self._by_key.setdefault(_key(placement), []).append(placement)
            self._size += 1

    def __len__(self) -> int:
        return self._size

    def of_pod(self, pod: PodRef) -> list[Placement]:
        """Return the placements that select a pod, those that win first."""
        labels = (None, *pod.labels.items())
        keys: list[_Key] = [(where, label) for where in (pod.namespace, "") for label in labels]
        found = (p for key in keys for p in self._by_key.get(key, ()) if selects_pod(p, pod))
        return [_within(p, pod.namespace) for p in sorted(found, key=precedence)]

    def assign(self, pod: PodRef) -> dict[str, Assignment]:
        """Give each container of a pod the first, by `precedence`, of those that select it.

        Returns:
            One entry per container that at least one placement selects, in the pod's order.
        """
        ranked = self.of_pod(pod)
        per_container = {
            name: [p for p in ranked if p.spec.selects_container(name)] for name in pod.containers
        }
        return {name: Assignment(ps[0], tuple(ps[1:])) for name, ps in per_container.items() if ps}


def _within(placement: Placement, namespace: str) -> Placement:
    if not placement.is_cluster:
        return placement
    return msgspec.structs.replace(placement, acts_in=namespace)


def _key(placement: Placement) -> _Key:
    # Any one of the labels would do, since a pod must have them all.
    return placement.namespace, next(iter(placement.spec.selector.match_labels.items()), None)


def assign(placements: Iterable[Placement], pod: PodRef) -> dict[str, Assignment]:
    """Give each container of one pod its placement; for many pods make a `PlacementIndex`.

    Args:
        placements: In any order; of other namespaces too.
        pod: The pod.

    Returns:
        As of `PlacementIndex.assign`.
    """
    return PlacementIndex(p for p in placements if p.namespace in (pod.namespace, "")).assign(pod)


@dataclass(frozen=True, slots=True)
class Target:
    """A container that runs on this node: its id, its pod and its name in the pod."""

    container_id: str
    pod: PodRef
    container: str


class View:
    """What the cluster wants of the containers of a node, at one moment.

    Args:
        placements: All placements.
        targets: The containers that run on the node.
        tiers: Its tiers, name to NUMA nodes: a tier that gains a node changes what a spec
            that names it means.

    Attributes:
        assignments: Container id to its assignment, for those that have one.
        tiers: As given.
    """

    def __init__(
        self, placements: PlacementIndex, targets: Iterable[Target], tiers: Mapping[str, NumaSet]
    ) -> None:
        self.tiers = dict(tiers)
        self.assignments: dict[str, Assignment] = {}
        of_pod: dict[str, dict[str, Assignment]] = {}
        for target in targets:
            if target.pod.uid not in of_pod:
                of_pod[target.pod.uid] = placements.assign(target.pod)
            assignment = of_pod[target.pod.uid].get(target.container)
            if assignment is not None:
                self.assignments[target.container_id] = assignment

    def tiers_of(self, placement: Placement) -> dict[str, NumaSet | None]:
        """Return the NUMA nodes of the tiers a spec names; None for one this node lacks."""
        names = {name for rule in placement.spec.rules for name in rule.policy.tiers}
        return {name: self.tiers.get(name) for name in names}


def delta(old: View, new: View) -> frozenset[str]:
    """Return the ids of the containers for which something else is wanted now.

    That is: it has a placement now or none any more, another one, one that asks for more or
    something else, or
    one of the tiers the spec names has other NUMA nodes. Which placements lost to it, and
    what has no bearing on the spec (generation, status, labels), is not counted.

    Example:
        >>> due = delta(before, now)
        >>> schedule.changed(due)
    """
    ids = old.assignments.keys() | new.assignments.keys()
    same_tiers = old.tiers == new.tiers
    return frozenset(id_ for id_ in ids if _differs(id_, old, new, same_tiers=same_tiers))


def _differs(container_id: str, old: View, new: View, *, same_tiers: bool) -> bool:
    before, now = old.assignments.get(container_id), new.assignments.get(container_id)
    if before is None or now is None:
        return True
    if before.winner is now.winner and same_tiers:
        return False
    if before.winner.uid != now.winner.uid or not before.winner.asks_as(now.winner):
        return True
    return not same_tiers and old.tiers_of(before.winner) != new.tiers_of(now.winner)
