# SPDX-License-Identifier: Apache-2.0
"""Which placements select which pods, and which of them wins: kept up to date, never scanned.

Pure. Pods with the same labels are one group: a placement is compared with groups, not with
pods, and only with those that have the first label its selector asks for. One of the cluster is
compared with namespaces in the same way first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from memplace import selectors
from memplace.api.v1alpha1 import ClusterPlacementSpec, Placement
from memplace.assignment import means_namespace, precedence

from memplace_operator.nodes import Kinds, NodeKind
from memplace_operator.objects import Pod, SeenPod

# A namespace (empty: the cluster), and a label; None for whatever has no label to look for.
_Key = tuple[str, tuple[str, str] | None]
_GroupKey = tuple[str, tuple[tuple[str, str], ...]]


# Of a group; more than a pod has containers, on nodes of a few kinds.
_MANY_WINNERS = 64


class Group:
    """The pods of a namespace that have the same labels.

    Attributes:
        namespace: Theirs.
        labels: Theirs.
        pods: By uid.
        winners: Per container name and kind of node, as far as somebody asked, the placement
            that it follows there.
    """

    __slots__ = ("labels", "namespace", "pods", "winners")

    def __init__(self, namespace: str, labels: Mapping[str, str]) -> None:
        self.namespace = namespace
        self.labels = labels
        self.pods: dict[str, Pod] = {}
        self.winners: dict[tuple[str, NodeKind], Placement] = {}


class Selection:
    """The placements and pods of the cluster. What a change is about, its methods return."""

    def __init__(self) -> None:
        self.kinds = Kinds()
        self._placements: dict[_Key, dict[str, Placement]] = defaultdict(dict)
        self._groups: dict[_GroupKey, Group] = {}
        self._by_label: dict[_Key, dict[Group, None]] = defaultdict(dict)
        self._group_of: dict[str, Group] = {}
        self._on_node: dict[str, dict[Group, None]] = defaultdict(dict)
        # Labels of namespaces: one without any is known, and one that is not here is not.
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._with_label: dict[tuple[str, str] | None, dict[str, None]] = defaultdict(dict)

    def pod_uids(self) -> list[str]:
        """Return the uids of all pods."""
        return list(self._group_of)

    def nodes(self) -> list[str]:
        """Return the names of the Kubernetes nodes that have pods."""
        return [name for name in self._on_node if name]

    def groups_of(self, placement: Placement) -> Iterator[Group]:
        """Yield the groups of pods that a placement selects, whether it wins them or not."""
        _, label = _key(placement)
        for namespace in self._namespaces_of(placement):
            for group in list(self._by_label.get((namespace, label), ())):
                if selectors.matches(placement.spec.selector, group.labels):
                    yield group

    def _namespaces_of(self, placement: Placement) -> Iterable[str]:
        if not isinstance(placement.spec, ClusterPlacementSpec):
            return (placement.namespace,)
        wanted = placement.spec.namespace_selector.match_labels.items()
        some = self._with_label.get(next(iter(wanted), None), ())
        return [name for name in some if means_namespace(placement, self._namespaces[name])]

    def pods_of(self, placement: Placement) -> Iterator[tuple[Group, Pod]]:
        """Yield the pods that a placement selects, on the nodes that it is about."""
        means, kind_of = self.kinds.means, self.kinds.of
        for group in self.groups_of(placement):
            for pod in group.pods.values():
                if means(placement, kind_of(pod.node)):
                    yield group, pod

    def selecting(self, group: Group) -> Iterator[Placement]:
        """Yield the placements that select a group, in any order."""
        for label in (None, *group.labels.items()):
            for placement in self._placements.get((group.namespace, label), {}).values():
                if selectors.matches(placement.spec.selector, group.labels):
                    yield placement
            for placement in self._placements.get(("", label), {}).values():
                if self._means(placement, group):
                    yield placement

    def _means(self, placement: Placement, group: Group) -> bool:
        labels = self._namespaces.get(group.namespace)
        return (
            labels is not None
            and means_namespace(placement, labels)
            and selectors.matches(placement.spec.selector, group.labels)
        )

    def winner(self, group: Group, container: str, node: str) -> Placement | None:
        """Return the placement that a container of that name follows in a group, on a node."""
        kind = self.kinds.of(node)
        found = group.winners.get((container, kind))
        if found is None:
            rivals = (
                p
                for p in self.selecting(group)
                if p.spec.selects_container(container) and self.kinds.means(p, kind)
            )
            found = min(rivals, key=precedence, default=None)
            if found is not None:
                self._prune(group)
                group.winners[container, kind] = found
        return found

    def _prune(self, group: Group) -> None:
        # Selectors come and go, and with them kinds of which nobody will ask again.
        if len(group.winners) < _MANY_WINNERS:
            return
        for place in [p for p in group.winners if not self.kinds.is_known(p[1])]:
            del group.winners[place]

    def groups_on(self, node: str) -> Iterator[Group]:
        """Yield the groups with pods on a node."""
        for group in list(self._on_node.get(node, ())):
            if any(pod.node == node for pod in group.pods.values()):
                yield group
            else:
                del self._on_node[node][group]
        if not self._on_node.get(node, True):
            del self._on_node[node]

    def add(self, placement: Placement) -> set[str]:
        """Take a placement that is not there; returns the uids of those that are concerned."""
        self._placements[_key(placement)][placement.uid] = placement
        self.kinds.use(placement)
        concerned = {placement.uid}
        mine = precedence(placement)
        for group in self.groups_of(placement):
            lost = [
                (name, kind)
                for (name, kind), winner in group.winners.items()
                if placement.spec.selects_container(name)
                and self.kinds.means(placement, kind)
                and mine < precedence(winner)
            ]
            for place in lost:
                group.winners[place] = placement
            # With a selector of its own it makes kinds of nodes of which nobody asked yet.
            if lost or placement.spec.node_selector:
                concerned.update(each.uid for each in self.selecting(group))
        return concerned

    def replace(self, old: Placement, new: Placement) -> None:
        """Take a placement that selects what it did, and wins what it did."""
        self._placements[_key(old)][old.uid] = new
        for group in self.groups_of(new):
            for place, winner in group.winners.items():
                if winner.uid == new.uid:
                    group.winners[place] = new

    def remove(self, placement: Placement) -> set[str]:
        """Forget a placement; returns the uids of the others that are concerned."""
        key = _key(placement)
        self._placements[key].pop(placement.uid, None)
        if not self._placements[key]:
            del self._placements[key]
        concerned: set[str] = set()
        for group in self.groups_of(placement):
            freed = [place for place, each in group.winners.items() if each.uid == placement.uid]
            for place in freed:
                del group.winners[place]
            if freed:
                concerned.update(each.uid for each in self.selecting(group))
        self.kinds.release(placement)
        return concerned

    def put_namespace(self, name: str, labels: Mapping[str, str]) -> set[str]:
        """Take a namespace; returns the uids of the placements that it concerns."""
        if self._namespaces.get(name) == labels:
            return set()
        return self._with_labels(name, dict(labels))

    def drop_namespace(self, name: str) -> set[str]:
        """Forget a namespace; returns the uids of the placements that it concerned."""
        return self._with_labels(name, None)

    def _with_labels(self, name: str, labels: Mapping[str, str] | None) -> set[str]:
        # Its pods may follow others now: of those that no longer mean them, and of those that
        # do, all are concerned.
        groups = list(self._by_label.get((name, None), ()))
        before = [{each.uid for each in self.selecting(group)} for group in groups]
        old = self._namespaces.pop(name, None)
        for label in () if old is None else (None, *old.items()):
            del self._with_label[label][name]
            if not self._with_label[label]:
                del self._with_label[label]
        if labels is not None:
            self._namespaces[name] = labels
            for label in (None, *labels.items()):
                self._with_label[label][name] = None
        concerned: set[str] = set()
        for group, then in zip(groups, before, strict=True):
            now = {each.uid for each in self.selecting(group)}
            if then != now:
                group.winners.clear()
                concerned |= then | now
        return concerned

    def put_pod(self, seen: SeenPod) -> set[str]:
        """Take a pod; returns the uids of the placements that it concerns."""
        uid = seen.pod.uid
        group, before = self._group(seen), self._group_of.get(uid)
        if before is group and group.pods[uid] == seen.pod:
            return set()
        concerned = self.drop_pod(uid) if before is not None and before is not group else set()
        if not group.pods:
            self._index(group)
        group.pods[uid] = seen.pod
        self._group_of[uid] = group
        self._on_node[seen.pod.node][group] = None
        concerned.update(each.uid for each in self.selecting(group))
        return concerned

    def drop_pod(self, uid: str) -> set[str]:
        """Forget a pod; returns the uids of the placements that it concerned."""
        group = self._group_of.pop(uid, None)
        if group is None:
            return set()
        pod = group.pods.pop(uid)
        concerned = {each.uid for each in self.selecting(group)}
        if not any(each.node == pod.node for each in group.pods.values()):
            self._on_node[pod.node].pop(group, None)
            if not self._on_node[pod.node]:
                del self._on_node[pod.node]
        if not group.pods:
            self._forget(group)
        return concerned

    def _group(self, seen: SeenPod) -> Group:
        key = _group_key(seen.namespace, seen.labels)
        found = self._groups.get(key)
        return found if found is not None else Group(seen.namespace, dict(seen.labels))

    def _index(self, group: Group) -> None:
        self._groups[_group_key(group.namespace, group.labels)] = group
        for label in (None, *group.labels.items()):
            self._by_label[group.namespace, label][group] = None

    def _forget(self, group: Group) -> None:
        del self._groups[_group_key(group.namespace, group.labels)]
        for label in (None, *group.labels.items()):
            groups = self._by_label[group.namespace, label]
            del groups[group]
            if not groups:
                del self._by_label[group.namespace, label]


def _key(placement: Placement) -> _Key:
    # Any one of the labels would do, since a pod must have them all.
    return placement.namespace, next(iter(placement.spec.selector.match_labels.items()), None)


def _group_key(namespace: str, labels: Mapping[str, str]) -> _GroupKey:
    return namespace, tuple(sorted(labels.items()))
