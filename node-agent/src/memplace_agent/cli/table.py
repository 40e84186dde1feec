# SPDX-License-Identifier: Apache-2.0
"""What is explained, as lines for a terminal. Pure.

Names come from programs, and a name must not move the cursor: what is not printable is shown
as an escape.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from memplace.api.v1alpha1 import OTHER_TIER, NumaBytes
from memplace.explain_rules import human_bytes
from memplace.explained import (
    ContainerExplained,
    ContainerListed,
    ProcessExplained,
    RegionExplained,
    RuleExplained,
)

from memplace_agent.cli.columns import Column, printable, table
from memplace_agent.cli.screen import Screen

_BAR = 24
# Reasons of a rule that are told.
_MOST_REASONS = 6

# Whose a policy is that is not the process's: a mark, and what it means.
_OWNERS = {
    "Program": ("*", "the program has set this policy itself"),
    "Memplace": ("+", "memplace has set this policy"),
}

_POLICIES = {
    "ProcmapQuery": "policies from PROCMAP_QUERY",
    "NumaMaps": "policies from numa_maps (its page tables were walked, once)",
    "Remembered": "policies as the agent knows them",
    "Unknown": "policies not known",
}


def process_lines(process: ProcessExplained, screen: Screen, *, wide: bool) -> Iterator[str]:
    """Show a process."""
    yield from _head(process, screen)
    yield ""
    yield from _regions(process, screen, wide=wide)
    if process.placement:
        yield ""
        yield from _rules(process, screen)
    for note in process.notes:
        yield ""
        yield from _wrapped("note: ", printable(note), screen)


def listed_lines(containers: Sequence[ContainerListed], screen: Screen) -> Iterator[str]:
    """Show which containers there are."""
    if not containers:
        yield "No container on this node follows a placement."
        return
    columns = (
        Column("POD", shrinks=True),
        Column("CONTAINER"),
        Column("PLACEMENT"),
        Column("STATE"),
        Column("REASON"),
    )
    rows = [
        (f"{c.namespace}/{c.pod}", c.container, c.placement, c.state, c.reason) for c in containers
    ]
    yield from table(columns, rows, screen)


def container_lines(
    container: ContainerExplained, age_s: float, screen: Screen, *, wide: bool
) -> Iterator[str]:
    """Show a container, process by process."""
    about = container.about
    yield printable(
        f"{about.namespace}/{about.pod}/{about.container}  placement {about.placement}: "
        f"{about.state}{f' ({about.reason})' if about.reason not in ('', about.state) else ''}"
    )
    if about.message:
        yield from _wrapped("  ", printable(about.message), screen)
    yield f"  as of {age_s:.0f} s ago"
    for process in container.processes:
        yield ""
        yield from process_lines(process, screen, wide=wide)
    if container.left_out:
        yield ""
        yield f"... and {container.left_out:,} processes with less memory"
    for problem in container.problems:
        yield ""
        yield from _wrapped("note: ", printable(problem), screen)


# --- the head ---


def _head(process: ProcessExplained, screen: Screen) -> Iterator[str]:
    exe = f"  {printable(process.exe)}" if process.exe else ""
    yield f"{printable(process.comm)}  pid {process.pid}{exe}"
    total = sum(node.bytes for node in process.resident)
    mark = _mark(process)
    if process.reading.bytes == "Unknown":
        size = "bytes not known"
    else:
        size = f"{mark}{human_bytes(total)} in memory"
    yield f"  {size}, {process.mappings:,} mappings; {_POLICIES[process.reading.policies]}"
    if process.reading.bytes == "Sampled":
        yield (
            f"  bytes are from a sample of pages: shares are within {process.reading.error:.1%} "
            "of the truth (95 %)"
        )
    if process.policy != "Default":
        yield f"  the process's own policy: {process.policy}"
    yield f"  its cpuset allows NUMA nodes {process.allowed or '(unknown)'}"
    yield from _tiers(process, total, screen)


def _mark(process: ProcessExplained) -> str:
    return "~" if process.reading.bytes == "Sampled" else ""


def _tiers(process: ProcessExplained, total: int, screen: Screen) -> Iterator[str]:
    there = {tier.name: tier.bytes for tier in process.by_tier}
    nodes = {tier.name: tier.numa_nodes for tier in process.tiers}
    names = _tier_names(process)
    width = max((len(name) for name in names), default=0)
    for name in names:
        size = there.get(name, 0)
        share = size / total if total else 0.0
        here = nodes.get(name) or [n.id for n in _elsewhere(process)]
        numbers = ",".join(map(str, here))
        yield (
            f"  {name:<{width}}  {_mark(process) + human_bytes(size):>10}  "
            f"{_bar(share, screen)} {share:>4.0%}  NUMA node{'s' if len(here) > 1 else ''} "
            f"{numbers}"
        )


def _elsewhere(process: ProcessExplained) -> list[NumaBytes]:
    known = {node for tier in process.tiers for node in tier.numa_nodes}
    return [node for node in process.resident if node.id not in known]


def _bar(share: float, screen: Screen) -> str:
    full = round(share * _BAR)
    # Something is not nothing, and not all is not all.
    if 0 < share < 1:
        full = min(max(full, 1), _BAR - 1)
    whole, empty = ("█", "░") if screen.blocks else ("#", ".")
    return whole * full + empty * (_BAR - full)


# --- the regions ---


def _regions(process: ProcessExplained, screen: Screen, *, wide: bool) -> Iterator[str]:
    shown = [_Shown((each,)) for each in process.regions] if wide else _alike(process.regions)
    shown.sort(key=lambda each: (-each.resident, -each.size))
    columns = [
        Column("TYPE"),
        Column("NAME", shrinks=True),
        Column("MAPS", right=True),
        Column("SIZE", right=True),
        Column("RESIDENT", right=True),
        *(Column(name.upper(), right=True) for name in _tier_names(process)),
        Column("POLICY"),
    ]
    if process.placement:
        columns += [Column("RULE"), Column("PLAN")]
    if wide:
        columns += [Column("PERM"), Column("ADDRESSES")]
        columns += [Column("WHY NOT")] if process.placement else []
    rows = [_row(each, process, wide=wide) for each in shown]
    yield from table(columns, rows, None if wide else screen)
    cut = process.cut
    if cut.regions:
        yield (
            f"... and {cut.regions:,} smaller regions with {human_bytes(cut.resident)} in memory "
            "(--limit 0 shows all)"
        )
    for owner, (mark, sentence) in _OWNERS.items():
        if any(region.policy_of == owner for region in process.regions):
            yield f"{mark} {sentence}"


@dataclass(frozen=True, slots=True)
class _Shown:
    # Regions in one line.
    regions: tuple[RegionExplained, ...]

    @property
    def size(self) -> int:
        return sum(region.size for region in self.regions)

    @property
    def resident(self) -> int:
        return sum(region.resident for region in self.regions)

    @property
    def nodes(self) -> list[NumaBytes]:
        return [node for region in self.regions for node in region.numa_nodes]


def _alike(regions: Iterable[RegionExplained]) -> list[_Shown]:
    # Parts of one file are one thing to a reader, and so are the stacks of threads.
    groups: dict[object, list[RegionExplained]] = {}
    for number, region in enumerate(regions):
        is_joined = region.name or region.type in ("Stack", "Kernel")
        key = (
            number
            if not is_joined
            else (
                region.type,
                region.name,
                region.policy,
                region.policy_of,
                region.rule,
                region.plan,
            )
        )
        groups.setdefault(key, []).append(region)
    return [_Shown(tuple(group)) for group in groups.values()]


def _row(shown: _Shown, process: ProcessExplained, *, wide: bool) -> list[str]:
    known = process.reading.bytes != "Unknown"
    region = shown.regions[0]
    row = [
        region.type,
        printable(region.name) or ("[heap]" if region.type == "Brk" else "-"),
        f"{sum(each.mappings for each in shown.regions):,}",
        _short(shown.size),
        (_mark(process) + _short(shown.resident)) if known else "?",
        *_shares(shown.nodes, process),
        _policy(region),
    ]
    if process.placement:
        row += [region.rule or "-", _planned(region.plan, wide=wide)]
    if wide:
        row += [region.permissions, f"{region.start}-{region.end}"]
        why = "; ".join(f"{each.rule}: {each.message}" for each in region.why_not)
        row += [printable(why)] if process.placement else []
    return row


def _planned(plan: str, *, wide: bool) -> str:
    # The rules below the table say which policy, and where to.
    return (
        plan if wide else ", ".join(part.split()[0] for part in plan.split(", ") if part)
    ) or "-"


def _shares(nodes: Iterable[NumaBytes], process: ProcessExplained) -> list[str]:
    # Of each tier, in the order of the columns.
    names = {node: tier.name for tier in process.tiers for node in tier.numa_nodes}
    sizes: dict[str, int] = {}
    for node in nodes:
        name = names.get(node.id, OTHER_TIER)
        sizes[name] = sizes.get(name, 0) + node.bytes
    total = sum(sizes.values())
    return [
        f"{sizes[name] / total:.0%}" if sizes.get(name) else "-" for name in _tier_names(process)
    ]


def _tier_names(process: ProcessExplained) -> list[str]:
    # In the order of their NUMA nodes: dram comes first nearly everywhere.
    known = sorted((min(tier.numa_nodes), tier.name) for tier in process.tiers)
    there = [tier.name for tier in process.by_tier]
    return [name for _, name in known] + [name for name in there if name == OTHER_TIER]


def _policy(region: RegionExplained) -> str:
    if not region.policy:
        return "?"
    return region.policy + _OWNERS.get(region.policy_of, ("",))[0]


def _short(size: int) -> str:
    # As Kubernetes writes it.
    return human_bytes(size).replace(" ", "").removesuffix("B")


# --- the rules ---


def _rules(process: ProcessExplained, screen: Screen) -> Iterator[str]:
    yield f"placement {process.placement}"
    for rule in process.rules:
        yield ""
        yield from _rule(rule, screen)


def _rule(rule: RuleExplained, screen: Screen) -> Iterator[str]:
    yield (
        f"rule {rule.name}: {rule.wants}; has {rule.mappings:,} "
        f"mapping{'' if rule.mappings == 1 else 's'}, {human_bytes(rule.resident)} in memory"
    )
    label = "  plan     "
    for sentence in rule.plan:
        yield from _wrapped(label, printable(sentence), screen)
        label = " " * len(label)
    label = "  not its  "
    for why in rule.why_not[:_MOST_REASONS]:
        what = f"{why.regions:,} mapping{'' if why.regions == 1 else 's'}"
        size = f", {human_bytes(why.resident)}" if why.resident else ""
        yield from _wrapped(label, printable(f"{what}{size}: {why.message}"), screen)
        label = " " * len(label)
    if len(rule.why_not) > _MOST_REASONS:
        yield f"{label}... and {len(rule.why_not) - _MOST_REASONS} other reasons (-o json)"


def _wrapped(label: str, text: str, screen: Screen) -> list[str]:
    return textwrap.wrap(
        text,
        screen.width,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_on_hyphens=False,
    )


# --- before and after ---


def applied_lines(
    what: str,
    before: ProcessExplained,
    after: ProcessExplained,
    screen: Screen,
    *,
    moved: int,
    problems: Sequence[str],
    wide: bool,
) -> Iterator[str]:
    """Show what was done to a process: `what`, with the bytes in place of ``{moved}``."""
    yield from process_lines(after, screen, wide=wide)
    yield ""
    yield f"done: {what.replace('{moved}', human_bytes(moved))}"
    sizes = [{tier.name: tier.bytes for tier in each.by_tier} for each in (before, after)]
    names = list(dict.fromkeys((*_tier_names(after), *_tier_names(before))))
    rows = [
        (f"  {name}", human_bytes(sizes[0].get(name, 0)), human_bytes(sizes[1].get(name, 0)))
        for name in names
    ]
    columns = (Column("  TIER"), Column("BEFORE", right=True), Column("AFTER", right=True))
    yield from table(columns, rows, screen)
    for problem in problems:
        yield from _wrapped("problem: ", printable(problem), screen)
