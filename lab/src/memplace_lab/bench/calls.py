# SPDX-License-Identifier: Apache-2.0
"""The report of bench/kernel on the cost of calls: ratios of medians, compared with goals."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

_TIME = re.compile(r"^TIME (\S+) \d+ (\d+)$", re.MULTILINE)
_PAGES = (1 << 30) // 4096


@dataclass(frozen=True)
class Ratio:
    """One line of the table: what is compared, and what it should come to.

    Attributes:
        what: For people.
        over: The measurement above the line.
        under: The one below.
        goal: The least or the most it should be; None where there is no goal.
        at_least: Whether `goal` is the least.
    """

    what: str
    over: str
    under: str
    goal: float | None = None
    at_least: bool = False


def _cost(flag: str, count: int, goal: float | None) -> Ratio:
    what = {"policy": "policy only", "move": "with MOVE"}[flag]
    ranges = "1 range" if count == 1 else f"{count:,} ranges"
    return Ratio(
        f"{ranges} of 32 KiB, {what}: cost of one call / of {count:,} mbind() by the process",
        f"{flag}.{count}.process_mbind",
        f"{flag}.{count}.mbind",
        goal,
    )


def _throughput(what: str, shape: str, peer: str, goal: float | None = None) -> Ratio:
    return Ratio(what, f"{shape}.{peer}", f"{shape}.process_mbind", goal, at_least=True)


COMPARISON = (
    *(_cost("policy", count, {1024: 0.85}.get(count)) for count in (1, 16, 256, 1024)),
    *(_cost("move", count, {1: 0.8}.get(count)) for count in (1, 16, 256, 1024)),
    _throughput(
        "1,024 ranges of 32 KiB: throughput, setting a policy, too / that of move_pages()",
        *("scattered-1024x32K", "move_pages", 0.8),
    ),
    _throughput(
        "one range of 64 MiB: throughput / that of move_pages()",
        *("contiguous-64M", "move_pages", 1.05),
    ),
    _throughput(
        "one range of 1 GiB: throughput / that of move_pages()",
        *("contiguous-1G", "move_pages", 1.05),
    ),
    _throughput(
        "one range of 64 MiB: throughput / that of migrate_pages()",
        *("contiguous-64M", "migrate_pages"),
    ),
    _throughput(
        "128 MiB of huge pages: throughput / that of move_pages(), an entry for each 2 MiB",
        *("thp-128M", "move_pages"),
    ),
)
_NEIGHBOURS = {
    "fault.4096": "4,096 page faults",
    "mbind.512": "512 mbind(2)",
    "mmap.512": "512 mmap() and munmap()",
    "munmap.4096": "munmap() of 512 policies and 4,096 pages",
}
MOST_MORE_A_PAGE = 1.005


def medians(console: str) -> dict[str, float]:
    """Return the median of each measurement on the console."""
    found: dict[str, list[int]] = {}
    for name, value in _TIME.findall(console):
        found.setdefault(name, []).append(int(value))
    return {name: median(values) for name, values in found.items()}


def verdict(*, met: bool) -> str:
    """Return the word for it."""
    return "met" if met else "missed"


def table(measured: Mapping[str, float], ratios: Sequence[Ratio] = COMPARISON) -> str:
    """Return the comparison as a Markdown table."""
    lines = ["| what | ratio | goal | |", "|---|---:|---:|---|"]
    for line in ratios:
        ratio = measured[line.over] / measured[line.under]
        goal, outcome = "none", ""
        if line.goal is not None:
            goal = f"{'≥' if line.at_least else '≤'} {line.goal}"
            outcome = verdict(met=(ratio >= line.goal) if line.at_least else (ratio <= line.goal))
        lines.append(f"| {line.what} | {ratio:.2f} | {goal} | {outcome} |")
    return "\n".join(lines)


def cost_table(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Compare two kernels by what all have, and by a move where both have the call."""
    lines = [
        "| instructions of | before | after | ratio | goal | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, what in _NEIGHBOURS.items():
        numbers = f"{before[name]:,.0f} | {after[name]:,.0f} | {after[name] / before[name]:.3f}"
        lines.append(f"| {what} | {numbers} | none | |")
    if "move.1G" in before and "move.1G" in after:
        old, new = before["move.1G"] / _PAGES, after["move.1G"] / _PAGES
        outcome = verdict(met=new / old <= MOST_MORE_A_PAGE)
        lines.append(
            f"| a page that process_mbind() moves, one range of 1 GiB | {old:,.0f} | {new:,.0f} "
            f"| {new / old:.3f} | ≤ {MOST_MORE_A_PAGE} | {outcome} |"
        )
    return "\n".join(lines)
