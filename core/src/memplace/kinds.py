# SPDX-License-Identifier: Apache-2.0
"""The words the API and the plan share: modes, kinds of memory, a policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Mode(StrEnum):
    """The kernel's memory policies, spelt as Kubernetes enums.

    Source: set_mempolicy(2); linux ``include/uapi/linux/mempolicy.h``.
    """

    DEFAULT = "Default"
    BIND = "Bind"
    PREFERRED = "Preferred"
    PREFERRED_MANY = "PreferredMany"
    INTERLEAVE = "Interleave"
    WEIGHTED_INTERLEAVE = "WeightedInterleave"
    LOCAL = "Local"

    @property
    def takes_nodes(self) -> bool:
        """Whether the mode has a node set; Default and Local have none."""
        return self not in (Mode.DEFAULT, Mode.LOCAL)


class RegionKind(StrEnum):
    """What memory is: the API's ``type``, and of a mapping all but HEAP.

    HEAP is what people call the heap, not a kind of mapping: see `matching.Matcher`.
    """

    HEAP = "Heap"  # only in rules: BRK and ANONYMOUS together
    BRK = "Brk"
    ANONYMOUS = "Anonymous"
    STACK = "Stack"
    FILE = "File"
    SHARED = "Shared"
    HUGETLB = "HugeTLB"


class ExistingPages(StrEnum):
    """What happens to pages that exist when a policy is set."""

    MOVE = "Move"
    LEAVE = "Leave"


class OnUnsupported(StrEnum):
    """What a placement wants of nodes where no policy can be set for a running process."""

    FAIL = "Fail"  # leave the pod alone, and say so
    BEST_EFFORT = "BestEffort"  # move the pages that are there, as long as there is a way
    OBSERVE = "Observe"  # tell where they are


class Enforcement(StrEnum):
    """Whether a placement acts, or only tells what it would do."""

    ENFORCE = "Enforce"
    DRY_RUN = "DryRun"


class OnDelete(StrEnum):
    """What becomes of what was done for a placement when that is deleted."""

    RESTORE_POLICY = "RestorePolicy"  # policies as they were; pages stay
    RESTORE_PAGES = "RestorePages"  # that, and pages go where those policies want them
    LEAVE = "Leave"  # policies and pages stay


class HoldOn(StrEnum):
    """What holds a roll-out that has come to a node."""

    FAILED = "Failed"  # a pod of it has a reason that does not resolve by itself
    AGENT_NOT_REPORTING = "AgentNotReporting"  # nobody knows how its pods fare
    MEMORY_PRESSURE = "MemoryPressure"  # a pod of it stalls on memory that did not before


class Pressure(StrEnum):
    """How much a container stalls on memory: a word for a figure, see `memplace.pressure`."""

    UNKNOWN = "Unknown"  # it was not read, or the kernel does not tell
    LOW = "Low"
    RAISED = "Raised"
    HIGH = "High"

    @classmethod
    def _missing_(cls, value: object) -> Pressure | None:
        # Of a newer agent: nothing that is known here. The rest of its report stands.
        return cls.UNKNOWN if isinstance(value, str) else None

    @property
    def rank(self) -> int:
        """Its place in the order; what is not known comes before all others."""
        return tuple(Pressure).index(self)


class Capability(StrEnum):
    """What a backend can do to processes."""

    MEASURES = "Measures"  # tell where pages are
    MOVES = "Moves"  # move pages that are there
    POLICIES = "Policies"  # set a policy on what is mapped: pages to come follow it
    DEFAULTS = "Defaults"  # keep a default for what will be mapped


@dataclass(frozen=True, slots=True)
class Policy:
    """A memory policy of a region.

    Attributes:
        mode: The mode.
        nodes: Its NUMA nodes; empty exactly for the modes that take none.
        flags: Mode flags as numa_maps spells them: ``static``, ``relative``, ``balancing``.
        home_node: The node to begin with, see set_mempolicy_home_node(2), or None. numa_maps
            does not show it, PROCMAP_QUERY does.
    """

    mode: Mode
    nodes: frozenset[int] = frozenset()
    flags: frozenset[str] = frozenset()
    home_node: int | None = None

    @property
    def without_home(self) -> Policy:
        """The same without its home node: no rule says one."""
        return self if self.home_node is None else replace(self, home_node=None)
