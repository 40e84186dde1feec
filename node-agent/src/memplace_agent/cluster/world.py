# SPDX-License-Identifier: Apache-2.0
"""The objects as last seen: watches fill them, the worker reads them, few changes wake it.

Labels of namespaces matter to placements of the cluster only. Until those of a pod's namespace are
known, what such a placement may have of the pod is held, as with one that nobody understands.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import msgspec
from memplace.api.objects import (
    parse_cluster_placement,
    parse_node_memory,
    parse_placement,
    parse_tier,
)
from memplace.api.v1alpha1 import (
    MemoryTier,
    NodeMemory,
    NodeMemoryStatus,
    Placement,
    PlacementStatus,
)
from memplace.assignment import assign, selects_pod
from memplace.kinds import OnDelete
from memplace.pods import PodState, parse_pod
from memplace.rollout import waits

from memplace_agent.cluster.odd import Odd, held_containers, parse_odd, unsure
from memplace_agent.world import NotUnderstood, World

__all__ = ["Cache", "Kind", "controller_uid", "node_labels"]

log = logging.getLogger(__name__)

# For the labels of the node, once all else is listed.
_LABELS_S = 10.0

# Of placements that were deleted; the ledger has them when the next world is taken.
_MOST_WORDS = 1024


class Kind(StrEnum):
    """The kinds the agent watches."""

    PLACEMENT = "MemoryPlacement"
    CLUSTER_PLACEMENT = "ClusterMemoryPlacement"
    NAMESPACE = "Namespace"
    TIER = "MemoryTier"
    POD = "Pod"
    NODE = "Node"
    NODE_MEMORY = "NodeMemory"


def node_labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the labels of a node."""
    return dict(obj["metadata"].get("labels") or {})


_PLACEMENTS = (Kind.PLACEMENT, Kind.CLUSTER_PLACEMENT)


@dataclass(frozen=True, slots=True)
class _Namespace:
    name: str
    labels: Mapping[str, str]


def _parse_namespace(obj: Mapping[str, Any]) -> _Namespace:
    meta = obj["metadata"]
    return _Namespace(str(meta["name"]), dict(meta.get("labels") or {}))


_PARSERS: dict[Kind, Callable[[Mapping[str, Any]], Any]] = {
    Kind.PLACEMENT: parse_placement,
    Kind.CLUSTER_PLACEMENT: parse_cluster_placement,
    Kind.NAMESPACE: _parse_namespace,
    Kind.TIER: parse_tier,
    Kind.POD: parse_pod,
    Kind.NODE: node_labels,
    Kind.NODE_MEMORY: parse_node_memory,
}

_Objects = Mapping[Kind, Mapping[str, Any]]


