# SPDX-License-Identifier: Apache-2.0
"""The plan: what to do to which region, decided without touching the world.

`plan` compares what the rules want with what the regions have and names the
difference; applying it and planning again gives nothing to do. `calls` cuts a plan
into system calls that do not stop the process for long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from memplace.api.v1alpha1 import Rule
from memplace.kinds import ExistingPages, Mode, Policy
from memplace.nodes import NodeSet, format_nodes
from memplace.reasons import Reason
from memplace.regions import Region, winner
from memplace.topology import BUILTIN_TIERS

__all__ = [
    "MAX_CALL_BYTES",
    "MAX_CALL_RANGES",
    "MAX_MOVE_BYTES",
    "Action",
    "Call",
    "ExistingPages",
    "Mode",
    "Plan",
    "Policy",
    "Problem",
    "RuleResult",
    "calls",
    "plan",
]

# UIO_MAXIOV, the kernel's limit of one vector (linux include/uapi/linux/uio.h).
MAX_CALL_RANGES = 1024

# A call that sets policies only.
MAX_CALL_BYTES = 1 << 30

# A call that moves pages as well takes a while, and ends early for nothing but a signal.
MAX_MOVE_BYTES = 64 << 20

# A cut inside a transparent huge page would split its mapping. It is also the longest range
# that version 1 of process_mbind() may get for a move: that one walks a range as a whole
# with the target's mmap_lock held for writing, and page faults of the process wait as long.
CUT_ALIGNMENT = 2 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Set a policy on one region ``[start, end)`` and, with Move, move its pages.

    Attributes:
        rule: Name of the rule that wants it.
        start: First address.
        end: First address after it.
        policy: The policy to set.
        existing: Move or Leave the pages that are there.
        move_all: Move pages that other processes map as well (MPOL_MF_MOVE_ALL).
        previous: The policy before, for undo.
        page_size: Bytes of one page of the mapping; cuts keep to it.
    """

    rule: str
    start: int
    end: int
    policy: Policy
    existing: ExistingPages
    move_all: bool
    previous: Policy
    page_size: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """What a rule holds, measured from the regions it won.

    Attributes:
        rule: Its name.
        regions: How many regions it won.
        bytes: Their resident bytes.
        numa_bytes: Those bytes per NUMA node.
        misplaced_bytes: Those of them that should be moved to another node: outside `nodes`
            under existingPages Move; 0 under Leave and for Default and Local.
        nodes: The NUMA nodes the rule wants; empty for Default, Local and rules with a problem.
    """

    rule: str
    regions: int = 0
    bytes: int = 0
    numa_bytes: Mapping[int, int] = field(default_factory=dict)
    misplaced_bytes: int = 0
    nodes: NodeSet = frozenset()


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a rule can't be followed here: TierUnknown, TierNotOnNode or NotAllowedByCpuset."""

    rule: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do (ascending by address), what is there, and what can't be done."""

    actions: tuple[Action, ...] = ()
    rules: tuple[RuleResult, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The arguments of one process_mbind(): ranges are half-open ``(start, end)``."""

    policy: Policy
    existing: ExistingPages
    move_all: bool
    ranges: tuple[tuple[int, int], ...]


def plan(
    rules: Sequence[Rule],
    *,
    tiers: Mapping[str, NodeSet],
    allowed: NodeSet,
    regions: Iterable[Region],
    known_tiers: Collection[str] = BUILTIN_TIERS,
) -> Plan:
    """Compare what the rules want with what the regions of a process have.

    Args:
        rules: In order; per region the first that means it wins.
        tiers: Tier name to NUMA nodes of this Kubernetes node (`topology.resolve_tiers`).
        allowed: The container's cpuset.mems.effective; no action ever names another node.
        regions: The process's regions, in any order.
        known_tiers: Names that are tiers somewhere, if not here: tells TierNotOnNode from
            TierUnknown. The built-in tiers and the names of all MemoryTier objects.

    Returns:
        Actions for regions whose policy differs, or that have misplaced bytes; one result
        per rule, in order, of rules that hold nothing too; one problem per rule that names
        no usable node, and no action for that rule.
    """
    wanted, problems = _wanted(rules, tiers, allowed, known_tiers)
    won = _won(tuple(rules), regions)
    actions = [
        _action(rule, wanted[rule.name], region)
        for rule in rules
        if rule.name in wanted
        for region in won[rule.name]
        if not _is_settled(rule, wanted[rule.name], region)
    ]
    return Plan(
        actions=tuple(sorted(actions, key=lambda action: action.start)),
        rules=tuple(_result(rule, wanted.get(rule.name), won[rule.name]) for rule in rules),
        problems=tuple(problems),
    )


def _wanted(
    rules: Iterable[Rule],
    tiers: Mapping[str, NodeSet],
    allowed: NodeSet,
    known_tiers: Collection[str],
) -> tuple[dict[str, Policy], list[Problem]]:
    wanted: dict[str, Policy] = {}
    problems: list[Problem] = []
    for rule in rules:
        outcome = _policy(rule, tiers, allowed, known_tiers)
        if isinstance(outcome, Policy):
            wanted[rule.name] = outcome
        else:
            problems.append(outcome)
    return wanted, problems


def _policy(
    rule: Rule, tiers: Mapping[str, NodeSet], allowed: NodeSet, known_tiers: Collection[str]
) -> Policy | Problem:
    mode, names = rule.policy.mode, rule.policy.tiers
    if not mode.takes_nodes:
        return Policy(mode)
    here: NodeSet = frozenset[int]().union(*(tiers.get(name, frozenset()) for name in names))
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


def _won(rules: tuple[Rule, ...], regions: Iterable[Region]) -> dict[str, list[Region]]:
    won: dict[str, list[Region]] = {rule.name: [] for rule in rules}
    for region in regions:
        rule = winner(rules, region)
        if rule is not None:
            won[rule.name].append(region)
    return won


def _misplaced(rule: Rule, nodes: NodeSet, region: Region) -> int:
    if rule.existing is ExistingPages.LEAVE or not rule.policy.mode.takes_nodes:
        return 0
    return region.bytes_outside(nodes)


def _is_settled(rule: Rule, policy: Policy, region: Region) -> bool:
    return region.policy == policy and not _misplaced(rule, policy.nodes, region)


def _action(rule: Rule, policy: Policy, region: Region) -> Action:
    return Action(
        rule=rule.name,
        start=region.start,
        end=region.end,
        policy=policy,
        existing=rule.existing,
        # Pages shared with forked children are mapped more than once; plain MOVE skips them.
        move_all=region.private_anonymous,
        previous=region.policy,
        page_size=region.page_size,
    )


def _result(rule: Rule, policy: Policy | None, won: Sequence[Region]) -> RuleResult:
    nodes: NodeSet = policy.nodes if policy else frozenset()
    on_node: dict[int, int] = {}
    for region in won:
        for node, size in region.pages.items():
            on_node[node] = on_node.get(node, 0) + size
    return RuleResult(
        rule=rule.name,
        regions=len(won),
        bytes=sum(on_node.values()),
        numa_bytes=dict(sorted(on_node.items())),
        misplaced_bytes=sum(_misplaced(rule, nodes, region) for region in won),
        nodes=nodes,
    )


def calls(actions: Iterable[Action], *, cut_moves: bool = False) -> Iterator[Call]:
    """Cut actions into calls: one policy and one set of flags each.

    Args:
        actions: What to do.
        cut_moves: Cut the ranges whose pages move to 2 MiB: the kernel walks a range as a
            whole. Later kernels go in steps of their own.

    Yields:
        Calls of at most MAX_CALL_RANGES ranges and MAX_CALL_BYTES in total, MAX_MOVE_BYTES
        where pages move, together exactly the actions' ranges. A range is cut only at a
        multiple of 2 MiB (or of its page size, if that is larger; a single page larger than
        a call may be goes alone).
    """
    groups: dict[tuple[Policy, ExistingPages, bool], list[Action]] = {}
    for action in actions:
        key = (action.policy, action.existing, action.move_all)
        groups.setdefault(key, []).append(action)
    for (policy, existing, move_all), group in groups.items():
        moves = existing is ExistingPages.MOVE and bool(policy.nodes)
        most = MAX_MOVE_BYTES if moves else MAX_CALL_BYTES
        longest = CUT_ALIGNMENT if moves and cut_moves else most
        for ranges in _batches(group, most, longest):
            yield Call(policy=policy, existing=existing, move_all=move_all, ranges=ranges)


def _batches(
    actions: Iterable[Action], most: int, longest: int
) -> Iterator[tuple[tuple[int, int], ...]]:
    batch: list[tuple[int, int]] = []
    room = most
    for action in actions:
        alignment = max(CUT_ALIGNMENT, action.page_size)
        start = action.start
        while start < action.end:
            stop = _cut(start, action.end, min(room, max(longest, alignment)), alignment)
            if stop == start and not batch:  # a page larger than a call may be
                stop = min(action.end, start + action.page_size)
            if stop > start:
                batch.append((start, stop))
                room -= stop - start
            if stop == start or len(batch) == MAX_CALL_RANGES or room <= 0:
                yield tuple(batch)
                batch, room = [], most
            start = stop
    if batch:
        yield tuple(batch)


def _cut(start: int, end: int, room: int, alignment: int) -> int:
    # The furthest address to go to with that much room; start when a cut would not align.
    if end - start <= room:
        return end
    return max(start, (start + room) // alignment * alignment)
