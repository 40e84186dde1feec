# SPDX-License-Identifier: Apache-2.0
"""What the cluster wants of this node, at one moment: what the watches say and the engine reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from memplace.api.v1alpha1 import AgentMode, MemoryTier, Placement
from memplace.kinds import OnDelete
from memplace.pods import PodState


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUnderstood:
    """A placement whose spec this version of the agent can't parse.

    Attributes:
        uid: Of the placement.
        namespace: Its namespace.
        name: Its name.
        problem: What can't be understood, for people.
        kept: Whether the last spec that was understood is still followed. Otherwise, after a
            restart, what it selects is held.
    """

    uid: str
    namespace: str
    name: str
    problem: str
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the API server says; by uid or name in no order that matters.

    Attributes:
        placements: Those there are on this node, as last understood.
        elsewhere: Those whose nodeSelector means other nodes: they have no containers here, and
            what was done for one of them is given back as if it did not select the pod.
        tiers: The MemoryTiers of all nodes.
        pods: Those of this node.
        mode: None when there is no NodeMemory of this node to tell.
        not_understood: Placements that exist in a form this version can't parse, where they
            concern pods of this node.
        held: Ids of containers that may follow one of them, nobody can tell how: they are
            neither placed nor undone.
        held_pods: Uids of pods that may follow one of them.
        held_placements: Uids of all placements that exist and can't be parsed: what was set
            for one of them is not undone either.
        labels: Those of this node.
        last_words: What placements that were deleted lately said of their end, by uid.
        namespaces: Those whose placements are known; None for all of the cluster.
    """

    placements: tuple[Placement, ...] = ()
    tiers: tuple[MemoryTier, ...] = ()
    pods: tuple[PodState, ...] = ()
    mode: AgentMode | None = AgentMode.ACTIVE
    not_understood: tuple[NotUnderstood, ...] = ()
    held: frozenset[str] = frozenset()
    held_pods: frozenset[str] = frozenset()
    held_placements: frozenset[str] = frozenset()
    last_words: Mapping[str, OnDelete] = field(default_factory=dict)
    elsewhere: tuple[Placement, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    namespaces: frozenset[str] | None = None

    @property
    def existing(self) -> tuple[Placement, ...]:
        """All placements of the cluster that are understood, on this node or elsewhere."""
        return (*self.placements, *self.elsewhere)

    def has(self, uid: str) -> bool:
        """Return whether a placement exists, understood or not, here or elsewhere."""
        return uid in self.held_placements or any(each.uid == uid for each in self.existing)

    def knows(self, namespace: str) -> bool:
        """Return whether all placements of a namespace are known; of the cluster for ``""``.

        Of another one nothing follows from what is missing.
        """
        return not namespace or self.namespaces is None or namespace in self.namespaces
