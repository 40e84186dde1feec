# SPDX-License-Identifier: Apache-2.0
"""Every condition type and every reason of memplace, once.

Conditions, reports, events and metric labels carry these words, and people write alerts
about them: the words are an interface. Nothing else in the product spells one of them.
"""

from __future__ import annotations

from enum import Flag, StrEnum, auto


class ConditionType(StrEnum):
    """The types of conditions; ``sentence`` says what status True means."""

    sentence: str

    READY = (
        "Ready",
        "MemoryPlacement: all memory of the running pods is where the rules want it. "
        "MemoryTier: a node has memory in it.",
    )
    DEGRADED = "Degraded", "MemoryPlacement: there is a problem that does not resolve by itself."
    PROGRESSING = "Progressing", "MemoryPlacement with spec.rollout: the roll-out continues."
    UNSUPPORTED = "Unsupported", "MemoryPlacement: a pod runs on a node that cannot place memory."
    SUPPORTED = "Supported", "NodeMemory: the node can place memory."
    RETIRED = "Retired", "NodeMemory: the agent has undone everything and cleaned the host."
    COMPLETE = "Complete", "NodeMemory: the report is complete; nothing was left out."

    def __new__(cls, value: str, sentence: str = "") -> ConditionType:
        """Make a member; a lookup by value does not come here."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member


class Trait(Flag):
    """What a reason has in common with others, for those that need no more than that."""

    FAILURE = auto()  # does not resolve by itself: Degraded=True
    PATIENT = auto()  # Ready=False, and nobody needs to do anything
    ABOUT_TIERS = auto()  # a message has to name the tiers of the rules


_NONE = Trait(0)


class Reason(StrEnum):
    """Why something is as it is, as one word for machines.

    The order is the order of precedence: of several pods the one whose reason comes first
    speaks for the placement. A failure that has to be fixed before another comes before it.

    Attributes:
        sentence: What it means, for people.
        traits: What it has in common with others.
        rank: Its place in the order, from 0; smaller is worse.
    """

    sentence: str
    traits: Trait
    rank: int

    # A placement, or one of its containers, in order of precedence.
    INVALID = (
        "Invalid",
        "The spec is invalid; the message says what to write instead.",
        Trait.FAILURE,
    )
    CONFLICT = (
        "Conflict",
        "Another placement has the container: one that is enforced, of higher priority, or older.",
        Trait.FAILURE,
    )
    TIER_UNKNOWN = (
        "TierUnknown",
        "A rule names a tier that no node and no MemoryTier has.",
        Trait.FAILURE | Trait.ABOUT_TIERS,
    )
    TIER_NOT_ON_NODE = (
        "TierNotOnNode",
        "The node of the pod has no memory of the tiers that a rule names.",
        Trait.FAILURE | Trait.ABOUT_TIERS,
    )
    NOT_ALLOWED_BY_CPUSET = (
        "NotAllowedByCpuset",
        "The cpuset of the container excludes all NUMA nodes of the tiers that a rule names.",
        Trait.FAILURE | Trait.ABOUT_TIERS,
    )
    SHARED_NOT_SUPPORTED = (
        "SharedNotSupported",
        "A rule selects shared memory that can't be placed; that memory is left alone.",
        Trait.FAILURE,
    )
    SHARED_WITH_OTHERS = (
        "SharedWithOthers",
        "Others also map shared memory that a rule selects; that memory is left alone.",
        Trait.FAILURE,
    )
    TIER_FULL = (
        "TierFull",
        "The tier has no room for the pages that remain elsewhere.",
        Trait.FAILURE | Trait.ABOUT_TIERS,
    )
    NAMESPACE_LIMIT = (
        "NamespaceLimit",
        "The namespace has as much of the tier as an admin granted; nothing new is placed there.",
        Trait.FAILURE | Trait.ABOUT_TIERS,
    )
    AGENT_CPUSET_EXCLUDES_TIER = (
        "AgentCpusetExcludesTier",
        "The agent's own cpuset excludes the tier, so the kernel moves nothing there for it.",
        Trait.FAILURE | Trait.ABOUT_TIERS,
    )
    UNEVEN = (
        "Uneven",
        "Memory that should interleave lies unevenly; existing pages are not spread.",
        Trait.FAILURE,
    )
    CONTENDED = (
        "Contended",
        "Something else changes policies or moves pages repeatedly; memplace does not fight it.",
        Trait.FAILURE,
    )
    TOO_MANY_MAPPINGS = (
        "TooManyMappings",
        "A policy would bring the process near the number of mappings it may have.",
        Trait.FAILURE,
    )
    RULES_TOO_COSTLY = (
        "RulesTooCostly",
        "To compare the rules with the mappings of a process takes too long; it is left alone.",
        Trait.FAILURE,
    )
    LEADER_EXITED = (
        "LeaderExited",
        "The first thread of a process has ended; the kernel does not allow placing the rest.",
        Trait.FAILURE,
    )
    STUCK = "Stuck", "The agent could not look at a process in time.", Trait.FAILURE
    CGROUP_NOT_FOUND = (
        "CgroupNotFound",
        "No cgroup was identified as the container's; the message says where the agent looked.",
        Trait.FAILURE,
    )
    FAILED = (
        "Failed",
        "An error without a reason of its own; the message describes it.",
        Trait.FAILURE,
    )
    NOT_UNDERSTOOD = (
        "NotUnderstood",
        "The agent's version does not understand the spec; what it did before stays as it is.",
        Trait.FAILURE,
    )
    AGENT_NOT_REPORTING = (
        "AgentNotReporting",
        "The agent of the pod's node is silent, retired or was never there.",
        Trait.FAILURE,
    )
    UNSUPPORTED = "Unsupported", "The node of the pod cannot place memory; the pod is left alone."
    UNSUPPORTED_CGROUP = "UnsupportedCgroup", "The node does not use cgroup v2."
    SANDBOXED_RUNTIME = (
        "SandboxedRuntime",
        "The container runs in a virtual machine or behind a kernel of its own.",
    )
    OBSERVED = (
        "Observed",
        "The node of the pod cannot place memory; bytes are only measured there.",
    )
    MOVING = "Moving", "Pages are being moved.", Trait.PATIENT
    PENDING = "Pending", "The pod or the agent is not ready yet.", Trait.PATIENT
    AWAITING_ROLLOUT = (
        "AwaitingRollout",
        "The roll-out has not reached the node; until then nothing new is done there.",
        Trait.PATIENT,
    )
    PAUSED = (
        "Paused",
        "The placement is paused: nothing new is done and nothing undone; bytes are only measured.",
        Trait.PATIENT,
    )
    DRY_RUN = (
        "DryRun",
        "The placement is a dry run: nothing is changed; what would move is measured.",
        Trait.PATIENT,
    )
    NO_PODS = "NoPods", "No running container is selected.", Trait.PATIENT
    PLACED_BEST_EFFORT = (
        "PlacedBestEffort",
        "The pages were moved and measured where the rules want them; later pages may not be.",
    )
    PLACED = "Placed", "All memory was measured where the rules want it."

    # Conditions Degraded and Unsupported with status False.
    AS_EXPECTED = "AsExpected", "There is no problem that needs attention."
    ALL_NODES_SUPPORTED = "AllNodesSupported", "All nodes with selected pods can place memory."

    # The condition Progressing of a placement with spec.rollout.
    ROLLING_OUT = "RollingOut", "The nodes are released step by step."
    ROLLOUT_HELD = "RolloutHeld", "A released node is in trouble, so no further node is released."
    ROLLED_OUT = "RolledOut", "All nodes have been released."

    # The condition Ready of a MemoryTier.
    IN_FORCE = "InForce", "The NUMA nodes are in the tier on all nodes that it is about."
    PARTLY_IN_FORCE = (
        "PartlyInForce",
        "On some nodes the NUMA nodes are not in the tier; the message says which, and why.",
    )
    NOT_IN_FORCE = "NotInForce", "No node has memory in the tier because of this MemoryTier."

    # The condition Supported, and the backend, of a node.
    PROCESS_MBIND_AVAILABLE = "ProcessMbindAvailable", "The node has process_mbind()."
    KERNEL_WITHOUT_PROCESS_MBIND = (
        "KernelWithoutProcessMbind",
        "The kernel does not announce a process_mbind() that the agent knows.",
    )
    SECCOMP_FILTERED = "SeccompFiltered", "A seccomp filter refuses process_mbind() to the agent."
    MISSING_CAPABILITY = (
        "MissingCapability",
        "The agent lacks SYS_NICE or SYS_PTRACE, or may not read the process.",
    )
    ANOTHER_AGENT = "AnotherAgent", "Another agent holds the ledger of the node."
    FEATURE_UNAVAILABLE = "FeatureUnavailable", "The node cannot do what was asked."

    # The condition Complete of a node.
    REPORT_TOO_LARGE = "ReportTooLarge", "The report has no room for all pods of the node."

    # The condition Retired, and placements that are gone.
    ACTIVE = "Active", "The agent is at work."
    UNDOING = "Undoing", "The agent is restoring policies."
    CANNOT_UNDO = (
        "CannotUndo",
        "Some changes may remain that this agent can't undo; the message says which.",
    )
    RETIRED = "Retired", "Everything is undone and the host is clean."

    # Errors that reach logs and metric labels only.
    PARSE_ERROR = "ParseError", "A text does not have the form it should have."
    NO_FORM = "NoForm", "The former policy could not be restored later, so no policy is set."
    DEADLINE = "Deadline", "It was not done before its deadline."
    PROCESS_GONE = "ProcessGone", "The process ended while the agent looked at it. This is normal."
    TRY_AGAIN = "TryAgain", "The process was busy; the agent tries again at its next look."
    API_ERROR = "ApiError", "The API server refused a request."
    LOGIN_FAILED = "LoginFailed", "There are no credentials for the API server."

    def __new__(cls, value: str, sentence: str = "", traits: Trait = _NONE) -> Reason:
        """Make a member; a lookup by value does not come here."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence, member.traits = sentence, traits
        member.rank = len(cls.__members__)
        return member


# Sets of words, so that a reason of a later version can be asked for too.
FAILURES = frozenset(reason for reason in Reason if Trait.FAILURE in reason.traits)
PATIENT = frozenset(reason for reason in Reason if Trait.PATIENT in reason.traits)
ABOUT_TIERS = frozenset(reason for reason in Reason if Trait.ABOUT_TIERS in reason.traits)
