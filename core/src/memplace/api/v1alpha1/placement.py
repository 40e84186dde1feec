# SPDX-License-Identifier: Apache-2.0
"""MemoryPlacement and ClusterMemoryPlacement: what is wanted of the memory of pods."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from memplace.api.conditions import Condition
from memplace.api.v1alpha1.common import (
    DnsLabel,
    Glob,
    LabelKey,
    LabelValue,
    NodeLabels,
    PathGlob,
    PauseSeconds,
    Percent,
    Permissions,
    Priority,
    Size,
    SpecPart,
    StatusPart,
    as_text,
)
from memplace.kinds import (
    Enforcement,
    ExistingPages,
    HoldOn,
    Mode,
    OnDelete,
    OnUnsupported,
    RegionKind,
)
from memplace.quantity import parse_quantity


class Operator(StrEnum):
    """The operators of a label selector."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(SpecPart, frozen=True):
    """One of a label selector's matchExpressions."""

    key: LabelKey
    operator: Operator
    values: Annotated[tuple[LabelValue, ...], Meta(max_length=32)] = ()


class LabelSelector(SpecPart, frozen=True):
    """metav1.LabelSelector; the empty one selects everything."""

    match_labels: Annotated[dict[str, LabelValue], Meta(max_length=32)] = msgspec.field(
        default_factory=dict
    )
    match_expressions: Annotated[tuple[Requirement, ...], Meta(max_length=16)] = ()


class RegionEntry(SpecPart, frozen=True):
    """Which regions: every key that is given has to hold. Empty means not given."""

    type: RegionKind
    name: Glob = ""
    path: PathGlob = ""
    min_size: Size = ""
    max_size: Size = ""
    permissions: Permissions = ""
    process: PathGlob = ""

    def __post_init__(self) -> None:
        """Have sizes as text: 1048576 and "1048576" are the same spec."""
        as_text(self, "min_size", "max_size")

    @property
    def min_bytes(self) -> int:
        """The smallest size that matches, in bytes; 0 when not given."""
        return parse_quantity(self.min_size) if self.min_size else 0

    @property
    def max_bytes(self) -> int | None:
        """The largest size that matches, in bytes; None when not given."""
        return parse_quantity(self.max_size) if self.max_size else None


class PolicySpec(SpecPart, frozen=True):
    """A mode and the tiers it is about."""

    mode: Mode
    tiers: Annotated[tuple[DnsLabel, ...], Meta(max_length=16)] = ()


class Rule(SpecPart, frozen=True):
    """What to do with the regions it wins."""

    name: DnsLabel
    regions: Annotated[tuple[RegionEntry, ...], Meta(max_length=16)]
    policy: PolicySpec
    exclude: Annotated[tuple[RegionEntry, ...], Meta(max_length=16)] = ()
    existing_pages: ExistingPages | UnsetType = UNSET
    override: bool = False

    @property
    def existing(self) -> ExistingPages:
        """The field existingPages, by default Move, for modes without nodes Leave."""
        if self.existing_pages is not UNSET:
            return self.existing_pages
        return ExistingPages.MOVE if self.policy.mode.takes_nodes else ExistingPages.LEAVE


class Migration(SpecPart, frozen=True):
    """How fast pages move."""

    max_bandwidth: Size = ""

    def __post_init__(self) -> None:
        """Have the size as text, see RegionEntry."""
        as_text(self, "max_bandwidth")

    @property
    def max_bytes_per_second(self) -> int | None:
        """The most bytes to move in a second on one node; None when not given."""
        return parse_quantity(self.max_bandwidth) if self.max_bandwidth else None


