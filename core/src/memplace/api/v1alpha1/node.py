# SPDX-License-Identifier: Apache-2.0
"""NodeMemory: what a node has, and how everything fares there."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from memplace.api.conditions import Condition
from memplace.api.v1alpha1.common import SpecPart, StatusPart
from memplace.kinds import Capability, Pressure


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
    PAUSED = "Paused"
    AWAITING_ROLLOUT = "AwaitingRollout"
    DRY_RUN = "DryRun"
    MOVING = "Moving"
    PENDING = "Pending"
    FAILED = "Failed"
    UNSUPPORTED = "Unsupported"
    CONFLICT = "Conflict"

    @classmethod
    def _missing_(cls, value: object) -> ContainerState | None:
        # Of a newer agent: not placed, as far as we know. The rest of its report stands.
        return cls.PENDING if isinstance(value, str) else None


class NodeMemorySpec(SpecPart, frozen=True):
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


class Backend(StatusPart, frozen=True):
    """Which backend the node has, what it can, and why not a better one.

    Without ``sticky`` later pages come from where the program's own policy says.
    """

    name: BackendName
    reason: str = ""
    message: str = ""
    capabilities: tuple[Capability, ...] = ()
    sticky: bool = False


class NumaNodeStatus(StatusPart, frozen=True):
    """A NUMA node with memory; ``cpus`` is a list as the kernel's, ``evidence`` why its tier."""

    id: int
    cpus: str = ""
    total_bytes: int = 0
    tier: str = ""
    evidence: str = ""


class TierNumaNodes(StatusPart, frozen=True):
    """The NUMA nodes of one tier on this node, ascending."""

    name: str
    numa_nodes: tuple[int, ...] = ()


class NumaBytes(StatusPart, frozen=True):
    """Bytes measured on one NUMA node."""

    id: int
    bytes: int = 0


class RuleReport(StatusPart, frozen=True):
    """What one rule holds in one container.

    ``withheld_bytes`` are those of ``misplaced_bytes`` that stay elsewhere for a limit of the
    namespace, or would if a dry run was meant.
    """

    name: str
    regions: int = 0
    bytes: int = 0
    numa_nodes: tuple[NumaBytes, ...] = ()
    misplaced_bytes: int = 0
    own_regions: int = 0
    withheld_bytes: int = 0


class ContainerReport(StatusPart, frozen=True):
    """How one container fares; ``sticky`` is false where pages to come do not follow.

    ``memory_pressure`` is Unknown of an agent that is older than the field.
    """

    name: str
    state: ContainerState
    sticky: bool | UnsetType = UNSET
    container_id: str = msgspec.field(name="containerID", default="")
    reason: str = ""
    message: str = ""
    new_memory: str = ""
    memory_pressure: Pressure = Pressure.UNKNOWN
    rules: tuple[RuleReport, ...] = ()


class PodReport(StatusPart, frozen=True):
    """How one pod fares; ``namespace`` is there under a ClusterMemoryPlacement only."""

    uid: str
    name: str
    namespace: str | UnsetType = UNSET
    containers: tuple[ContainerReport, ...] = ()


class PlacementReport(StatusPart, frozen=True):
    """How one placement fares on this node; ``namespace`` is empty for a ClusterMemoryPlacement."""

    uid: str
    namespace: str
    name: str
    observed_generation: int = 0
    reason: str = ""
    message: str = ""
    conflicts: int = 0
    pods: tuple[PodReport, ...] = ()


class Truncated(StatusPart, frozen=True):
    """How much of a report was left out, so that it stays small."""

    placements: int = 0
    pods: int = 0
    details: int = 0


class NodeMemoryStatus(StatusPart, frozen=True):
    """The status of a NodeMemory; written by the agent of that node only."""

    conditions: tuple[Condition, ...] = ()
    heartbeat_time: datetime | None = None
    agent_version: str = ""
    backend: Backend | None = None
    numa_nodes: tuple[NumaNodeStatus, ...] = ()
    tiers: tuple[TierNumaNodes, ...] = ()
    placements: tuple[PlacementReport, ...] = ()
    truncated: Truncated = Truncated()


class NodeMemory(Struct, frozen=True, kw_only=True):
    """A NodeMemory; its name is the Kubernetes node's name."""

    uid: str
    name: str
    generation: int
    spec: NodeMemorySpec = NodeMemorySpec()
    status: NodeMemoryStatus = NodeMemoryStatus()
