# SPDX-License-Identifier: Apache-2.0
"""Which nodes the placements with a nodeSelector are about. Pure.

Nodes that the same selectors mean are of one kind, and all else asks for the kind: so a label
that no placement asks for changes nothing, and without selectors all nodes are of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec
from memplace.api.v1alpha1 import Placement

# What is in it are numbers of selectors; no number is ever used again.
NodeKind = frozenset[int]
_Pair = tuple[str, str]
_Wanted = tuple[_Pair, ...]

_NONE: NodeKind = frozenset()


class SeenLabels(msgspec.Struct, frozen=True, gc=False):
    """A node's labels as they came; nodes share the pairs that they have in common."""

    uid: str
    name: str
    labels: tuple[_Pair, ...]


@lru_cache(maxsize=1 << 16)
def _shared(key: str, value: str) -> _Pair:
    return key, value


def labels_of(uid: str, name: str, labels: Mapping[str, str]) -> SeenLabels:
    """Keep a node's labels small."""
    return SeenLabels(uid, name, tuple(_shared(*pair) for pair in labels.items()))


class Kinds:
    """The kinds of all nodes, kept up to date; see the module.

    Attributes:
        is_listed: Whether all nodes were listed; before that nothing follows from a kind.
    """

    def __init__(self) -> None:
        self.is_listed = False
        self._nodes: dict[str, SeenLabels] = {}
        self._kinds: dict[str, NodeKind] = {}
        self._names: dict[str, str] = {}
        self._numbers: dict[_Wanted, int] = {}
        self._uses: dict[_Wanted, set[str]] = {}
        self._next = 0

    @property
    def is_needed(self) -> bool:
        """Whether a placement has a nodeSelector."""
        return bool(self._numbers)

    @property
    def users(self) -> set[str]:
        """Uids of the placements that have one."""
        return set().union(*self._uses.values())

    def uids(self) -> list[str]:
        """Return the uids of all nodes."""
        return list(self._names)

    def of(self, node: str) -> NodeKind:
        """Return the kind of a node; of one that is not known, that which no selector means."""
        return self._kinds.get(node, _NONE)

    def means(self, placement: Placement, kind: NodeKind) -> bool:
        """Return whether a placement is about nodes of a kind."""
        wanted = placement.spec.node_selector
        return not wanted or self._numbers.get(_key(wanted)) in kind

    def is_known(self, kind: NodeKind) -> bool:
        """Return whether nodes can be of a kind, as selectors are now."""
        return kind <= set(self._numbers.values())

    def use(self, placement: Placement) -> None:
        """Take the nodeSelector of a placement; a new one costs a look at each node."""
        wanted = _key(placement.spec.node_selector)
        if not wanted:
            return
        self._uses.setdefault(wanted, set()).add(placement.uid)
        if wanted in self._numbers:
            return
        number = self._numbers[wanted] = self._next
        self._next += 1
        for name, node in self._nodes.items():
            if _has(node, wanted):
                self._kinds[name] = self._kinds.get(name, _NONE) | {number}

    def release(self, placement: Placement) -> None:
        """Forget the nodeSelector of a placement."""
        wanted = _key(placement.spec.node_selector)
        users = self._uses.get(wanted, set())
        users.discard(placement.uid)
        if users or wanted not in self._numbers:
            return
        del self._uses[wanted]
        gone = {self._numbers.pop(wanted)}
        for name, kind in self._kinds.items():
            if kind & gone:
                self._kinds[name] = kind - gone

    def put(self, seen: SeenLabels) -> bool:
        """Take a node; returns whether it is of another kind now."""
        before = self._nodes.get(seen.name)
        if before is not None and before.uid != seen.uid:
            self._names.pop(before.uid, None)
        self._nodes[seen.name] = seen
        self._names[seen.uid] = seen.name
        return self._set(
            seen.name,
            frozenset(number for wanted, number in self._numbers.items() if _has(seen, wanted)),
        )

    def drop(self, uid: str) -> str:
        """Forget a node; returns its name if it is of another kind now, else nothing."""
        name = self._names.pop(uid, "")
        self._nodes.pop(name, None)
        return name if self._set(name, _NONE) else ""

    def _set(self, name: str, kind: NodeKind) -> bool:
        before = self._kinds.pop(name, _NONE)
        if kind:
            self._kinds[name] = kind
        return before != kind


def _key(wanted: Mapping[str, str]) -> _Wanted:
    return tuple(sorted(wanted.items()))


def _has(node: SeenLabels, wanted: _Wanted) -> bool:
    return all(pair in node.labels for pair in wanted)