class Rollout(SpecPart, frozen=True):
    """How a change comes to the nodes: some at a time."""

    max_nodes: int | Percent
    pause_seconds: PauseSeconds | UnsetType = UNSET
    hold_on: Annotated[tuple[HoldOn, ...], Meta(max_length=3)] | UnsetType = UNSET
    ignore_hold_of: Annotated[int, Meta(ge=0)] = 0

    @property
    def pause_s(self) -> int:
        """The field pauseSeconds, by default a minute."""
        return 60 if self.pause_seconds is UNSET else self.pause_seconds

    @property
    def holds_on(self) -> tuple[HoldOn, ...]:
        """The field holdOn, by default all there is."""
        return tuple(HoldOn) if self.hold_on is UNSET else self.hold_on

    def step(self, nodes: int) -> int:
        """Return how many nodes it may take at a time, of so many: of 25 with 10% two."""
        if isinstance(self.max_nodes, int):
            return self.max_nodes
        return max(1, nodes * int(self.max_nodes.removesuffix("%")) // 100)


class Level(IntEnum):
    """Whose word a placement is: a smaller one comes before a larger one."""

    ENFORCED = 0
    NAMESPACE = 1
    CLUSTER = 2


class PlacementSpec(SpecPart, frozen=True):
    """The spec of a MemoryPlacement."""

    selector: LabelSelector
    rules: Annotated[tuple[Rule, ...], Meta(max_length=16)]
    containers: Annotated[tuple[DnsLabel, ...], Meta(max_length=64)] | UnsetType = UNSET
    migration: Migration | UnsetType = UNSET
    on_unsupported: OnUnsupported | UnsetType = UNSET
    priority: Priority = 0
    paused: bool = False
    mode: Enforcement | UnsetType = UNSET
    on_delete: OnDelete | UnsetType = UNSET
    node_selector: NodeLabels = msgspec.field(default_factory=dict)
    rollout: Rollout | UnsetType = UNSET

    @property
    def at_deletion(self) -> OnDelete:
        """The field onDelete, by default RestorePolicy."""
        return OnDelete.RESTORE_POLICY if self.on_delete is UNSET else self.on_delete

    @property
    def level(self) -> Level:
        """Whose word it is; of a MemoryPlacement its namespace's."""
        return Level.NAMESPACE

    @property
    def is_dry_run(self) -> bool:
        """Whether it only tells; the field mode is Enforce by default."""
        return self.mode is Enforcement.DRY_RUN

    @property
    def gives_back(self) -> bool:
        """Whether what was done for it is to be undone although it exists."""
        return self.is_dry_run and not self.paused

    @property
    def unsupported(self) -> OnUnsupported:
        """The field onUnsupported, by default Fail."""
        return OnUnsupported.FAIL if self.on_unsupported is UNSET else self.on_unsupported

    def asks_as(self, other: PlacementSpec) -> bool:
        """Return whether another spec asks for the same of a container that follows it.

        Which containers those are, and when, is not compared in what only tells that: priority,
        nodeSelector and rollout. Nor is what is for later: onDelete.
        """
        if self == other:
            return True
        names = ("priority", "on_delete", "node_selector", "rollout")
        same = {name: getattr(other, name) for name in names}
        return msgspec.structs.replace(self, **same) == other

    def selects_node(self, labels: Mapping[str, str]) -> bool:
        """Return whether a node with these labels is meant; by default each is."""
        return all(labels.get(key) == value for key, value in self.node_selector.items())

    def selects_container(self, name: str) -> bool:
        """Return whether the container of that name is meant; by default each is."""
        return self.containers is UNSET or name in self.containers


class ClusterPlacementSpec(PlacementSpec, frozen=True, kw_only=True):
    """The spec of a ClusterMemoryPlacement: that of a MemoryPlacement, for many namespaces."""

    namespace_selector: LabelSelector
    enforced: bool = False

    @property
    def level(self) -> Level:
        """Whose word it is: that of the cluster's admin, first or last."""
        return Level.ENFORCED if self.enforced else Level.CLUSTER

    def asks_as(self, other: PlacementSpec) -> bool:
        """Compare as a MemoryPlacement does; the namespaces that it means do not count."""
        if not isinstance(other, ClusterPlacementSpec):
            return False
        alike = msgspec.structs.replace(
            self, namespace_selector=other.namespace_selector, enforced=other.enforced
        )
        return super(ClusterPlacementSpec, alike).asks_as(other)


class TierBytes(StatusPart, frozen=True):
    """Bytes measured on one tier."""

    name: str
    bytes: int = 0


class RuleStatus(StatusPart, frozen=True):
    """What one rule holds, summed over pods."""

    name: str
    regions: int = 0
    bytes: int = 0
    tiers: tuple[TierBytes, ...] = ()
    misplaced_bytes: int = 0


class PodStatus(StatusPart, frozen=True):
    """A pod that is not placed, and why; ``tiers`` is what its rules hold of each tier.

    ``namespace`` is there under a ClusterMemoryPlacement only.
    """

    name: str
    namespace: str | UnsetType = UNSET
    node: str = ""
    reason: str = ""
    message: str = ""
    tiers: tuple[TierBytes, ...] = ()


class RolloutState(StrEnum):
    """How far a roll-out is."""

    ROLLING = "Rolling"
    HOLDING = "Holding"
    DONE = "Done"

    @property
    def is_done(self) -> bool:
        """Whether nothing of it waits any more."""
        return self is RolloutState.DONE

    @classmethod
    def _missing_(cls, value: object) -> RolloutState | None:
        # Of a newer operator: not done, as far as we know.
        return cls.HOLDING if isinstance(value, str) else None


class RolloutStatus(StatusPart, frozen=True):
    """Which nodes a change has come to; see `memplace.rollout`.

    ``generation`` is that of the spec with which it began, ``change`` says what is rolled out,
    ``released_through`` is the position of the last node that may act; ``nodes`` are those with
    running pods, of the released ones ``settled_nodes`` have done what they can;
    ``pressed_before`` has uids of pods that stalled on memory when their nodes were released.
    """

    generation: int
    change: str
    state: RolloutState
    released_through: str = ""
    nodes: int = 0
    released_nodes: int = 0
    settled_nodes: int = 0
    since: datetime | None = None
    pressed_before: tuple[str, ...] = ()


class PlacementStatus(StatusPart, frozen=True):
    """The status of a MemoryPlacement; written by the operator only.

    ``pods`` has those that are not placed, the worst first, not all of many.
    """

    conditions: tuple[Condition, ...] = ()
    observed_generation: int = 0
    matched_pods: int = 0
    placed_pods: int = 0
    best_effort_pods: int = 0
    unsupported_pods: int = 0
    rules: tuple[RuleStatus, ...] = ()
    summary: str = ""
    pods: tuple[PodStatus, ...] = ()
    rollout: RolloutStatus | None = None


class Placement(Struct, frozen=True, kw_only=True):
    """A MemoryPlacement or ClusterMemoryPlacement, with what matters of its metadata.

    Attributes:
        uid: Its uid.
        namespace: Its namespace; empty for a ClusterMemoryPlacement, and for no other.
        name: Its name.
        generation: Its generation.
        creation_timestamp: When it was made.
        spec: Its spec; a ClusterMemoryPlacement's is a `ClusterPlacementSpec`.
        status: Its status.
        acts_in: Of a ClusterMemoryPlacement, as `assignment` gives it to a pod: that one's
            namespace.
        waits: Not of the API: on a node, whether a roll-out has not come to it yet.
    """

    uid: str
    namespace: str
    name: str
    generation: int
    creation_timestamp: datetime
    spec: PlacementSpec
    status: PlacementStatus = PlacementStatus()
    acts_in: str = ""
    waits: bool = False

    @property
    def is_frozen(self) -> bool:
        """Whether nothing new is done for it, and nothing undone while it exists."""
        return self.spec.paused or self.waits

    @property
    def gives_back(self) -> bool:
        """Whether what was done for it is to be undone although it exists, by now."""
        return self.spec.gives_back and not self.waits

    def asks_as(self, other: Placement) -> bool:
        """Return whether another one asks for the same of a container now."""
        return self.waits == other.waits and self.spec.asks_as(other.spec)

    @property
    def is_cluster(self) -> bool:
        """Whether it is a ClusterMemoryPlacement."""
        return isinstance(self.spec, ClusterPlacementSpec)

    @property
    def tenant(self) -> str:
        """The namespace of the pods that follow it: who shares, and whose turn it is."""
        return self.namespace or self.acts_in

    @property
    def handle(self) -> str:
        """Its name where the namespace is said already; the cluster's begins with ``cluster/``."""
        return f"cluster/{self.name}" if self.is_cluster else self.name

    @property
    def title(self) -> str:
        """Its kind and name, for people."""
        return title_of(self.namespace, self.name)


def title_of(namespace: str, name: str) -> str:
    """Return what to call a placement, for people; without a namespace it is of the cluster."""
    return f"placement {namespace}/{name}" if namespace else f"cluster placement {name}"
