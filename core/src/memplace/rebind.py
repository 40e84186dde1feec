# SPDX-License-Identifier: Apache-2.0
"""What the kernel makes of a memory policy when the cpuset changes.

A cpuset has the nodes that its processes may allocate from. When they change, the kernel goes
through the policies of all mappings. Most it translates: "the second of my nodes" before is
the second of the new nodes after, and node ids in policies change without anybody's doing.

Source: linux ``mm/mempolicy.c``: mpol_rebind_policy(), mpol_rebind_nodemask() and
mpol_rebind_preferred(), the same in 6.12 and 7.3; set_mempolicy(2), MPOL_F_STATIC_NODES and
MPOL_FRELATIVE_NODES.
"""

from __future__ import annotations

from dataclasses import replace

from memplace.kinds import Mode, Policy
from memplace.nodes import NumaSet, places, remap

STATIC = "static"
RELATIVE = "relative"

# mpol_rebind_preferred() and mpol_rebind_default() leave the nodes as they are.
_NOT_REBOUND = frozenset({Mode.DEFAULT, Mode.LOCAL, Mode.PREFERRED, Mode.PREFERRED_MANY})


def rebind(policy: Policy, old: NumaSet, new: NumaSet) -> Policy:
    """Return what a policy reads as after a change of the cpuset.

    Args:
        policy: Under `static` the nodes that were asked for, else those that it read as
            under `old`.
        old: Mems_allowed_list before.
        new: Mems_allowed_list now.

    Returns:
        The policy as numa_maps shows it. For `relative` that is right as long as no place of
        the original mask was beyond the end of `old`: the kernel does not show that mask.
    """
    if policy.mode in _NOT_REBOUND:
        return policy
    if STATIC in policy.flags:
        nodes = policy.nodes & new
    elif old == new:
        return policy
    else:
        nodes = remap(policy.nodes, old, new)
    return replace(policy, nodes=nodes or new)


def roll(policy: Policy, old: NumaSet, new: NumaSet) -> Policy:
    """Return what to remember of a policy, now that `new` was seen instead of `old`.

    The kernel translates from each set of nodes to the next, so two changes are not one. Only
    `static` policies start from what was asked for each time.
    """
    return policy if STATIC in policy.flags else rebind(policy, old, new)


def settable(policy: Policy, old: NumaSet, new: NumaSet) -> Policy:
    """Return the arguments that make a mapping read as an earlier policy would read now.

    Args:
        policy: The earlier policy, as `rebind` takes it.
        old: Mems_allowed_list when it was read.
        new: Mems_allowed_list of the process now.

    Returns:
        A policy that mbind() accepts: with places instead of nodes under `relative`, and the
        default policy if no node of it may be used any more.
    """
    shown = rebind(policy, old, new)
    if not shown.mode.takes_nodes:
        return shown
    nodes = shown.nodes & new
    if not nodes:
        return Policy(Mode.DEFAULT)
    if RELATIVE in shown.flags:
        nodes = places(nodes, new)
    return replace(shown, nodes=nodes)
