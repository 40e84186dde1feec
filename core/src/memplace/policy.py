# SPDX-License-Identifier: Apache-2.0
"""The plan: what to do to which region, decided without touching the world.

`plan` compares what the rules want with what the regions have and names the difference, in
two halves: policies, which are set at once and cost the process next to nothing, and moves
of pages, which take their time. Applying both and planning again gives nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from memplace.api.v1alpha1 import Rule
from memplace.claims import DEFAULT
from memplace.entries import ProcessName
from memplace.kinds import ExistingPages, Mode, Policy
from memplace.limits import UNLIMITED, Limited, Word
from memplace.matching import Matcher
from memplace.nodes import NumaSet
from memplace.objects import ObjectId
from memplace.problems import Problem, Refusal, left_alone, policy_of
from memplace.reasons import Reason
from memplace.regions import Region
from memplace.topology import BUILTIN_TIERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Set a policy on one region ``[start, end)``; no page moves.

    Attributes:
        rule: Name of the rule that wants it.
        start: First address.
        end: First address after it.
        policy: The policy to set.
        previous: The mapping's own policy before, for undo; Default when it has none.
        own: Whether the mapping had a policy of its own before.
        page_size: Bytes of one page of the mapping.
    """

    rule: str
    start: int
    end: int
    policy: Policy
    previous: Policy
    own: bool = False
    page_size: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Move pages of one region ``[start, end)`` that are on other nodes than these.

    Attributes:
        rule: Name of the rule that wants it.
        start: First address.
        end: First address after it.
        nodes: The NUMA nodes that its pages may be on, those of `policy`; never empty.
        policy: The policy that the region has by then: the call that moves sets it again.
        move_all: Move pages that other processes map as well (MPOL_MF_MOVE_ALL).
        bytes: How many bytes are on other nodes.
        page_size: Bytes of one page of the mapping; cuts keep to it.
        object: What others may map as well; None for memory of the process alone.
    """

    rule: str
    start: int
    end: int
    nodes: NumaSet
    policy: Policy
    move_all: bool
    bytes: int
    page_size: int = 4096
    object: ObjectId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """What a rule holds, measured from the regions that follow it.

    Attributes:
        rule: Its name.
        regions: How many regions follow it.
        bytes: Their resident bytes.
        numa_bytes: Those bytes per NUMA node.
        misplaced_bytes: Those of them that should be moved to another node: outside `nodes`
            under existingPages Move; 0 under Leave and for Default and Local.
        nodes: The NUMA nodes the rule wants; empty for Default, Local and rules with a problem.
        weights: How the bytes should be spread over these nodes, for modes that interleave;
            empty for other modes, under Leave and for weights that nobody told.
        own_regions: How many regions it leaves alone, for their policy is the program's own.
    """

    rule: str
    regions: int = 0
    bytes: int = 0
    numa_bytes: Mapping[int, int] = field(default_factory=dict)
    misplaced_bytes: int = 0
    nodes: NumaSet = frozenset()
    weights: Mapping[int, int] = field(default_factory=dict)
    own_regions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, what is there, and what can't be done.

    Attributes:
        policies: Policies to set, ascending by address.
        moves: Pages to move, ascending by address.
        rules: What each rule holds, in the order of the rules.
        problems: At most one per rule, in their order.
        released: Regions with a policy of memplace's that no rule means (any more), or one that
            is withheld, ascending by address; the ledger knows what to give back.
        following: The regions that follow a rule, each with that rule, ascending by address.
    """

    policies: tuple[Step, ...] = ()
    moves: tuple[Move, ...] = ()
    rules: tuple[RuleResult, ...] = ()
    problems: tuple[Problem, ...] = ()
    released: tuple[Region, ...] = ()
    following: tuple[tuple[Region, Rule], ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return not self.policies and not self.moves and not self.released


@dataclass(slots=True)
class _Won:
    # What a rule won: regions that follow it, and those it has to leave alone.
    follow: list[Region] = field(default_factory=list)
    own: int = 0
    refused: list[Refusal] = field(default_factory=list)


def plan(
    matcher: Matcher,
    *,
    tiers: Mapping[str, NumaSet],
    allowed: NumaSet,
    regions: Iterable[Region],
    known_tiers: Collection[str] = BUILTIN_TIERS,
    process: ProcessName | None = None,
    ours: Callable[[Region], bool] = lambda _: False,
    weights: Mapping[int, int] | None = None,
    sharing: Callable[[Rule, Region], Refusal | None] = left_alone,
    limited: Limited = UNLIMITED,
) -> Plan:
    """Compare what the rules want with what the regions of a process have.

    Args:
        matcher: The rules, in order; per region the first that means it wins.
        tiers: Tier name to NUMA nodes of this Kubernetes node (`topology.resolve_tiers`).
        allowed: The container's cpuset.mems.effective; nothing ever names another node.
        regions: All of the process's regions, in any order.
        known_tiers: Names that are tiers somewhere, if not here: tells TierNotOnNode from
            TierUnknown. The built-in tiers and the names of all MemoryTier objects.
        process: What the process is called, where the matcher needs it.
        ours: Whether memplace set the policy that a region has of its own. Another's is the
            program's: such a region is left alone unless its rule says ``override``.
        weights: By NUMA node, those of WeightedInterleave, or None when they are not known.
        sharing: Why a rule may not act on a region that is shared, or a private mapping of
            a file; None if it may.
        limited: Which rules get nothing new, for the namespace has all that it may have. What
            they hold is measured all the same; policies of memplace's on it are released.

    Returns:
        A step for each region whose policy differs and a move for each with misplaced
        bytes; one result per rule, of rules that hold nothing too. A rule that names no
        usable node does nothing.
    """
    rules = matcher.rules
    wanted, problems = _wanted(rules, tiers, allowed, known_tiers)
    won, released = _won(matcher, wanted, tuple(regions), (process, ours, sharing))
    for rule in rules:
        found = _refused(rule, won[rule.name])
        if limited.word(rule) is Word.WITHHELD:
            found = Problem(rule.name, Reason.NAMESPACE_LIMIT, limited.why(rule))
        if found is not None:
            problems.setdefault(rule.name, found)
    following = sorted(
        (
            (region, rule)
            for rule in rules
            if rule.name in wanted
            for region in won[rule.name].follow
        ),
        key=lambda pair: pair[0].start,
    )
    words = {rule.name: limited.word(rule) for rule in rules}
    acting = [(region, rule) for region, rule in following if words[rule.name] is Word.GRANTED]
    # Another container may be granted the same object: objects end elsewhere.
    withheld = (region for region, rule in following if words[rule.name] is Word.WITHHELD)
    released += [region for region in withheld if not region.in_object and ours(region)]
    return Plan(
        policies=tuple(
            _step(rule, wanted[rule.name], region)
            for region, rule in acting
            if not _has_policy(rule, wanted[rule.name], region)
        ),
        moves=tuple(
            _move(rule, wanted[rule.name], region)
            for region, rule in acting
            if _misplaced(rule, wanted[rule.name].nodes, region)
        ),
        rules=tuple(
            _result(rule, wanted.get(rule.name), won[rule.name], weights) for rule in rules
        ),
        problems=tuple(problems[rule.name] for rule in rules if rule.name in problems),
        released=tuple(sorted(released, key=lambda region: region.start)),
        following=tuple(following),
    )


def measured(rule: Rule, before: RuleResult, numa_bytes: Mapping[int, int]) -> RuleResult:
    """Return what a rule holds after another look at the pages of the regions that follow it.

    Args:
        rule: The rule.
        before: What it held by the plan that these regions are from.
        numa_bytes: The resident bytes of the regions per NUMA node.
    """
    return replace(
        before,
        bytes=sum(numa_bytes.values()),
        numa_bytes=dict(sorted(numa_bytes.items())),
        misplaced_bytes=_outside(rule, before.nodes, numa_bytes),
    )


def _wanted(
    rules: Iterable[Rule],
    tiers: Mapping[str, NumaSet],
    allowed: NumaSet,
    known_tiers: Collection[str],
) -> tuple[dict[str, Policy], dict[str, Problem]]:
    wanted: dict[str, Policy] = {}
    problems: dict[str, Problem] = {}
    for rule in rules:
        outcome = policy_of(rule, tiers, allowed, known_tiers)
        if isinstance(outcome, Policy):
            wanted[rule.name] = outcome
        else:
            problems[rule.name] = outcome
    return wanted, problems


def _won(
    matcher: Matcher,
    wanted: Mapping[str, Policy],
    regions: Sequence[Region],
    asked: tuple[
        ProcessName | None,
        Callable[[Region], bool],
        Callable[[Rule, Region], Refusal | None],
    ],
) -> tuple[dict[str, _Won], list[Region]]:
    # What each rule won, and what carries a policy of ours though no rule may touch it.
    process, ours, sharing = asked

    def held(rule: Rule, region: Region) -> bool:
        return region.policy.without_home == wanted.get(rule.name) and ours(region)

    won = {rule.name: _Won() for rule in matcher.rules}
    released: list[Region] = []
    for region, match in zip(regions, matcher.match(regions, process, held), strict=True):
        is_common = region.shared or region.object is not None
        why = sharing(match.rule, region) if match.rule and is_common else None
        # What no rule means here another process may have by one: objects end elsewhere.
        if (why or (match.rule is None and not region.in_object)) and ours(region):
            released.append(region)
        if match.rule is None:
            continue
        mine = won[match.rule.name]
        if why:
            mine.refused.append(why)
        elif region.own and not match.rule.override and not ours(region):
            mine.own += 1
        else:
            mine.follow.append(region)
    return won, released


def _refused(rule: Rule, won: _Won) -> Problem | None:
    if not won.refused:
        return None
    reason, text = won.refused[0]
    return Problem(rule.name, reason, f"{text}; {len(won.refused)} regions are left alone")


def _has_policy(rule: Rule, policy: Policy, region: Region) -> bool:
    if not region.own and policy == DEFAULT:
        return True
    # A move sets the policy on the mapping itself; that is a step, to be given back.
    borrowed = not region.own and bool(_misplaced(rule, policy.nodes, region))
    return region.policy.without_home == policy and not borrowed


def _misplaced(rule: Rule, nodes: NumaSet, region: Region) -> int:
    return _outside(rule, nodes, region.pages)


def _outside(rule: Rule, nodes: NumaSet, pages: Mapping[int, int]) -> int:
    if rule.existing is ExistingPages.LEAVE or not rule.policy.mode.takes_nodes:
        return 0
    return sum(size for node, size in pages.items() if node not in nodes)


def _step(rule: Rule, policy: Policy, region: Region) -> Step:
    return Step(
        rule=rule.name,
        start=region.start,
        end=region.end,
        policy=policy,
        # A copy of the task's policy would outlive a later set_mempolicy() of the process.
        previous=region.policy if region.own else DEFAULT,
        own=region.own,
        page_size=region.page_size,
    )


def _move(rule: Rule, policy: Policy, region: Region) -> Move:
    return Move(
        rule=rule.name,
        start=region.start,
        end=region.end,
        nodes=policy.nodes,
        policy=policy,
        # Pages shared with forked children are mapped more than once; plain MOVE skips them.
        # Of what is shared all who map it agree, see `plan`.
        move_all=region.private_anonymous or region.shared,
        bytes=_misplaced(rule, policy.nodes, region),
        page_size=region.page_size,
        object=region.object if region.shared else None,
    )


def _result(
    rule: Rule, policy: Policy | None, won: _Won, weights: Mapping[int, int] | None
) -> RuleResult:
    nodes: NumaSet = policy.nodes if policy else frozenset()
    on_node: dict[int, int] = {}
    for region in won.follow:
        for node, size in region.pages.items():
            on_node[node] = on_node.get(node, 0) + size
    held = RuleResult(
        rule=rule.name,
        regions=len(won.follow),
        nodes=nodes,
        weights=_spread(rule, nodes, weights),
        own_regions=won.own,
    )
    return measured(rule, held, on_node)


def _spread(rule: Rule, nodes: NumaSet, weights: Mapping[int, int] | None) -> dict[int, int]:
    if rule.existing is ExistingPages.LEAVE:
        return {}
    if rule.policy.mode is Mode.INTERLEAVE:
        return dict.fromkeys(sorted(nodes), 1)
    if rule.policy.mode is Mode.WEIGHTED_INTERLEAVE and weights and nodes <= weights.keys():
        return {node: weights[node] for node in sorted(nodes)}
    return {}
