# SPDX-License-Identifier: Apache-2.0
"""Say rule by rule what a plan would do, and why it leaves the rest alone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from memplace.api.v1alpha1 import Rule
from memplace.entries import Mismatch
from memplace.explained import RuleExplained, WhyNotCounted
from memplace.kinds import ExistingPages
from memplace.matches import Match, WhyNot
from memplace.matching import Matcher
from memplace.nodes import NumaSet, format_nodes
from memplace.policy import Plan, RuleResult
from memplace.regions import Region
from memplace.topology import tier_by_node

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def human_bytes(size: int) -> str:
    """Return a size as people read it, such as ``60.1 MiB``; rounded."""
    value, unit = float(size), 0
    while value >= 999.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{size} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def explain_rules(
    matcher: Matcher,
    plan: Plan,
    regions: Sequence[Region],
    matches: Sequence[Match],
    tiers: Mapping[str, NumaSet],
    *,
    note: str = "",
) -> tuple[RuleExplained, ...]:
    """Explain each rule.

    Args:
        matcher: The rules.
        plan: What they make of the regions.
        regions: Of the process.
        matches: For each region, what the matcher said of it.
        tiers: Tier name to NUMA nodes.
        note: What is said first of each: why a plan is not all that the rules want.
    """
    why_not = _counted(regions, matches)
    by_start = {region.start: region for region in regions}
    names = tier_by_node(tiers)
    return tuple(
        _explained(
            rule,
            result,
            plan,
            by_start,
            names,
            why_not=tuple(_ordered(why_not.get(rule.name, {}))),
            note=note,
        )
        for rule, result in zip(matcher.rules, plan.rules, strict=True)
    )


def _explained(
    rule: Rule,
    result: RuleResult,
    plan: Plan,
    by_start: Mapping[int, Region],
    names: Mapping[int, str],
    *,
    why_not: tuple[WhyNotCounted, ...],
    note: str,
) -> RuleExplained:
    problem = next((p for p in plan.problems if p.rule == rule.name), None)
    steps = [step for step in plan.policies if step.rule == rule.name]
    said = [note] if note else []
    said += [problem.message] if problem else []
    if steps:
        sizes = sum(step.end - step.start for step in steps)
        said.append(
            f"set {rule.policy.mode}{_on(result.nodes, names)} on {_count(len(steps), 'range')}"
            f" ({human_bytes(sizes)} of addresses)"
        )
    said += _moves(rule, plan, by_start, names)
    if rule.existing is ExistingPages.LEAVE and result.nodes and result.bytes:
        elsewhere = sum(size for n, size in result.numa_bytes.items() if n not in result.nodes)
        if elsewhere:
            said.append(f"leave {human_bytes(elsewhere)} where they are (existingPages: Leave)")
    if result.own_regions:
        said.append(
            f"leave {_count(result.own_regions, 'mapping')} alone: the program set the policy "
            "itself (override: true would take it)"
        )
    if not said:
        said.append(
            f"nothing: {_count(result.regions, 'mapping')} as the rule wants it"
            if result.regions
            else "nothing: no region of this process follows it"
        )
    return RuleExplained(
        name=rule.name,
        wants=f"{rule.policy.mode}{' on ' if rule.policy.tiers else ''}"
        f"{', '.join(rule.policy.tiers)}",
        numa_nodes=tuple(sorted(result.nodes)),
        mappings=result.regions,
        resident=result.bytes,
        misplaced=result.misplaced_bytes if result.nodes else 0,
        policies=len(steps),
        problem=problem.reason if problem else "",
        plan=tuple(said),
        why_not=why_not,
    )


def _moves(
    rule: Rule, plan: Plan, by_start: Mapping[int, Region], names: Mapping[int, str]
) -> Iterator[str]:
    moves = [move for move in plan.moves if move.rule == rule.name]
    origins: dict[int, int] = {}
    for move in moves:
        for node, size in by_start[move.start].pages.items():
            if node not in move.nodes:
                origins[node] = origins.get(node, 0) + size
    for node, size in sorted(origins.items()):
        yield (
            f"move {human_bytes(size)} from{_node(node, names)} to{_nodes(moves[0].nodes, names)}"
        )


def _on(nodes: NumaSet, names: Mapping[int, str]) -> str:
    return f" on{_nodes(nodes, names)}" if nodes else ""


def _nodes(nodes: NumaSet, names: Mapping[int, str]) -> str:
    if len(nodes) == 1:
        return _node(min(nodes), names)
    tiers = ", ".join(sorted({names[node] for node in nodes if node in names}))
    return f" NUMA nodes {format_nodes(nodes)}{f' ({tiers})' if tiers else ''}"


def _node(node: int, names: Mapping[int, str]) -> str:
    return f" NUMA node {node}{f' ({names[node]})' if node in names else ''}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _counted(
    regions: Sequence[Region], matches: Sequence[Match]
) -> dict[str, dict[object, list[tuple[WhyNot, Region]]]]:
    # By rule and reason. Of another type there are few: each is a reason of its own.
    found: dict[str, dict[object, list[tuple[WhyNot, Region]]]] = {}
    for region, match in zip(regions, matches, strict=True):
        for why in match.why_not:
            key = why.text if why.reason is Mismatch.OTHER_TYPE else why.reason
            found.setdefault(why.rule, {}).setdefault(key, []).append((why, region))
    return found


def _ordered(reasons: Mapping[object, list[tuple[WhyNot, Region]]]) -> list[WhyNotCounted]:
    return sorted(
        (_told(pairs) for pairs in reasons.values()),
        key=lambda one: (-Mismatch(one.reason).rank, -one.resident, one.message),
    )


def _told(pairs: Sequence[tuple[WhyNot, Region]]) -> WhyNotCounted:
    largest, _ = max(pairs, key=lambda pair: (_resident(pair[1]), pair[1].size))
    is_one = all(why.text == largest.text for why, _ in pairs)
    return WhyNotCounted(
        reason=largest.reason,
        message=largest.text if is_one else f"{largest.text}, and the like",
        regions=len(pairs),
        resident=sum(_resident(region) for _, region in pairs),
    )


def _resident(region: Region) -> int:
    return sum(region.pages.values())
