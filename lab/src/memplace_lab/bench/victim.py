# SPDX-License-Identifier: Apache-2.0
"""The report of bench/kernel on the process whose memory is moved: delays, compared with goals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from memplace_lab.bench.calls import verdict

SIZES = {
    "64M": "64 MiB in pages of 4 KiB",
    "1G": "1 GiB in pages of 4 KiB",
    "thp-256M": "256 MiB in huge pages of 2 MiB",
}
MOVERS = {
    "process_mbind": "process_mbind(), one range",
    "move_pages-2M": "move_pages(), 2 MiB a call",
    "move_pages": "move_pages(), one call",
    "migrate_pages": "migrate_pages()",
    "control": "nothing moves (control)",
}
KINDS = {"fault": "page fault", "mmap": "mmap, touch, munmap", "read": "read"}
OURS, PEER, CONTROL = "process_mbind", "move_pages-2M", "control"
MOST_ISOLATED_MIB = 4
LARGER = 1.5
# Counted processors take turns of up to 50 microseconds: less is no difference.
RESOLUTION_MS = 0.05
SAME = 1.1
_LINE = re.compile(r"^VICTIM (\S+) (\S+) (\S+) (\d+ \d+ \d+ \d+ \d+ -?\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """What a victim saw in one measurement.

    Attributes:
        size: What was moved, of SIZES.
        mover: By which call, of MOVERS.
        kind: What the victim did meanwhile, of KINDS.
        call_ms: How long the call took.
        count: How many times the victim did it.
        worst_ms: The longest it took.
        p99_ms: And all but one of 100.
        isolated_mib: The most memory seen off the LRU lists.
    """

    size: str
    mover: str
    kind: str
    call_ms: float
    count: int
    worst_ms: float
    p99_ms: float
    isolated_mib: float


Samples = Sequence[Sample]


def samples(console: str) -> list[Sample]:
    """Return the measurements on the console."""
    found = []
    for size, mover, kind, numbers in _LINE.findall(console):
        _round, call, count, worst, p99, isolated = (int(number) for number in numbers.split())
        times = (call / 1e6, count, worst / 1e6, p99 / 1e6)
        found.append(Sample(size, mover, kind, *times, isolated / 256))
    return found


def missing(found: Samples, rounds: int) -> list[str]:
    """Return measurements that are not there: a table with holes is not to be believed."""
    have = [(sample.size, sample.mover, sample.kind) for sample in found]
    wanted = [(size, mover, kind) for size in SIZES for mover in MOVERS for kind in KINDS]
    return [" ".join(one) for one in wanted if have.count(one) != rounds]


def _of(found: Iterable[Sample], size: str, mover: str, kind: str | None = None) -> list[Sample]:
    return [
        sample
        for sample in found
        if (sample.size, sample.mover) == (size, mover) and kind in (None, sample.kind)
    ]


def _worst(found: Samples, size: str, mover: str, kind: str) -> float:
    """Return the median of the rounds' worst."""
    return median(sample.worst_ms for sample in _of(found, size, mover, kind))


def table(found: Samples, size: str) -> str:
    """Return what the victim saw while this much was moved, as a Markdown table."""
    head = [f"{SIZES[size]}, moved by", "a call takes", "isolated, MiB"]
    for kind in KINDS.values():
        head += [f"{kind}: worst", "p99"]
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    lines += [f"| {' | '.join(_cells(found, size, mover))} |" for mover in MOVERS]
    return "\n".join(lines)


def _cells(found: Samples, size: str, mover: str) -> Iterator[str]:
    here = _of(found, size, mover)
    yield MOVERS[mover]
    yield f"{median(sample.call_ms for sample in here):,.0f}"
    yield f"{max(sample.isolated_mib for sample in here):,.1f}"
    for kind in KINDS:
        those = _of(here, size, mover, kind)
        worst = _worst(those, size, mover, kind)
        yield f"{worst:.2f} ({max(sample.worst_ms for sample in those):.2f})"
        yield f"{median(sample.p99_ms for sample in those):.2f}"


def goals(found: Samples) -> str:
    """Return the goals, and whether they are met, as a Markdown table."""
    lines = ["| goal of process_mbind() | seen | at most | |", "|---|---:|---:|---|"]
    for what, seen, most in _goals(found):
        lines.append(f"| {what} | {seen:.2f} | {most:.2f} | {verdict(met=seen <= most)} |")
    return "\n".join(lines)


def _goals(found: Samples) -> Iterator[tuple[str, float, float]]:
    isolated = max(sample.isolated_mib for size in SIZES for sample in _of(found, size, OURS))
    yield "isolated at a time, MiB", isolated, MOST_ISOLATED_MIB
    for size, what in SIZES.items():
        for kind, title in KINDS.items():
            ours, peer, control = (
                _worst(found, size, mover, kind) for mover in (OURS, PEER, CONTROL)
            )
            yield f"{what}: worst {title}, ms", ours, max(SAME * peer, control) + RESOLUTION_MS
    small, large = (_worst(found, size, OURS, "mmap") for size in ("64M", "1G"))
    most = LARGER * small + _worst(found, "1G", CONTROL, "mmap")
    yield "1 GiB beside 64 MiB: worst mmap, touch, munmap, ms", large, most


LEGEND = """\
Every 0.2 ms, on another processor than the mover, the victim does one thing:
- page fault: the first write to a page of the range;
- mmap, touch, munmap: of one page, anywhere;
- read: of 16 places of what is moved, the slowest counts.

worst: the longest it took in a round, the median of {rounds} rounds (in brackets: in all rounds).
p99: all but one of 100 took less; while it is held up, what it would have begun counts, too.
isolated: the most memory seen off the LRU lists at a time; nobody can reclaim it meanwhile.
All times are in ms ({unit}). Less is better everywhere.
"""
GOALS = f"""\
At most, for a delay: {SAME} x that of move_pages() with 2 MiB a call in this run, or that of the
control if it is longer, + {RESOLUTION_MS} ms. What is less is no difference: the same call shows as
much from round to round. Beside 64 MiB: {LARGER} x its delay + that of the control of 1 GiB.
"""
