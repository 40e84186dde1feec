# SPDX-License-Identifier: Apache-2.0
"""What to do about a reason: one sentence each. Pure.

What a reason means is the core's to say; who reads it at a terminal also wants the next
command. Pages that are named lie in the repository.
"""

from __future__ import annotations

from memplace.errors import (
    FeatureUnavailable,
    KernelWithoutProcessMbind,
    MissingCapability,
    SeccompFiltered,
)
from memplace.reasons import Reason

_ADVICE = {
    Reason.INVALID: "Change the field that the message names, and apply the placement again.",
    Reason.CONFLICT: "Narrow spec.selector or spec.containers of one of the two placements, "
    "change spec.priority, or delete one (docs/placements.md).",
    Reason.TIER_UNKNOWN: "Name a tier that exists (kubectl memplace tiers), or create a MemoryTier "
    "of that name (docs/tiers.md).",
    Reason.TIER_NOT_ON_NODE: "Schedule the pod to a node that has the tier (kubectl memplace "
    "tiers), or name a further tier in the rule.",
    Reason.NOT_ALLOWED_BY_CPUSET: "Let the container use the tier's NUMA nodes: look at what "
    "writes cpuset.mems of its cgroup, such as the kubelet's memory manager.",
    Reason.SHARED_NOT_SUPPORTED: "Leave that memory out of the rule (exclude); docs/regions.md "
    "says which shared memory can be placed.",
    Reason.SHARED_WITH_OTHERS: "Have all processes that map it follow one rule of one placement, "
    "in one namespace, or leave it out of the rule (exclude); see docs/regions.md.",
    Reason.NAMESPACE_LIMIT: "Free memory of this namespace on the tier, narrow spec.selector or "
    "the rules, or ask an admin for more (namespaceLimits of the MemoryTier, docs/tiers.md).",
    Reason.TIER_FULL: "Free memory on the tier, move a pod away, or name a further tier in the "
    "rule; kubectl memplace tiers shows what placements have where.",
    Reason.AGENT_CPUSET_EXCLUDES_TIER: "Let the agent's own pod use the tier's NUMA nodes: look "
    "at what writes cpuset.mems of its cgroup.",
    Reason.UNEVEN: "Restart the pod, so that its pages are spread from the first one on, or write "
    "existingPages: Leave.",
    Reason.CONTENDED: "Find what else moves this memory (NUMA balancing, a daemon, the program "
    "itself) and stop it, or delete the placement.",
    Reason.TOO_MANY_MAPPINGS: "Raise vm.max_map_count on the node, or write rules that select "
    "fewer regions (minSize).",
    Reason.RULES_TOO_COSTLY: "Write fewer entries, and patterns with fewer *, ? and [...]: a path "
    "that begins with letters and ends with * costs least (docs/regions.md).",
    Reason.LEADER_EXITED: "Restart the program; nothing helps while this process lives.",
    Reason.STUCK: "Look at the process on the node: it may wait for a disk or a device. If it is "
    "too large to be read, use a kernel with process_mbind().",
    Reason.CGROUP_NOT_FOUND: "Compare the places that the message names with the node's cgroups, "
    "and report how the runtime names them.",
    Reason.FAILED: "Read the message, then the agent's log on that node.",
    Reason.NOT_UNDERSTOOD: "Update the agent of that node to the version of the CRDs, and wait "
    "until its DaemonSet has rolled out.",
    Reason.AGENT_NOT_REPORTING: "Look at the agent's pod on that node, then at the node; "
    "kubectl memplace doctor shows all of them.",
    Reason.UNSUPPORTED: "Boot the node with a kernel that has process_mbind(), schedule the pod "
    "elsewhere, or write onUnsupported: BestEffort or Observe (docs/backends.md).",
    Reason.UNSUPPORTED_CGROUP: "Boot the node with cgroup v2 "
    "(systemd.unified_cgroup_hierarchy=1), or schedule the pod elsewhere.",
    Reason.SANDBOXED_RUNTIME: "Use another runtimeClassName if the pod may: memory of a virtual "
    "machine is not placed.",
    Reason.PARTLY_IN_FORCE: "Name the nodes that are meant (nodeNames or nodeSelector), or take "
    "the NUMA node out of one of two MemoryTiers (docs/tiers.md).",
    Reason.NOT_IN_FORCE: "Compare numaNodes, nodeNames and nodeSelector with what nodes have "
    "(kubectl memplace tiers; docs/tiers.md).",
    Reason.OBSERVED: "Boot the node with a kernel that has process_mbind(), or write "
    "onUnsupported: BestEffort to move pages (docs/backends.md).",
    Reason.MOVING: "Wait: pages move as fast as spec.migration.maxBandwidth allows.",
    Reason.PENDING: "Wait. If it stays, look at the pod (kubectl describe pod), and at the agents "
    "(kubectl memplace doctor).",
    Reason.DRY_RUN: "Set spec.mode to Enforce to act on the rules. After an undo: kubectl memplace "
    "resume (docs/placements.md).",
    Reason.PAUSED: "Set spec.paused to false to continue the work: kubectl memplace resume "
    "(docs/placements.md).",
    Reason.AWAITING_ROLLOUT: "Wait: the condition Progressing of the placement says how far the "
    "roll-out is (docs/placements.md).",
    Reason.ROLLOUT_HELD: "Put right what the message names, or have it go on all the same: "
    "kubectl memplace resume (docs/placements.md).",
    Reason.NO_PODS: "Compare spec.selector with the pods' labels: kubectl get pods --show-labels.",
    Reason.PLACED_BEST_EFFORT: "Boot the node with a kernel that has process_mbind() to place "
    "later pages as well (docs/backends.md).",
    Reason.KERNEL_WITHOUT_PROCESS_MBIND: KernelWithoutProcessMbind.HELP,
    Reason.SECCOMP_FILTERED: SeccompFiltered.HELP,
    Reason.MISSING_CAPABILITY: MissingCapability.HELP,
    Reason.ANOTHER_AGENT: "End one of the two agents: two installations must not share nodes.",
    Reason.FEATURE_UNAVAILABLE: FeatureUnavailable.HELP,
    Reason.REPORT_TOO_LARGE: "Have fewer placements or pods of one namespace on the node; the "
    "agent's metrics and log show what the report leaves out.",
    Reason.UNDOING: "Wait until the agent has restored all policies.",
    Reason.CANNOT_UNDO: "Read the message; restarting the pods that it names restores the policies "
    "of their memory.",
    Reason.RETIRED: "Set spec.agent of the NodeMemory to Active to let the agent place memory.",
}


def advise(reason: str) -> str:
    """Return what to do about a reason; empty where nothing is to be done, or it is unknown."""
    return _ADVICE.get(reason, "")  # type: ignore[call-overload, no-any-return]


def meaning(reason: str) -> str:
    """Return the core's sentence about a reason; empty for one of a later version."""
    try:
        return Reason(reason).sentence
    except ValueError:
        return ""
