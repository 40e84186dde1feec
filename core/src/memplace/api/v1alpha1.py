# SPDX-License-Identifier: Apache-2.0
"""The three kinds of memplace.dev/v1alpha1; the only place that knows names of fields.

Spec structs refuse unknown fields, since doing half of what a manifest says is worse
than saying no; status structs tolerate them, so that an older reader survives a newer
writer. ``crds/*.yaml`` is the source of truth; tests/crd holds the two together.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from memplace.api.conditions import Condition
from memplace.kinds import Capability, ExistingPages, Mode, OnUnsupported, RegionKind
from memplace.quantity import parse_quantity

GROUP = "memplace.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

# In status, the name of the tier of bytes on NUMA nodes that belong to no tier.
OTHER_TIER = "other"

# \Z, since Python's $ also matches before a last newline, and the API server's does not.
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
_LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z"

DnsLabel = Annotated[
    str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
]
NodeName = Annotated[str, Meta(min_length=1, max_length=253)]
LabelKey = Annotated[str, Meta(min_length=1, max_length=317, pattern=LABEL_KEY)]
LabelValue = Annotated[str, Meta(max_length=63, pattern=_LABEL_VALUE)]
Glob = Annotated[str, Meta(min_length=1, max_length=253)]
PathGlob = Annotated[str, Meta(min_length=1, max_length=1024)]
Permissions = Annotated[str, Meta(min_length=3, max_length=3, pattern=r"^[-r][-w][-x]\Z")]
Size = Annotated[str, Meta(min_length=1, max_length=32)]
NumaId = Annotated[int, Meta(ge=0, le=1023)]


class _Spec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A part of a spec: unknown fields are refused, absent ones stay absent."""


class _Status(Struct, frozen=True, rename="camel", kw_only=True):
    """A part of a status: unknown fields are ignored, zeros are written."""


# --- MemoryPlacement -------------------------------------------------------------------


class Operator(StrEnum):
    """The operators of a label selector."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(_Spec, frozen=True):
    """One of a label selector's matchExpressions."""

    key: LabelKey
    operator: Operator
    values: Annotated[tuple[LabelValue, ...], Meta(max_length=32)] = ()


class LabelSelector(_Spec, frozen=True):
    """metav1.LabelSelector; the empty one selects everything."""

    match_labels: Annotated[dict[str, LabelValue], Meta(max_length=32)] = msgspec.field(
        default_factory=dict
    )
    match_expressions: Annotated[tuple[Requirement, ...], Meta(max_length=16)] = ()


class RegionEntry(_Spec, frozen=True):
    """Which regions: every key that is given has to hold. Empty means not given."""

    type: RegionKind
    name: Glob = ""
    path: PathGlob = ""
    min_size: Size = ""
    max_size: Size = ""
    permissions: Permissions = ""
    process: PathGlob = ""

    @property
    def min_bytes(self) -> int:
        """The smallest size that matches, in bytes; 0 when not given."""
        return parse_quantity(self.min_size) if self.min_size else 0

    @property
    def max_bytes(self) -> int | None:
        """The largest size that matches, in bytes; None when not given."""
        return parse_quantity(self.max_size) if self.max_size else None


class PolicySpec(_Spec, frozen=True):
    """A mode and the tiers it is about."""

    mode: Mode
    tiers: Annotated[tuple[DnsLabel, ...], Meta(max_length=16)] = ()


class Rule(_Spec, frozen=True):
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


class Migration(_Spec, frozen=True):
    """How fast pages move."""

    max_bandwidth: Size = ""

    @property
    def max_bytes_per_second(self) -> int | None:
        """The most bytes to move in a second on one node; None when not given."""
        return parse_quantity(self.max_bandwidth) if self.max_bandwidth else None


class PlacementSpec(_Spec, frozen=True):
    """The spec of a MemoryPlacement."""

    selector: LabelSelector
    rules: Annotated[tuple[Rule, ...], Meta(max_length=16)]
    containers: Annotated[tuple[DnsLabel, ...], Meta(max_length=64)] | UnsetType = UNSET
    migration: Migration | UnsetType = UNSET
    on_unsupported: OnUnsupported | UnsetType = UNSET

    @property
    def unsupported(self) -> OnUnsupported:
        """The field onUnsupported, by default Fail."""
        return OnUnsupported.FAIL if self.on_unsupported is UNSET else self.on_unsupported

    def selects_container(self, name: str) -> bool:
        """Return whether the container of that name is meant; by default each is."""
        return self.containers is UNSET or name in self.containers


class TierBytes(_Status, frozen=True):
    """Bytes measured on one tier."""

    name: str
    bytes: int = 0


class RuleStatus(_Status, frozen=True):
    """What one rule holds, summed over pods."""

    name: str
    regions: int = 0
    bytes: int = 0
    tiers: tuple[TierBytes, ...] = ()


class PlacementStatus(_Status, frozen=True):
    """The status of a MemoryPlacement; written by the operator only."""

    conditions: tuple[Condition, ...] = ()
    observed_generation: int = 0
    matched_pods: int = 0
    placed_pods: int = 0
    best_effort_pods: int = 0
    unsupported_pods: int = 0
    rules: tuple[RuleStatus, ...] = ()


class Placement(Struct, frozen=True, kw_only=True):
    """A MemoryPlacement with what matters of its metadata."""

    uid: str
    namespace: str
    name: str
    generation: int
    creation_timestamp: datetime
    spec: PlacementSpec
    status: PlacementStatus = PlacementStatus()


# --- MemoryTier ------------------------------------------------------------------------


