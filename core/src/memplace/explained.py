# SPDX-License-Identifier: Apache-2.0
"""What is explained of a process and of a container: the words of ``-o json``.

An interface, as the CRDs are: names stay, new ones may come. Sizes are bytes, addresses are
texts such as ``0x7f12``, since not every reader of JSON has integers of 64 bits.
"""

from __future__ import annotations

import msgspec

from memplace.api.v1alpha1 import NumaBytes, TierBytes, TierNumaNodes

# Changes when a reader that knows the names would be wrong.
SCHEMA = 1


class _Explained(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    pass


class WhyNotSaid(_Explained, frozen=True, kw_only=True):
    """Why a region does not follow a rule: the rule, a word for machines, a sentence."""

    rule: str
    reason: str
    message: str


class RegionExplained(_Explained, frozen=True, kw_only=True):
    """Adjacent mappings that are one thing to a rule, and of which all is the same.

    Attributes:
        type: As in a rule's `regions`; ``Kernel`` for what is never touched.
        name: NAME of ``[anon:NAME]``, or the file's path; empty for neither.
        start: First address.
        end: First address after it.
        permissions: The letters that any of the mappings has.
        mappings: How many they are.
        size: Bytes of address space.
        extent: Bytes of the extent it is a part of: what minSize and maxSize compare.
        resident: Bytes in memory.
        numa_nodes: Those by NUMA node.
        policy: As ``PreferredMany:1``; empty if it is not known.
        policy_of: ``Process`` (the mapping has none of its own), ``Program`` (the program set
            it) or ``Memplace``; empty if it is not known.
        rule: The rule it follows; empty for none.
        why_not: Why it follows no other.
        plan: What a plan would do with it; empty for nothing.
    """

    type: str
    name: str = ""
    start: str
    end: str
    permissions: str
    mappings: int
    size: int
    extent: int
    resident: int = 0
    numa_nodes: tuple[NumaBytes, ...] = ()
    policy: str = ""
    policy_of: str = ""
    rule: str = ""
    why_not: tuple[WhyNotSaid, ...] = ()
    plan: str = ""


class WhyNotCounted(_Explained, frozen=True, kw_only=True):
    """How many regions a rule does not get for one reason; the sentence is of the largest."""

    reason: str
    message: str
    regions: int
    resident: int


class RuleExplained(_Explained, frozen=True, kw_only=True):
    """What a rule wants, holds and would do.

    Attributes:
        name: Its name.
        wants: Such as ``PreferredMany on cxl``.
        numa_nodes: The NUMA nodes that means here; none if it means none.
        mappings: How many mappings follow it.
        resident: Their bytes in memory.
        misplaced: Those that are on other nodes and would be moved.
        policies: On how many ranges a plan would set its policy.
        problem: Why it can't be followed here, a word for machines.
        plan: Sentences: what a plan would do, or why nothing.
        why_not: Why it does not get the others, the nearest first.
    """

    name: str
    wants: str
    numa_nodes: tuple[int, ...] = ()
    mappings: int = 0
    resident: int = 0
    misplaced: int = 0
    policies: int = 0
    problem: str = ""
    plan: tuple[str, ...] = ()
    why_not: tuple[WhyNotCounted, ...] = ()


class Reading(_Explained, frozen=True, kw_only=True):
    """How it was found out.

    Attributes:
        policies: ``ProcmapQuery``, ``NumaMaps`` (page tables were walked), ``Remembered`` (so they
            were when the agent walked them last, and as it changed them since) or ``Unknown``.
        bytes: ``Exact``, ``Sampled`` or ``Unknown``.
        error: The share of the bytes that may be on another NUMA node than said, with 95 %.
    """

    policies: str
    bytes: str
    error: float = 0.0


class Cut(_Explained, frozen=True, kw_only=True):
    """What was left out of `regions`."""

    regions: int = 0
    resident: int = 0


class ProcessExplained(_Explained, frozen=True, kw_only=True):
    """A process at one moment.

    Attributes:
        pid: Its id.
        comm: Its name.
        exe: Its executable, empty if it can't be told.
        allowed: NUMA nodes of its cpuset, as a kernel list.
        policy: The policy of the process itself.
        tiers: The tiers of the machine.
        mappings: How many it has.
        resident: Bytes in memory of all of them, by NUMA node.
        by_tier: The same by tier.
        reading: How it was found out.
        notes: What could not be read, and which right is missing.
        regions: By address.
        cut: What was left out of them.
        placement: Name of the placement the rules are of; empty without rules.
        rules: One per rule, in their order.
    """

    pid: int
    comm: str
    exe: str = ""
    allowed: str = ""
    policy: str = ""
    tiers: tuple[TierNumaNodes, ...] = ()
    mappings: int = 0
    resident: tuple[NumaBytes, ...] = ()
    by_tier: tuple[TierBytes, ...] = ()
    reading: Reading
    notes: tuple[str, ...] = ()
    regions: tuple[RegionExplained, ...] = ()
    cut: Cut = Cut()
    placement: str = ""
    rules: tuple[RuleExplained, ...] = ()


class ContainerListed(_Explained, frozen=True, kw_only=True):
    """A container that follows a placement, and how it fares."""

    id: str
    namespace: str
    pod: str
    container: str
    placement: str
    state: str = ""
    reason: str = ""
    message: str = ""


class ContainerExplained(_Explained, frozen=True, kw_only=True):
    """A container as it was looked at for this answer.

    Attributes:
        about: Which, and how it fares.
        processes: Its processes, those with most memory first.
        left_out: How many processes more it has.
        problems: Why some could not be looked at.
    """

    about: ContainerListed
    processes: tuple[ProcessExplained, ...] = ()
    left_out: int = 0
    problems: tuple[str, ...] = ()
