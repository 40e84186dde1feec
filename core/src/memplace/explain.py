# SPDX-License-Identifier: Apache-2.0
"""Say of each region of a process what it is, which rule gets it, and what a plan would do.

Pure. What is decided here is nothing: `matching` and `policy` decide, and this puts their
reasons into tables and sentences for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

from memplace.api.v1alpha1 import NumaBytes, TierNumaNodes
from memplace.claim_view import View
from memplace.claims import DEFAULT
from memplace.entries import ProcessName
from memplace.explain_rules import explain_rules
from memplace.explained import (
    Cut,
    ProcessExplained,
    Reading,
    RegionExplained,
    RuleExplained,
    WhyNotSaid,
)
from memplace.extents import extents
from memplace.kinds import Policy
from memplace.matches import NO_MATCH, Match
from memplace.matching import Matcher
from memplace.nodes import NumaSet, format_nodes
from memplace.objects import Common, surplus
from memplace.policy import Plan
from memplace.regions import Region
from memplace.results import bytes_per_tier, merge_results

# A program can have a million mappings; who reads more of them than this reads JSON.
MOST_REGIONS = 4096

_ONCE = "memory that is mapped several times is in each of its regions, and once in the sums"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was read of a process.

    Attributes:
        pid: Its id.
        name: What it is called.
        regions: All it has mapped, with pages, policies as rules see them; ascending.
        allowed: The NUMA nodes it may use.
        tiers: Tier name to NUMA nodes.
        reading: How that was found out.
        task_policy: The policy of the process itself.
        notes: What could not be read.
        carried: First addresses of the regions whose policy memplace set.
    """

    pid: int
    name: ProcessName
    regions: Sequence[Region]
    allowed: NumaSet
    tiers: Mapping[str, NumaSet]
    reading: Reading
    task_policy: Policy = DEFAULT
    notes: tuple[str, ...] = ()
    carried: Collection[int] = frozenset()

    def ours(self, region: Region) -> bool:
        """Return whether memplace set the policy of a region."""
        return region.start in self.carried


@dataclass(frozen=True, slots=True)
class Wish:
    """Rules, and the plan that they make of the facts.

    Attributes:
        placement: Whose rules they are.
        matcher: The rules.
        plan: What of it is done here; of a dry run what would be (`backends.foreseen`).
        note: Why that is not all, for people; empty if it is.
    """

    placement: str
    matcher: Matcher
    plan: Plan
    note: str = ""


class _Like(NamedTuple):
    # What the regions of one row have in common.
    name: str
    policy: Policy
    own: bool
    ours: bool
    special: bool
    match: Match
    plan: str


@dataclass(slots=True)
class _Row:
    like: _Like
    regions: Sequence[Region]
    extent: int
    pages: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for region in self.regions:
            for node, size in region.pages.items():
                self.pages[node] = self.pages.get(node, 0) + size

    @property
    def resident(self) -> int:
        return sum(self.pages.values())

    @property
    def size(self) -> int:
        return self.regions[-1].end - self.regions[0].start


def through_claim(
    view: View, regions: Sequence[Region], pages: Mapping[int, Mapping[int, int]]
) -> tuple[tuple[Region, ...], frozenset[int]]:
    """Return regions as rules see them, and the first addresses of those that carry ours.

    Args:
        view: The process through its container's claim.
        regions: As the kernel shows them.
        pages: By first address, bytes per NUMA node.
    """
    carried = frozenset(region.start for region in regions if view.carries(region))
    return tuple(
        _seen(region, view, pages.get(region.start, {}), carries=region.start in carried)
        for region in regions
    ), carried


def _seen(region: Region, view: View, pages: Mapping[int, int], *, carries: bool) -> Region:
    # Most need no other object, and there may be a million.
    if not carries:
        return region if region.pages == pages else region.holding(pages)
    return region.like(view.policy(region)).holding(pages)


def explain(facts: Facts, wish: Wish | None = None, most: int = MOST_REGIONS) -> ProcessExplained:
    """Explain a process.

    Args:
        facts: What was read of it.
        wish: Rules, or None to say only what there is.
        most: Regions to tell of; those with most bytes are. 0 tells of all.
    """
    matches = _matches(facts, wish)
    rows = list(_rows(facts, matches, _planned(wish)))
    kept = _largest(rows, most)
    commons = tuple(_commons(facts.regions, matches))
    over = surplus(commons)
    pages = _sum(rows, over.values())
    left = sum(row.resident for row in rows) - sum(row.resident for row in kept)
    return ProcessExplained(
        pid=facts.pid,
        comm=_text(facts.name.comm),
        exe=_text(facts.name.exe),
        allowed=format_nodes(facts.allowed),
        policy=format_policy(facts.task_policy),
        tiers=tuple(
            TierNumaNodes(name=name, numa_nodes=tuple(sorted(nodes)))
            for name, nodes in facts.tiers.items()
        ),
        mappings=len(facts.regions),
        resident=_node_bytes(pages),
        by_tier=bytes_per_tier(pages, facts.tiers),
        reading=facts.reading,
        notes=(*facts.notes, _ONCE) if over else facts.notes,
        regions=tuple(_explained(row, facts) for row in kept),
        cut=Cut(regions=len(rows) - len(kept), resident=left),
        placement=wish.placement if wish else "",
        rules=_rules(wish, facts, matches, commons) if wish else (),
    )


