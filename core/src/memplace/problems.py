# SPDX-License-Identifier: Apache-2.0
"""What a rule means on one node, or why it can't be followed there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from memplace.api.v1alpha1 import Rule
from memplace.kinds import Mode, Policy
from memplace.nodes import NumaSet, format_nodes
from memplace.reasons import Reason
from memplace.regions import Region

# Why a rule may not act on a region: for machines, and for people.
Refusal = tuple[Reason, str]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a rule can't be followed here.

    TierUnknown, TierNotOnNode and NotAllowedByCpuset are about the whole rule; others about
    memory that other processes may map: what else the rule means is placed all the same.
    """

    rule: str
    reason: Reason
    message: str


def left_alone(_rule: Rule, region: Region) -> Refusal | None:
    """Refuse all memory that other processes may map: nobody has asked who does."""
    if not region.shared:
        return None
    text = "memory that other processes may map is left alone: it is not known here who maps it"
    return Reason.SHARED_NOT_SUPPORTED, text


def of_a_file_in_memory(region: Region, devices: Collection[tuple[int, int]]) -> Refusal | None:
    """Refuse a private mapping of a file that is in memory alone.

    shmem keeps each policy in the file, whether the mapping is private or not (linux
    ``mm/shmem.c:shmem_set_policy()``): it would be in force for all who map the file, and for
    none of the pages that the process has written to.

    Args:
        region: A private one, of whatever it is.
        devices: Of all tmpfs that the process sees, and the kernel's own.
    """
    if region.shared or region.object is None or region.object[:2] not in devices:
        return None
    text = (
        "a private mapping of a file in memory (tmpfs) can't be placed: a policy of it would be "
        "one of the file, for all who map it"
    )
    return Reason.SHARED_NOT_SUPPORTED, text


def policy_of(
    rule: Rule, tiers: Mapping[str, NumaSet], allowed: NumaSet, known_tiers: Collection[str]
) -> Policy | Problem:
    """Return the policy that a rule means here, or why it can't be followed; see `plan`."""
    mode, names = rule.policy.mode, rule.policy.tiers
    if not mode.takes_nodes:
        return Policy(mode)
    here: NumaSet = frozenset[int]().union(*(tiers.get(name, frozenset()) for name in names))
    nodes = here & allowed
    if nodes:
        # MPOL_PREFERRED keeps only the first node of its mask; asking for more would never
        # read back as asked (linux mm/mempolicy.c:mpol_new_preferred()).
        return Policy(mode, frozenset({min(nodes)}) if mode is Mode.PREFERRED else nodes)
    listed = ", ".join(names)
    if here:
        message = (
            f"NUMA nodes {format_nodes(here)} of tier {listed} are not in the container's "
            f"cpuset.mems ({format_nodes(allowed)})"
        )
        return Problem(rule.name, Reason.NOT_ALLOWED_BY_CPUSET, message)
    if any(name in tiers or name in known_tiers for name in names):
        return Problem(
            rule.name, Reason.TIER_NOT_ON_NODE, f"this node has no memory of tier {listed}"
        )
    has = ", ".join(sorted(tiers)) or "none"
    message = f"no tier is called {listed}; this node has: {has}. Name one, or make a MemoryTier"
    return Problem(rule.name, Reason.TIER_UNKNOWN, message)
