# SPDX-License-Identifier: Apache-2.0
"""What is said of manifests before they are applied: the words of plan's ``-o json``. Pure.

An interface, as the CRDs are: names stay, new ones may come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec
from memplace.api.v1alpha1 import MemoryTier, Placement, TierBytes
from memplace.pods import PodState
from memplace.reasons import FAILURES, Reason

from memplace_cli.facts import ClusterFacts, Labels

# What a container has whose placement can do all it asks for.
DOABLE = (Reason.PLACED, Reason.PLACED_BEST_EFFORT, Reason.DRY_RUN, Reason.PAUSED)

# What is not placed, though nobody calls it a failure.
_NOT_PLACED = FAILURES | {Reason.UNSUPPORTED, Reason.OBSERVED}


class Change(StrEnum):
    """What applying does to a container's following of the placement."""

    COMES = "Comes"
    STAYS = "Stays"
    LEAVES = "Leaves"
    LOSES = "Loses"  # it is selected, and another placement has it, before and after
    ELSEWHERE = "Elsewhere"  # it is selected, and its node is not

    @property
    def is_selected(self) -> bool:
        """Whether the placement would mean the container."""
        return self not in (Change.LEAVES, Change.ELSEWHERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeen:
    """A pod as the API server has it.

    Attributes:
        state: It.
        done: Its containers that have ended well: nothing is to be placed of them.
        limits: Per container its memory limit in bytes; those without one are left out.
    """

    state: PodState
    done: frozenset[str] = frozenset()
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An object as it would be after apply.

    Attributes:
        where: Which document.
        kind: Its kind.
        namespace: Of it; empty for what is in none.
        name: Of it.
        live: The object of that name that is there; None for none.
        spec: Its spec after apply.
        kept: Fields that stay though the manifest does not name them.
        changes: What differs of the specs.
        placement: Parsed, of both kinds of placements; None if it makes no sense.
        tier: The same of kind MemoryTier.
        problems: What is wrong with it.
    """

    where: str
    kind: str
    namespace: str
    name: str
    live: Mapping[str, Any] | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    placement: Placement | None = None
    tier: MemoryTier | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFacts:
    """What was read for a plan.

    Attributes:
        facts: Placements of the namespaces that are meant and of the cluster, and nodes.
        pods: Theirs; None if they could not be read.
        tiers: The MemoryTiers; None if they could not be read.
        node_labels: Of each Kubernetes node; empty if no nodeSelector asks for them, None if they
            could not be read.
        is_partial: Whether a placement of the cluster may mean pods that could not be read.
    """

    facts: ClusterFacts = field(default_factory=ClusterFacts)
    pods: tuple[PodSeen, ...] | None = ()
    tiers: tuple[MemoryTier, ...] | None = ()
    node_labels: Mapping[str, Labels] | None = field(default_factory=dict)
    is_partial: bool = False

    def tiers_after(self, wanted: Sequence[Wanted]) -> tuple[MemoryTier, ...]:
        """Return the MemoryTiers as they would be."""
        new = {each.tier.name: each.tier for each in wanted if each.tier is not None}
        return (*(tier for tier in self.tiers or () if tier.name not in new), *new.values())

    def labels_of(self, node: str) -> Labels | None:
        """Return the labels of a node; None if they are not known, or there is no node yet."""
        if self.node_labels is None or not node:
            return None
        return self.node_labels.get(node, {})


class _Said(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    pass


class ContainerPlan(_Said, frozen=True, kw_only=True):
    """What would become of a container.

    Attributes:
        name: Its name.
        change: Comes, Stays, Leaves, Loses, or Elsewhere.
        reason: The reason that its state would have; empty where that can't be told.
        message: Why.
        before: The placement that it follows now, one of the cluster as ``cluster/NAME``; empty
            for none.
        after: The one that it would follow.
        tiers: Where its memory is, as far as its agent measures it for the placement that it
            follows now.
        measured: Whether an agent measures it.
        would_move_bytes: Of what is measured, what is elsewhere than the rules want; None if
            that can't be told, for want of the agent's look at each region.
        limit_bytes: Its memory limit; 0 for none.
    """

    name: str
    change: Change
    reason: str = ""
    message: str = ""
    before: str = ""
    after: str = ""
    tiers: tuple[TierBytes, ...] = ()
    measured: bool = False
    would_move_bytes: int | None = None
    limit_bytes: int = 0

    @property
    def is_against(self) -> bool:
        """Whether it would not be placed."""
        return self.change.is_selected and self.reason in _NOT_PLACED


class PodPlan(_Said, frozen=True, kw_only=True):
    """What would become of a pod that the placement selects, or has."""

    namespace: str
    name: str
    node: str
    life: str
    containers: tuple[ContainerPlan, ...] = ()


class TierRoom(_Said, frozen=True, kw_only=True):
    """How much room the tiers that the rules name have on a node.

    Attributes:
        tiers: Their names.
        capacity_bytes: Their memory.
        placed_bytes: What rules of placements hold there now, measured.
        would_move_bytes: What is measured elsewhere, of containers that would be placed.
        limit_bytes: The sum of the memory limits of those that nobody measures.
        unknown: How many containers have neither figure.
        message: What speaks against it; empty if nothing that is known does.
    """

    tiers: tuple[str, ...]
    capacity_bytes: int
    placed_bytes: int = 0
    would_move_bytes: int = 0
    limit_bytes: int = 0
    unknown: int = 0
    message: str = ""


class NodePlan(_Said, frozen=True, kw_only=True):
    """Whether a node with pods of the placement can do it.

    Attributes:
        name: The Kubernetes node.
        backend: How its agent acts; empty if that is not known.
        reason: Why it can't; empty if it can.
        message: What that means here.
        room: Of its tiers; None where no rule names one.
    """

    name: str
    backend: str = ""
    reason: str = ""
    message: str = ""
    room: TierRoom | None = None


class PlacementPlan(_Said, frozen=True, kw_only=True):
    """What applying a MemoryPlacement or ClusterMemoryPlacement would do.

    Attributes:
        namespace: Its namespace; empty for a ClusterMemoryPlacement.
        name: Its name.
        exists: Whether there is one of that name.
        reason: What speaks against all of it, such as TierUnknown; NoPods; or empty.
        message: What that means here.
        changes: What differs from what is there.
        kept: Fields that stay as they are there though the manifest does not name them.
        pods: Those that it selects or has, by name.
        nodes: Theirs.
        notes: What else is worth knowing.
    """

    namespace: str
    name: str
    exists: bool = False
    reason: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    pods: tuple[PodPlan, ...] = ()
    nodes: tuple[NodePlan, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_against(self) -> bool:
        """Whether something of it would not be placed."""
        return self.reason in _NOT_PLACED or any(
            container.is_against for pod in self.pods for container in pod.containers
        )


class TierNodePlan(_Said, frozen=True, kw_only=True):
    """What a MemoryTier would do to a node.

    Attributes:
        name: The Kubernetes node.
        before: The NUMA nodes that are in the tier now.
        after: Those that would be.
        message: Why a NUMA node that it lists would not be, or whose it is now.
    """

    name: str
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    message: str = ""


class TierPlan(_Said, frozen=True, kw_only=True):
    """What applying a MemoryTier would do."""

    name: str
    exists: bool = False
    changes: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    nodes: tuple[TierNodePlan, ...] = ()
    notes: tuple[str, ...] = ()


class Refusal(_Said, frozen=True, kw_only=True):
    """A manifest that would be refused, and why."""

    where: str
    about: str
    problems: tuple[str, ...] = ()


class Plan(_Said, frozen=True, kw_only=True):
    """What applying manifests would do.

    Attributes:
        schema: Changes when a reader that knows the names would be wrong.
        refused: Manifests that are wrong.
        tiers: The MemoryTiers.
        placements: The MemoryPlacements and ClusterMemoryPlacements.
        ignored: Documents of other kinds.
        left_out: Sentences: what could not be read or asked.
    """

    schema: int = 1
    refused: tuple[Refusal, ...] = ()
    tiers: tuple[TierPlan, ...] = ()
    placements: tuple[PlacementPlan, ...] = ()
    ignored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def is_against(self) -> bool:
        """Whether something would not be placed."""
        return any(each.is_against for each in self.placements)