def _rules(
    wish: Wish, facts: Facts, matches: Sequence[Match], commons: Iterable[Common]
) -> tuple[RuleExplained, ...]:
    plan = replace(wish.plan, rules=merge_results((wish.plan.rules,), commons))
    return explain_rules(wish.matcher, plan, facts.regions, matches, facts.tiers, note=wish.note)


def _commons(regions: Sequence[Region], matches: Sequence[Match]) -> Iterator[Common]:
    # What a process maps twice is there once.
    for region, match in zip(regions, matches, strict=True):
        if region.shared and region.object is not None and region.pages:
            rule, end = match.rule.name if match.rule else "", region.offset + region.size
            yield Common(rule, region.object, region.offset, end, region.pages)


def format_policy(policy: Policy) -> str:
    """Return a policy as one word, such as ``PreferredMany:1`` or ``Default``."""
    flags = f"={'|'.join(sorted(policy.flags))}" if policy.flags else ""
    nodes = f":{format_nodes(policy.nodes)}" if policy.nodes else ""
    return f"{policy.mode}{flags}{nodes}"


def _matches(facts: Facts, wish: Wish | None) -> Sequence[Match]:
    if wish is None:
        return [NO_MATCH] * len(facts.regions)
    nodes = {result.rule: result.nodes for result in wish.plan.rules}
    wanted = {rule.name: Policy(rule.policy.mode, nodes[rule.name]) for rule in wish.matcher.rules}
    return wish.matcher.match(
        facts.regions,
        facts.name,
        lambda rule, region: region.policy == wanted[rule.name] and facts.ours(region),
    )


def _planned(wish: Wish | None) -> Mapping[int, str]:
    # By first address, what would be done with a region.
    if wish is None:
        return {}
    said = {step.start: f"set {format_policy(step.policy)}" for step in wish.plan.policies}
    for move in wish.plan.moves:
        before = f"{said[move.start]}, " if move.start in said else ""
        said[move.start] = f"{before}move to {format_nodes(move.nodes)}"
    return said | {region.start: "give the policy back" for region in wish.plan.released}


def _rows(facts: Facts, matches: Sequence[Match], planned: Mapping[int, str]) -> Iterator[_Row]:
    by_start = {r.start: m for r, m in zip(facts.regions, matches, strict=True)}

    def like(region: Region) -> _Like:
        return _Like(
            name=region.name or region.path,
            policy=region.policy,
            own=region.own,
            ours=facts.ours(region),
            special=region.special,
            match=by_start[region.start],
            plan=planned.get(region.start, ""),
        )

    for extent in extents(facts.regions):
        for common, regions in groupby(extent.regions, like):
            yield _Row(common, tuple(regions), extent.size)


def _largest(rows: list[_Row], most: int) -> list[_Row]:
    if not most or len(rows) <= most:
        return rows
    order = sorted(range(len(rows)), key=lambda i: (rows[i].resident, rows[i].size), reverse=True)
    return [rows[index] for index in sorted(order[:most])]


def _sum(rows: Iterable[_Row], over: Iterable[Mapping[int, int]] = ()) -> dict[int, int]:
    pages: Counter[int] = Counter()
    for row in rows:
        pages.update(row.pages)
    for surplus_of_rule in over:
        pages.subtract(surplus_of_rule)
    return dict(sorted(pages.items()))


def _node_bytes(pages: Mapping[int, int]) -> tuple[NumaBytes, ...]:
    return tuple(NumaBytes(id=node, bytes=size) for node, size in sorted(pages.items()))


def _explained(row: _Row, facts: Facts) -> RegionExplained:
    first, like = row.regions[0], row.like
    known = facts.reading.policies != "Unknown"
    match = like.match
    return RegionExplained(
        type="Kernel" if like.special else first.kind.value,
        name=_text(like.name),
        start=f"{first.start:#x}",
        end=f"{row.regions[-1].end:#x}",
        permissions=_letters(row.regions),
        mappings=len(row.regions),
        size=row.size,
        extent=row.extent,
        resident=row.resident,
        numa_nodes=_node_bytes(row.pages),
        policy=format_policy(like.policy) if known else "",
        policy_of=_policy_of(like) if known else "",
        rule=match.rule.name if match.rule else "",
        why_not=tuple(
            WhyNotSaid(rule=why.rule, reason=why.reason, message=why.text) for why in match.why_not
        ),
        plan=like.plan,
    )


def _policy_of(like: _Like) -> str:
    if like.ours:
        return "Memplace"
    return "Program" if like.own else "Process"


def _letters(regions: Sequence[Region]) -> str:
    return "".join(
        next((r.permissions[at] for r in regions if r.permissions[at] != "-"), "-")
        for at in range(3)
    )


def _text(name: str) -> str:
    # Names are bytes of any kind (PEP 383), and JSON has none but UTF-8.
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
