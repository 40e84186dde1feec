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
from typing import Any

import msgspec
from memplace.api.v1alpha1 import (
    AgentMode,
    NodeMemory,
    NodeMemoryStatus,
    Placement,
    PlacementStatus,
)
from memplace.kinds import OnDelete
from memplace.rollout import waits

from memplace_agent.cluster.concerns import concerns, followed, labels_of, with_namespaces
from memplace_agent.cluster.kinds import PARSERS, PLACEMENTS, Kind, controller_uid
from memplace_agent.cluster.odd import (
    Odd,
    OddTier,
    held,
    held_pods,
    parse_odd,
    parse_odd_tier,
    unclear,
    unsure,
)
from memplace_agent.cluster.scope import Scope, Token
from memplace_agent.world import NotUnderstood, World

log = logging.getLogger(__name__)

# For the labels of the node, once all else is listed.
_LABELS_S = 10.0

# Of placements that were deleted; the ledger has them when the next world is taken.
_MOST_WORDS = 1024


class Cache:
    """What the API server said last, as far as it was understood.

    Kept when the API server is away: pods keep their placement. `changed` is set when
    something differs that concerns a container of this node.

    Attributes:
        changed: See above.
        needs_namespaces: Set once there is a placement of the cluster.
        asked: Set when placements of other namespaces may be needed than before.
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
        self.asked = threading.Event()
        self._scope = Scope()
        self._claimed: frozenset[str] = frozenset()
        self._node_name = node_name
        self._pod_uid = pod_uid
        self._installation = ""
        self._lock = threading.Lock()
        self._objects: dict[Kind, dict[str, Any]] = {kind: {} for kind in Kind}
        self._odd: dict[str, Odd] = {}
        self._odd_tiers: dict[str, OddTier] = {}
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

    @property
    def needed(self) -> frozenset[str]:
        """The namespaces whose placements this node has to know."""
        with self._lock:
            return self._needed()

    @property
    def namespaces(self) -> frozenset[str] | None:
        """Those whose placements are known; None for all of the cluster."""
        with self._lock:
            return self._scope.namespaces

    def claim(self, namespaces: frozenset[str]) -> None:
        """Take the namespaces of what was done on this node; "" is that of the cluster's."""
        with self._lock:
            self._claimed = namespaces
            is_known = self._scope.knows_all(self._needed())
        if not is_known:
            self.asked.set()

    def begin(self, namespace: str | None) -> Token:
        """Return what who tells of placements of a namespace, or of all, has to show from now."""
        with self._lock:
            return self._scope.begin(namespace)

    def split(self) -> dict[str, Token] | None:
        """End the telling of all; returns what who tells of each needed namespace has to show.

        Placements of other namespaces are forgotten, as by `end`. None if all were not known.
        """
        with self._lock:
            found = self._scope.split(self._needed())
            if found is not None:
                kept = (self._uids(Kind.PLACEMENT, namespace) for namespace in found)
                self._forget(self._uids(Kind.PLACEMENT).difference(*kept))
            return found

    def end(self, token: Token) -> bool:
        """Forget the placements of a namespace, which says nothing of whether they exist.

        Returns whether that was done: not while they are needed.
        """
        with self._lock:
            if self._scope.is_good(token) and token.namespace in self._needed():
                return False
            if self._scope.end(token):
                self._forget(self._uids(Kind.PLACEMENT, token.namespace))
            return True

    def replace(
        self, kind: Kind, objects: Iterable[Mapping[str, Any]], token: Token | None = None
    ) -> None:
        """Take a complete list in place of what there was of a kind, or of it in a namespace."""
        there = {uid: obj for obj in objects if (uid := _uid(kind, obj))}
        with self._lock:
            if token is not None and not self._scope.is_good(token):
                return
            wakes = kind not in self._listed
            if kind is Kind.PLACEMENT:
                # What was held of its pods is held no more.
                wakes = self._scope.listed(token)
            if token is None:
                self._listed.add(kind)
            for uid in self._uids(kind, token.namespace if token else None) - there.keys():
                wakes |= self._drop(kind, uid)
            for uid, obj in there.items():
                wakes |= self._put(kind, uid, obj)
            if Kind.POD in self._listed and self._scope.knows_all(self._needed()):
                # Once: what is needed later is held until it is known.
                self._listed.add(Kind.PLACEMENT)
        if wakes:
            self.changed.set()

    def event(
        self, kind: Kind, type_: str, obj: Mapping[str, Any], token: Token | None = None
    ) -> None:
        """Take one watch event: ADDED, MODIFIED or DELETED."""
        uid = _uid(kind, obj)
        if not uid:
            return
        with self._lock:
            if token is not None and not self._scope.is_good(token):
                return
            wakes = self._drop(kind, uid) if type_ == "DELETED" else self._put(kind, uid, obj)
        if wakes:
            self.changed.set()

    def follows(self, container_id: str, placement: Placement | None) -> bool:
        """Return whether a container follows a placement by now, as that was when it was taken.

        Who acts on a snapshot asks this before each step of what takes long: the next snapshot
        is taken after all that is to be done with this one. For any thread.

        Args:
            container_id: The container.
            placement: The one it follows by the snapshot. None: it follows none, or one for which
                what was done is to be given back.
        """
        with self._lock:
            own = self._own_mode()
            now = followed(container_id, self._objects)
        if placement is None:
            return now is None or now.gives_back
        if now is None or own is AgentMode.RETIRED:
            return False
        return now.uid == placement.uid and now.asks_as(placement)

    def snapshot(self) -> World:
        """Return the world as it is now."""
        with self._lock:
            objects = {kind: tuple(found.values()) for kind, found in self._objects.items()}
            odd, odd_tiers = tuple(self._odd.values()), tuple(self._odd_tiers.values())
            kept = frozenset(uid for kind in PLACEMENTS for uid in self._objects[kind])
            pods = tuple(with_namespaces(objects[Kind.POD], self._objects))
            last_words = dict(self._last_words)
            namespaces = self._scope.namespaces
            unlisted = [pod for pod in pods if not self._scope.knows(pod.ref.namespace)]
            knows_labels = Kind.NODE in self._listed
            labels = labels_of(self._objects)
            mode = self._own_mode()
        odd = tuple(each for each in odd if not knows_labels or each.may_be_on(labels))
        placements = objects[Kind.PLACEMENT] + objects[Kind.CLUSTER_PLACEMENT]
        here = tuple(p for p in placements if p.spec.selects_node(labels))
        elsewhere = tuple(p for p in placements if not p.spec.selects_node(labels))
        # Without labels nobody knows where such a placement is, and that is no order to undo.
        unknown = () if knows_labels else (each.uid for each in elsewhere)
        unread = [each for each in odd if each.uid not in kept]
        vague = unclear(here, odd_tiers)
        in_doubt = [unsure(each) for each in here if each.is_cluster]
        doubtful = [pod for pod in pods if pod.ref.namespace_labels is None]
        return World(
            placements=here,
            elsewhere=elsewhere,
            labels=labels,
            tiers=objects[Kind.TIER],
            pods=pods,
            mode=mode,
            not_understood=tuple(
                _not_understood(each, kept=each.uid in kept and each not in vague)
                for each in (*odd, *vague)
                if any(each.may_select(pod.ref) for pod in pods)
            ),
            held=held((*unread, *vague), pods, here)
            | held(in_doubt, doubtful, here)
            | {id_ for pod in unlisted for id_ in pod.container_ids.values()},
            held_pods=held_pods((*unread, *vague), pods)
            | held_pods(in_doubt, doubtful)
            | {pod.ref.uid for pod in unlisted},
            held_placements=frozenset((*unknown, *(each.uid for each in unread))),
            last_words=last_words,
            namespaces=namespaces,
        )

    def _own_mode(self) -> AgentMode | None:
        own = next(iter(self._objects[Kind.NODE_MEMORY].values()), None)
        return own.spec.mode_of(self._installation) if own else None

    def _needed(self) -> frozenset[str]:
        pods = self._objects[Kind.POD].values()
        there = {pod.ref.namespace for pod in pods if pod.life != "Ended"}
        return self._claimed - {""} | there

    def _forget(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self._odd.pop(uid, None)
            self._objects[Kind.PLACEMENT].pop(uid, None)

    def _uids(self, kind: Kind, namespace: str | None = None) -> set[str]:
        found = dict(self._objects[kind])
        if kind is Kind.TIER:
            found |= self._odd_tiers
        if kind in PLACEMENTS:
            of_cluster = kind is Kind.CLUSTER_PLACEMENT
            found |= {uid: odd for uid, odd in self._odd.items() if odd.is_cluster is of_cluster}
        if namespace is None:
            return set(found)
        return {uid for uid, each in found.items() if each.namespace == namespace}

    def _put(self, kind: Kind, uid: str, obj: Mapping[str, Any]) -> bool:
        # Returns whether it concerns this node.
        if kind is Kind.POD and uid == self._pod_uid:
            self._installation = controller_uid(obj)
        if kind is Kind.CLUSTER_PLACEMENT:
            self.needs_namespaces.set()
        try:
            parsed = _for_node(PARSERS[kind](obj), self._node_name)
        except Exception as err:  # a form nobody thought of is no reason to stop
            return self._put_odd(kind, uid, obj, err)
        was_odd = (self._odd if kind in PLACEMENTS else self._odd_tiers).pop(uid, None) is not None
        if kind is Kind.NODE:
            # There is one; its object may be made anew.
            is_new: bool = labels_of(self._objects) != parsed
            self._objects[kind] = {uid: parsed}
            return is_new
        if kind is Kind.POD and not self._scope.knows(parsed.ref.namespace):
            self.asked.set()
        before = self._objects[kind].get(uid)
        self._objects[kind][uid] = parsed
        if before == parsed and not was_odd:
            return False
        if kind is Kind.TIER and was_odd:
            return True
        if kind is Kind.NAMESPACE and not self._uids(Kind.CLUSTER_PLACEMENT):
            return False  # nobody asks for labels
        return concerns(before, parsed, self._objects, self._node_name)

    def _put_odd(self, kind: Kind, uid: str, obj: Mapping[str, Any], err: Exception) -> bool:
        # What was understood last stays. The API server refuses what its CRD forbids, so this
        # is a newer version's; the operator explains the rest.
        name = {"kind": kind.value, "name": obj["metadata"].get("name")}
        log.warning(
            "object can't be understood; what was understood of it before stays",
            extra={"object": name, "error": str(err) or type(err).__name__},
        )
        if kind is Kind.TIER:
            return self._put_odd_tier(uid, parse_odd_tier(obj, str(err)))
        if kind not in PLACEMENTS:
            return False
        odd = parse_odd(obj, str(err), is_cluster=kind is Kind.CLUSTER_PLACEMENT)
        before, self._odd[uid] = self._odd.get(uid), odd
        pods = with_namespaces(self._objects[Kind.POD].values(), self._objects)
        return before != self._odd[uid] and any(self._odd[uid].may_select(p.ref) for p in pods)

    def _put_odd_tier(self, uid: str, odd: OddTier) -> bool:
        if uid in self._objects[Kind.TIER] or not odd.may_be_about(self._node_name):
            return False
        before, self._odd_tiers[uid] = self._odd_tiers.get(uid), odd
        return before != odd

    def _drop(self, kind: Kind, uid: str) -> bool:
        if kind is Kind.NODE:
            return False  # who runs here knows better; the labels stay until there are others
        was_odd = (self._odd if kind in PLACEMENTS else self._odd_tiers).pop(uid, None)
        before = self._objects[kind].pop(uid, None)
        if before is None:
            return was_odd is not None
        if isinstance(before, Placement):
            # It may have been changed and deleted between two looks at the world.
            self._last_words[uid] = before.spec.at_deletion
            while len(self._last_words) > _MOST_WORDS:
                del self._last_words[next(iter(self._last_words))]
            if before.namespace in self._claimed:
                return True  # what was done for it may have outlived its pods
        return concerns(before, None, self._objects, self._node_name)


def _uid(kind: Kind, obj: Mapping[str, Any]) -> str:
    # What is asked of a namespace is asked by its name.
    key = "name" if kind is Kind.NAMESPACE else "uid"
    meta = obj.get("metadata")
    uid = meta.get(key) if isinstance(meta, Mapping) else None
    if not isinstance(uid, str) or not uid:
        log.warning("object without a uid", extra={"kind": kind.value})
        return ""
    return uid


def _not_understood(odd: Odd, *, kept: bool) -> NotUnderstood:
    return NotUnderstood(
        uid=odd.uid, namespace=odd.namespace, name=odd.name, problem=odd.problem, kept=kept
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