class TierSpec(_Spec, frozen=True):
    """The spec of a MemoryTier."""

    numa_nodes: Annotated[tuple[NumaId, ...], Meta(max_length=64)]
    node_names: Annotated[tuple[NodeName, ...], Meta(max_length=1024)] | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=1024)] = ""

    def covers(self, node_name: str) -> bool:
        """Return whether the tier is meant for that Kubernetes node; by default each is."""
        return self.node_names is UNSET or node_name in self.node_names


class MemoryTier(Struct, frozen=True, kw_only=True):
    """A MemoryTier; its name is the tier's name."""

    uid: str
    name: str
    generation: int
    spec: TierSpec


# --- NodeMemory ------------------------------------------------------------------------


class AgentMode(StrEnum):
    """What the agent of a node is to do; Retired: undo everything and stay idle."""

    ACTIVE = "Active"
    RETIRED = "Retired"


class BackendName(StrEnum):
    """How the agent acts on a node."""

    PROCESS_MBIND = "ProcessMbind"
    MOVE_PAGES = "MovePages"
    OBSERVE = "Observe"
    NONE = "None"

    @classmethod
    def _missing_(cls, value: object) -> BackendName | None:
        # Of a newer agent: none that is known here.
        return cls.NONE if isinstance(value, str) else None


class ContainerState(StrEnum):
    """How far a container's placement is."""

    PLACED = "Placed"
    PLACED_BEST_EFFORT = "PlacedBestEffort"
    OBSERVED = "Observed"
    MOVING = "Moving"
    PENDING = "Pending"
    FAILED = "Failed"
    UNSUPPORTED = "Unsupported"
    CONFLICT = "Conflict"

    @classmethod
    def _missing_(cls, value: object) -> ContainerState | None:
        # Of a newer agent: not placed, as far as we know. The rest of its report stands.
        return cls.PENDING if isinstance(value, str) else None


class NodeMemorySpec(_Spec, frozen=True):
    """The spec of a NodeMemory; ``installation`` is the uid of the DaemonSet it is for."""

    agent: AgentMode = AgentMode.ACTIVE
    installation: Annotated[str, Meta(max_length=64)] = ""

    @property
    def is_retired_for_good(self) -> bool:
        """Whether an admin retired the node, and not one installation that ends."""
        return self.agent is AgentMode.RETIRED and not self.installation

    def mode_of(self, installation: str) -> AgentMode:
        """Return what an agent is to do.

        An uninstall that ends half-way, or without its hook, leaves the word for its own
        agents behind: those of the next installation are not meant.

        Args:
            installation: The uid of the agent's DaemonSet; empty where it is not known.
        """
        others = self.installation and installation and self.installation != installation
        return AgentMode.ACTIVE if others else self.agent


class Backend(_Status, frozen=True):
    """Which backend the node has, what it can, and why not a better one.

    Without ``sticky`` pages to come land where the program's own policy says.
    """

    name: BackendName
    reason: str = ""
    message: str = ""
    capabilities: tuple[Capability, ...] = ()
    sticky: bool = False


class NumaNodeStatus(_Status, frozen=True):
    """A NUMA node with memory; ``cpus`` is a list as the kernel's, ``evidence`` why its tier."""

    id: int
    cpus: str = ""
    total_bytes: int = 0
    tier: str = ""
    evidence: str = ""


class TierNodes(_Status, frozen=True):
    """The NUMA nodes of one tier on this node, ascending."""

    name: str
    numa_nodes: tuple[int, ...] = ()


class NodeBytes(_Status, frozen=True):
    """Bytes measured on one NUMA node."""

    id: int
    bytes: int = 0


class RuleReport(_Status, frozen=True):
    """What one rule holds in one container."""

    name: str
    regions: int = 0
    bytes: int = 0
    numa_nodes: tuple[NodeBytes, ...] = ()
    misplaced_bytes: int = 0
    own_regions: int = 0


class ContainerReport(_Status, frozen=True):
    """How one container fares; ``sticky`` is false where pages to come do not follow."""

    name: str
    state: ContainerState
    sticky: bool | UnsetType = UNSET
    container_id: str = msgspec.field(name="containerID", default="")
    reason: str = ""
    message: str = ""
    new_memory: str = ""
    rules: tuple[RuleReport, ...] = ()


class PodReport(_Status, frozen=True):
    """How one pod fares."""

    uid: str
    name: str
    containers: tuple[ContainerReport, ...] = ()


class PlacementReport(_Status, frozen=True):
    """How one MemoryPlacement fares on this node."""

    uid: str
    namespace: str
    name: str
    observed_generation: int = 0
    reason: str = ""
    message: str = ""
    conflicts: int = 0
    pods: tuple[PodReport, ...] = ()


class Truncated(_Status, frozen=True):
    """How much of a report was left out, so that it stays small."""

    placements: int = 0
    pods: int = 0
    details: int = 0


class NodeMemoryStatus(_Status, frozen=True):
    """The status of a NodeMemory; written by the agent of that node only."""

    conditions: tuple[Condition, ...] = ()
    heartbeat_time: datetime | None = None
    agent_version: str = ""
    backend: Backend | None = None
    numa_nodes: tuple[NumaNodeStatus, ...] = ()
    tiers: tuple[TierNodes, ...] = ()
    placements: tuple[PlacementReport, ...] = ()
    truncated: Truncated = Truncated()


class NodeMemory(Struct, frozen=True, kw_only=True):
    """A NodeMemory; its name is the Kubernetes node's name."""

    uid: str
    name: str
    generation: int
    spec: NodeMemorySpec = NodeMemorySpec()
    status: NodeMemoryStatus = NodeMemoryStatus()
