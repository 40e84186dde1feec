# SPDX-License-Identifier: Apache-2.0
"""Everything a verdict is made from, and whose verdict a change may have changed. Pure.

Each change is taken as it comes and costs what it touches; the placements it concerns become
due. For one thread at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from memplace.api.v1alpha1 import (
    ClusterPlacementSpec,
    LabelSelector,
    NumaNodeStatus,
    Placement,
    PlacementReport,
    PlacementStatus,
)
from memplace.assignment import precedence
from memplace.nodes import NumaSet

from memplace_operator.beats import Pulse
from memplace_operator.nodes import SeenLabels
from memplace_operator.objects import (
    NodeHead,
    SeenNamespace,
    SeenNode,
    SeenPod,
    Unreadable,
    node_sets,
    pack_status,
    read_report,
    unpack_status,
)
from memplace_operator.selection import Group, Selection

Subject = Placement | Unreadable


@dataclass(slots=True)
class Node:
    """A node's report.

    Attributes:
        uid: Of the NodeMemory.
        name: The node's name.
        head: What it says of the node.
        reports: Per placement uid what it says of that, packed.
        numa_nodes: Its NUMA nodes with memory.
    """

    uid: str
    name: str
    head: NodeHead
    reports: Mapping[str, bytes]
    numa_nodes: Sequence[NumaNodeStatus] = ()

    @property
    def tiers(self) -> Mapping[str, NumaSet]:
        """Tier name to NUMA nodes."""
        return node_sets(self.head.tiers)

    def report(self, placement_uid: str) -> PlacementReport | None:
        """Return what it says of a placement; None for nothing that can be read."""
        content = self.reports.get(placement_uid)
        return None if content is None else read_report(content)


@dataclass(slots=True)
class _Kept:
    # The placement without its status, which is kept small beside it. `version` is that of
    # the status that we wrote last: until it comes back, older news of it is no news.
    subject: Subject
    status: bytes
    version: int = 0


@dataclass(slots=True)
class World:
    """What there is.

    Attributes:
        due: Uids of the placements whose verdict may have changed, in the order of that.
        nodes: By Kubernetes node.
        tiers: Names of all MemoryTier objects.
        selection: Who selects whom.
    """

    due: dict[str, None] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    tiers: dict[str, str] = field(default_factory=dict)
    selection: Selection = field(default_factory=Selection)
    _placements: dict[str, _Kept] = field(default_factory=dict)
    _node_names: dict[str, str] = field(default_factory=dict)
    _namespace_names: dict[str, str] = field(default_factory=dict)
    _namespace_uids: dict[str, str] = field(default_factory=dict)
    _on_nodes: Counter[str] = field(default_factory=Counter)
    _reported: int = 0
    _pulses: Mapping[str, Pulse] = field(default_factory=dict)

    # --- what is there ---------------------------------------------------------------

    def subject(self, uid: str) -> Subject | None:
        """Return a placement with the status it has; None when it is gone."""
        kept = self._placements.get(uid)
        if kept is None:
            return None
        return msgspec.structs.replace(kept.subject, status=unpack_status(kept.status))

    def namespace(self, uid: str) -> str | None:
        """Return the namespace of a placement, empty for the cluster's; None when it is gone."""
        kept = self._placements.get(uid)
        return None if kept is None else kept.subject.namespace

    def placement_uids(self, *, of_cluster: bool | None = None) -> list[str]:
        """Return the uids of all placements, those that can't be read included.

        Args:
            of_cluster: Only those of the cluster, or only those of namespaces.
        """
        if of_cluster is None:
            return list(self._placements)
        return [
            uid
            for uid, kept in self._placements.items()
            if (not kept.subject.namespace) is of_cluster
        ]

    def namespace_uids(self) -> list[str]:
        """Return the uids of all namespaces."""
        return list(self._namespace_names)

    def node_uids(self) -> list[str]:
        """Return the uids of all NodeMemories."""
        return list(self._node_names)

    def expected(self) -> set[str]:
        """Return the nodes that ought to have an agent: with a pod, or with a NodeMemory."""
        return {*self.selection.nodes(), *self.nodes}

    def pulse(self, node: str) -> Pulse:
        """Return what is known of a node's agent."""
        return self._pulses.get(node, Pulse.UNKNOWN)

    def silent(self) -> Iterator[Node]:
        """Yield the nodes with a report whose agent is silent."""
        for name, pulse in self._pulses.items():
            if pulse is Pulse.SILENT and name in self.nodes:
                yield self.nodes[name]

    @property
    def has_reports(self) -> bool:
        """Whether the agent of a node has ever reported."""
        return self._reported > 0

    def known_tiers(self) -> set[str]:
        """Return the names of the tiers that a node has or a MemoryTier describes."""
        return {*self._on_nodes, *self.tiers.values()}

    # --- what changes ----------------------------------------------------------------

    def put_placement(self, subject: Subject, version: int = 0) -> None:
        """Take a placement as the API server has it, of a resourceVersion."""
        old = self._placements.get(subject.uid)
        bare = msgspec.structs.replace(subject, status=PlacementStatus())
        status, written = pack_status(subject.status), 0
        if old is not None and version < old.version:
            status, written = old.status, old.version
        self._placements[subject.uid] = _Kept(bare, status, written)
        if old is not None and old.subject == bare:
            self._placements[subject.uid].subject = old.subject
            if old.status != status:
                self.due[subject.uid] = None
            return
        self._select(old.subject if old else None, bare)
        self.due[subject.uid] = None

    def _select(self, old: Subject | None, new: Subject) -> None:
        if isinstance(old, Placement) and isinstance(new, Placement) and _wins_alike(old, new):
            self.selection.replace(old, new)
            return
        if isinstance(old, Placement):
            self._mark(self.selection.remove(old))
        if isinstance(new, Placement):
            self._mark(self.selection.add(new))

    def wrote(self, uid: str, status: PlacementStatus, version: int) -> None:
        """Take a status that the API server took from us, and made that resourceVersion of."""
        kept = self._placements.get(uid)
        if kept is not None:
            kept.status, kept.version = pack_status(status), version

    def trust(self) -> None:
        """Take what comes as it is: a list has begun, and may be of a restored etcd."""
        for kept in self._placements.values():
            kept.version = 0

    def drop_placement(self, uid: str) -> None:
        """Forget a placement."""
        kept = self._placements.pop(uid, None)
        # Somebody may keep something of it, and forgets that when its turn comes.
        self.due[uid] = None
        if kept is not None and isinstance(kept.subject, Placement):
            self._mark(self.selection.remove(kept.subject))

    def put_namespace(self, seen: SeenNamespace) -> None:
        """Take a namespace."""
        self._namespace_names[seen.uid] = seen.name
        self._namespace_uids[seen.name] = seen.uid
        self._mark(self.selection.put_namespace(seen.name, seen.labels))

    def drop_namespace(self, uid: str) -> None:
        """Forget a namespace; one of the same name that came since stays."""
        name = self._namespace_names.pop(uid, None)
        if name is not None and self._namespace_uids.get(name) == uid:
            del self._namespace_uids[name]
            self._mark(self.selection.drop_namespace(name))

    def put_pod(self, seen: SeenPod) -> None:
        """Take a pod."""
        self._mark(self.selection.put_pod(seen))

    def drop_pod(self, uid: str) -> None:
        """Forget a pod."""
        self._mark(self.selection.drop_pod(uid))

    def put_node(self, seen: SeenNode) -> None:
        """Take a node's report; of the placements, those of whom it says something new are due."""
        old = self.nodes.get(seen.name)
        if old is not None and old.uid != seen.uid:
            self._node_names.pop(old.uid, None)
        self._node_names[seen.uid] = seen.name
        new = Node(seen.uid, seen.name, seen.head, seen.reports, seen.numa_nodes)
        self.nodes[seen.name] = new
        before = old.reports if old else {}
        changed = [uid for uid, content in seen.reports.items() if before.get(uid) != content]
        self._mark([*changed, *(before.keys() - seen.reports.keys())])
        if old is None or old.head != new.head:
            self._mark_node(seen.name)
            self._change_tiers(old, new)

    def drop_node(self, uid: str) -> None:
        """Forget a NodeMemory."""
        name = self._node_names.pop(uid, None)
        if name is not None:
            self._mark_node(name)
            self._change_tiers(self.nodes.pop(name), None)

    def put_labels(self, seen: SeenLabels) -> None:
        """Take the labels of a Node."""
        if self.selection.kinds.put(seen):
            self._mark_node(seen.name)

    def drop_labels(self, uid: str) -> None:
        """Forget a Node."""
        name = self.selection.kinds.drop(uid)
        if name:
            self._mark_node(name)

    def labels_listed(self) -> None:
        """Say that the labels of all Nodes are there."""
        self.selection.kinds.is_listed = True
        self._mark(self.selection.kinds.users)

    def knows_nodes_of(self, placement: Placement) -> bool:
        """Return whether it is known which nodes a placement is about."""
        return not placement.spec.node_selector or self.selection.kinds.is_listed

    def put_tier(self, uid: str, name: str) -> None:
        """Take a MemoryTier."""
        if uid not in self.tiers:
            self._with_tiers(lambda: self.tiers.update({uid: name}))

    def drop_tier(self, uid: str) -> None:
        """Forget a MemoryTier."""
        self._with_tiers(lambda: self.tiers.pop(uid, None))

    def hear(self, pulses: Mapping[str, Pulse]) -> None:
        """Take what is known of all agents."""
        before, self._pulses = self._pulses, pulses
        for name in before.keys() | pulses.keys():
            if before.get(name, Pulse.UNKNOWN) is not self.pulse(name):
                self._mark_node(name)

    def _change_tiers(self, old: Node | None, new: Node | None) -> None:
        heads = [(each.head.tiers, each.head.has_reported) for each in (old, new) if each]
        if len(heads) == 2 and heads[0] == heads[1]:
            return

        def change() -> None:
            self._reported += bool(new and new.head.has_reported)
            self._reported -= bool(old and old.head.has_reported)
            for name in new.tiers if new else ():
                self._on_nodes[name] += 1
            for name in old.tiers if old else ():
                self._on_nodes[name] -= 1
                if not self._on_nodes[name]:
                    del self._on_nodes[name]

        self._with_tiers(change)

    def _with_tiers(self, change: Callable[[], object]) -> None:
        # Messages about unknown tiers name all that are known, and nodes that have none at
        # all make none unknown.
        before = self.known_tiers(), self.has_reports
        change()
        if before != (self.known_tiers(), self.has_reports):
            self._mark(self._placements)

    def _mark_node(self, name: str) -> None:
        for group in self.selection.groups_on(name):
            self._mark_group(group)

    def _mark_group(self, group: Group) -> None:
        self._mark([placement.uid for placement in self.selection.selecting(group)])

    def _mark(self, uids: Iterable[str]) -> None:
        for uid in uids:
            if uid in self._placements:
                self.due[uid] = None


def _wins_alike(old: Placement, new: Placement) -> bool:
    return (
        _namespaces(old) == _namespaces(new)
        and old.spec.selector == new.spec.selector
        and old.spec.containers == new.spec.containers
        and old.spec.node_selector == new.spec.node_selector
        and precedence(old) == precedence(new)
    )


def _namespaces(placement: Placement) -> LabelSelector | str:
    spec = placement.spec
    if isinstance(spec, ClusterPlacementSpec):
        return spec.namespace_selector
    return placement.namespace