class Cache:
    """What the API server said last, as far as it was understood.

    Kept when the API server is away: pods keep their placement. `changed` is set when
    something differs that concerns a container of this node.

    Attributes:
        changed: See above.
        needs_namespaces: Set once there is a placement of the cluster.
    """

    def __init__(
        self,
        node_name: str = "",
        pod_uid: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start empty.

        Args:
            node_name: This node's; without, tiers of every node concern this one.
            pod_uid: Of the agent's own pod; without, the word for any installation is obeyed.
            clock: Seconds, only forward.
        """
        self.changed = threading.Event()
        self._clock = clock
        self._waits_until: float | None = None
        self.needs_namespaces = threading.Event()
        self._node_name = node_name
        self._pod_uid = pod_uid
        self._installation = ""
        self._lock = threading.Lock()
        self._objects: dict[Kind, dict[str, Any]] = {kind: {} for kind in Kind}
        self._odd: dict[str, Odd] = {}
        self._listed: set[Kind] = set()
        self._last_words: dict[str, OnDelete] = {}

    @property
    def is_synced(self) -> bool:
        """Whether every kind has been listed once; before that nothing may be concluded.

        Neither the labels of the node nor of namespaces are waited for for ever: an agent that may
        not read them (its role is older than they are) works for all placements that do not ask
        for any. `snapshot` says what is held for those of namespaces.
        """
        with self._lock:
            missing = set(Kind) - self._listed - {Kind.NAMESPACE}
            if missing - {Kind.NODE}:
                return False
            if missing and self._waits_until is None:
                self._waits_until = self._clock() + _LABELS_S
            return not missing or self._clock() >= (self._waits_until or 0.0)

    @property
    def own_uid(self) -> str:
        """The uid of this node's NodeMemory; empty when there is none."""
        with self._lock:
            own = [node.uid for node in self._objects[Kind.NODE_MEMORY].values()]
        return own[0] if own else ""

    def replace(self, kind: Kind, objects: Iterable[Mapping[str, Any]]) -> None:
        """Take a complete list in place of what there was of a kind."""
        there = {uid: obj for obj in objects if (uid := _uid(kind, obj))}
        with self._lock:
            wakes = kind not in self._listed
            self._listed.add(kind)
            for uid in self._uids(kind) - there.keys():
                wakes |= self._drop(kind, uid)
            for uid, obj in there.items():
                wakes |= self._put(kind, uid, obj)
        if wakes:
            self.changed.set()

    def event(self, kind: Kind, type_: str, obj: Mapping[str, Any]) -> None:
        """Take one watch event: ADDED, MODIFIED or DELETED."""
        uid = _uid(kind, obj)
        if not uid:
            return
        with self._lock:
            wakes = self._drop(kind, uid) if type_ == "DELETED" else self._put(kind, uid, obj)
        if wakes:
            self.changed.set()

    def snapshot(self) -> World:
        """Return the world as it is now."""
        with self._lock:
            objects = {kind: tuple(found.values()) for kind, found in self._objects.items()}
            odd = tuple(self._odd.values())
            kept = frozenset(uid for kind in _PLACEMENTS for uid in self._objects[kind])
            pods = tuple(_with_namespaces(objects[Kind.POD], self._objects))
            last_words = dict(self._last_words)
            knows_labels = Kind.NODE in self._listed
            labels = _labels(self._objects)
        own = objects[Kind.NODE_MEMORY]
        odd = tuple(each for each in odd if not knows_labels or each.may_be_on(labels))
        placements = objects[Kind.PLACEMENT] + objects[Kind.CLUSTER_PLACEMENT]
        here = tuple(p for p in placements if p.spec.selects_node(labels))
        elsewhere = tuple(p for p in placements if not p.spec.selects_node(labels))
        # Without labels nobody knows where such a placement is, and that is no order to undo.
        unknown = () if knows_labels else (each.uid for each in elsewhere)
        unread = [each for each in odd if each.uid not in kept]
        in_doubt = [unsure(each) for each in here if each.is_cluster]
        doubtful = [pod for pod in pods if pod.ref.namespace_labels is None]
        return World(
            placements=here,
            elsewhere=elsewhere,
            labels=labels,
            tiers=objects[Kind.TIER],
            pods=pods,
            mode=own[0].spec.mode_of(self._installation) if own else None,
            not_understood=tuple(
                _not_understood(each, kept=each.uid in kept)
                for each in odd
                if any(each.may_select(pod.ref) for pod in pods)
            ),
            held=_held(unread, pods, here) | _held(in_doubt, doubtful, here),
            held_pods=_held_pods(unread, pods) | _held_pods(in_doubt, doubtful),
            held_placements=frozenset((*unknown, *(each.uid for each in unread))),
            last_words=last_words,
        )

    def _uids(self, kind: Kind) -> set[str]:
        found = set(self._objects[kind])
        if kind in _PLACEMENTS:
            of_cluster = kind is Kind.CLUSTER_PLACEMENT
            found |= {uid for uid, odd in self._odd.items() if odd.is_cluster is of_cluster}
        return found

    def _put(self, kind: Kind, uid: str, obj: Mapping[str, Any]) -> bool:
        # Returns whether it concerns this node.
        if kind is Kind.POD and uid == self._pod_uid:
            self._installation = controller_uid(obj)
        if kind is Kind.CLUSTER_PLACEMENT:
            self.needs_namespaces.set()
        try:
            parsed = _for_node(_PARSERS[kind](obj), self._node_name)
        except Exception as err:  # a form nobody thought of is no reason to stop
            return self._put_odd(kind, uid, obj, err)
        was_odd = kind in _PLACEMENTS and self._odd.pop(uid, None) is not None
        if kind is Kind.NODE:
            # There is one; its object may be made anew.
            is_new: bool = _labels(self._objects) != parsed
            self._objects[kind] = {uid: parsed}
            return is_new
        before = self._objects[kind].get(uid)
        self._objects[kind][uid] = parsed
        if before == parsed and not was_odd:
            return False
        if kind is Kind.NAMESPACE and not self._uids(Kind.CLUSTER_PLACEMENT):
            return False  # nobody asks for labels
        return _concerns(before, parsed, self._objects, self._node_name)

    def _put_odd(self, kind: Kind, uid: str, obj: Mapping[str, Any], err: Exception) -> bool:
        # What was understood last stays. The API server refuses what its CRD forbids, so this
        # is a newer version's; the operator explains the rest.
        name = {"kind": kind.value, "name": obj["metadata"].get("name")}
        log.warning(
            "object can't be understood; what was understood of it before stays",
            extra={"object": name, "error": str(err) or type(err).__name__},
        )
        if kind not in _PLACEMENTS:
            return False
        odd = parse_odd(obj, str(err), is_cluster=kind is Kind.CLUSTER_PLACEMENT)
        before, self._odd[uid] = self._odd.get(uid), odd
        pods = _with_namespaces(self._objects[Kind.POD].values(), self._objects)
        return before != self._odd[uid] and any(self._odd[uid].may_select(p.ref) for p in pods)

    def _drop(self, kind: Kind, uid: str) -> bool:
        if kind is Kind.NODE:
            return False  # who runs here knows better; the labels stay until there are others
        was_odd = self._odd.pop(uid, None) if kind in _PLACEMENTS else None
        before = self._objects[kind].pop(uid, None)
        if before is None:
            return was_odd is not None
        if isinstance(before, Placement):
            # It may have been changed and deleted between two looks at the world.
            self._last_words[uid] = before.spec.at_deletion
            while len(self._last_words) > _MOST_WORDS:
                del self._last_words[next(iter(self._last_words))]
        return _concerns(before, None, self._objects, self._node_name)


def _uid(kind: Kind, obj: Mapping[str, Any]) -> str:
    # What is asked of a namespace is asked by its name.
    key = "name" if kind is Kind.NAMESPACE else "uid"
    meta = obj.get("metadata")
    uid = meta.get(key) if isinstance(meta, Mapping) else None
    if not isinstance(uid, str) or not uid:
        log.warning("object without a uid", extra={"kind": kind.value})
        return ""
    return uid


def controller_uid(obj: Mapping[str, Any]) -> str:
    """Return the uid of what made an object, of a pod its DaemonSet; empty for none."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def _not_understood(odd: Odd, *, kept: bool) -> NotUnderstood:
    return NotUnderstood(
        uid=odd.uid, namespace=odd.namespace, name=odd.name, problem=odd.problem, kept=kept
    )


def _with_namespaces(pods: Iterable[PodState], objects: _Objects) -> list[PodState]:
    return [_with_namespace(pod, objects) for pod in pods]


def _with_namespace(pod: PodState, objects: _Objects) -> PodState:
    found: _Namespace | None = objects[Kind.NAMESPACE].get(pod.ref.namespace)
    if found is None:
        return pod
    return replace(pod, ref=replace(pod.ref, namespace_labels=found.labels))


def _held_pods(odd: Iterable[Odd], pods: Iterable[PodState]) -> frozenset[str]:
    odd = tuple(odd)
    return frozenset(pod.ref.uid for pod in pods if any(each.may_select(pod.ref) for each in odd))


def _held(
    odd: Iterable[Odd], pods: Iterable[PodState], placements: Iterable[Placement]
) -> frozenset[str]:
    odd = tuple(odd)
    return frozenset(
        pod.container_ids[name]
        for pod in pods
        for each in odd
        for name in held_containers(each, pod.ref, placements)
    )


def _for_node(parsed: Any, node_name: str) -> Any:
    # Status is what others, or we, report: a change of it is no reason to act, but for what it
    # says of when this node may.
    if isinstance(parsed, Placement):
        late = waits(parsed, node_name)
        return msgspec.structs.replace(parsed, status=PlacementStatus(), waits=late)
    if isinstance(parsed, NodeMemory):
        return msgspec.structs.replace(parsed, status=NodeMemoryStatus())
    return parsed


# --- what concerns this node -------------------------------------------------------------


def _concerns(before: Any, after: Any, objects: _Objects, node_name: str) -> bool:
    """Return whether a change of one object may change what a container of this node follows."""
    match after if after is not None else before:
        case Placement():
            pods = objects[Kind.POD].values()
            both = [each for each in (before, after) if each is not None]
            return any(_may_select(each, pod, objects) for each in both for pod in pods)
        case PodState():
            labels = _labels(objects)
            known = [each for kind in _PLACEMENTS for each in objects[kind].values()]
            placements = [each for each in known if each.spec.selects_node(labels)]
            then, now = (pod and _with_namespace(pod, objects) for pod in (before, after))
            return _follows(then, placements) != _follows(now, placements)
        case _Namespace(name):
            return any(pod.ref.namespace == name for pod in objects[Kind.POD].values())
        case MemoryTier():
            tiers: list[MemoryTier] = [tier for tier in (before, after) if tier]
            return not node_name or any(
                tier.spec.covers(node_name, _labels(objects)) for tier in tiers
            )
    return True


def _labels(objects: _Objects) -> Mapping[str, str]:
    return next(iter(objects[Kind.NODE].values()), {})


def _may_select(placement: Placement, pod: PodState, objects: _Objects) -> bool:
    if not placement.is_cluster:
        return selects_pod(placement, pod.ref)
    ref = _with_namespace(pod, objects).ref
    if ref.namespace_labels is None:
        return unsure(placement).may_select(ref)
    return selects_pod(placement, ref)


def _follows(pod: PodState | None, placements: Iterable[Placement]) -> Mapping[str, Any]:
    # Per container that follows a placement, or will, its id and that placement: one that is
    # about to be made has to be known before it is.
    if pod is None:
        return {}
    found = assign(placements, pod.whole)
    return {name: (pod.container_ids.get(name), each.winner) for name, each in found.items()}
