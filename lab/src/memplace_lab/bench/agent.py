# SPDX-License-Identifier: Apache-2.0
"""The report of bench/agent: medians, ratios and goals; and memtierd's configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

AGENT, MEMTIERD = "agent", "memtierd"
BEGIN, END = "<!-- bench/agent writes from here -->", "<!-- to here -->"

CORES = (
    "A core is one of the machine that ran this, {faster:.1f} times as fast as the emulated one "
    "at a piece of work that was timed on both."
)

Row = Mapping[str, Any]

_ROW = re.compile(r"^ROW (\{.*\})$", re.MULTILINE)
_FAILED = re.compile(r"^FAILED (\{.*\})$", re.MULTILINE)
_MS = 1e6
_ALL_OF_A_CORE = 95.0


def rows(console: str) -> list[Row]:
    """Return what was measured, in order."""
    return [json.loads(text) for text in _ROW.findall(console)]


def failures(console: str) -> list[str]:
    """Return what could not be measured, a text each."""
    found = [json.loads(text) for text in _FAILED.findall(console)]
    return [f"round {row['round']}, {row['subject']}: {row['why']}" for row in found]


def middle(of: Iterable[Row], subject: str, what: str, field: str) -> float | None:
    """Return the median over all rounds; None if there is none, or if half of them saw nothing."""
    found = [row[field] for row in of if (row["subject"], row["what"]) == (subject, what)]
    # -1 stands for what never happened: later than everything that did.
    values = [float("inf") if value == -1 else float(value) for value in found]
    value = median(values) if values else None
    return None if value == float("inf") else value


# Told the agent's value and the other's; None if that can't be said.
Goal = tuple[str, Callable[[float, float | None], bool | None]]


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        what: What was measured, with its unit.
        agent: The agent's value; None if there is none.
        peer: What it is compared with.
        goals: What has to hold, each with its text.
        form: How numbers are written.
    """

    what: str
    agent: float | None
    peer: float | None
    goals: Sequence[Goal] = ()
    form: str = "{:.1f}"

    def markdown(self) -> str:
        """Return the line with its ratio, its goals and whether they are met."""
        ratio = "-"
        if self.agent is not None and self.peer:
            ratio = f"{self.agent / self.peer:.3g}"
        goals = "; ".join(f"{text}: {self._outcome(holds)}" for text, holds in self.goals)
        cells = (self.what, self._written(self.agent), self._written(self.peer), ratio, goals)
        return f"| {' | '.join(cells)} |"

    def _written(self, value: float | None) -> str:
        return "-" if value is None else self.form.format(value)

    def _outcome(self, holds: Callable[[float, float | None], bool | None]) -> str:
        if self.agent is None:
            return "**missed**, nothing came"
        outcome = holds(self.agent, self.peer)
        return {True: "met", False: "**missed**", None: "not measured"}[outcome]


def at_most(limit: float, unit: str) -> Goal:
    """Return a goal for the agent's own value."""
    return f"≤ {limit:g} {unit}", lambda agent, _: agent <= limit


def share_of_peer(limit: float, text: str) -> Goal:
    """Return a goal for the agent's value by the other's."""
    return text, lambda agent, peer: None if peer is None else agent <= limit * peer


def over_control(limit: float, unit: str) -> Goal:
    """Return a goal for what the agent's value has more than that of nothing at all."""
    text = f"≤ {limit:g} {unit} more than without"
    return text, lambda agent, control: None if control is None else agent - control <= limit


def faster(of: Iterable[Row], real_s: float) -> float | None:
    """Return how many emulated seconds a real one is; None if it was not told."""
    inside = middle(of, "", "calibration", "seconds")
    return None if inside is None else inside / real_s


def saturated(of: Iterable[Row]) -> str:
    """Return what has to be said of those that had all of the emulated core; "" if nobody did."""
    names = {row["subject"] for row in of if row.get("percent", 0) >= _ALL_OF_A_CORE}
    if not names:
        return ""
    return (
        f"All of the emulated core was taken by {' and '.join(sorted(names))} at least once: on a "
        "faster one it takes more than the table says, and is less late."
    )


def _ms(value: float | None) -> float | None:
    return None if value is None else value / _MS


def herd_table(
    found: Sequence[Row], containers: int, mappings: int, many: int, faster: float
) -> str:
    """Compare what the agent takes beside many containers with what memtierd takes."""

    def value(name: str, row: str, field: str) -> float | None:
        raw = middle(found, name, row, field)
        return raw if raw is None or field != "percent" else raw / faster

    def line(what: str, row: str, field: str, *goals: Goal) -> Line:
        ours, theirs = (value(name, row, field) for name in (AGENT, MEMTIERD))
        return Line(what, ours, theirs, goals, "{:.2f}" if field == "percent" else "{:.1f}")

    beside = f"{containers} containers with {mappings} mappings each"
    in_force = _ms(middle(found, AGENT, "new mapping", "policy_ns"))
    lines = [
        line(
            f"CPU, {beside}, nothing changes: % of a core",
            *("idle", "percent"),
            at_most(1, "%"),
            share_of_peer(1 / 3, "≤ 1/3 of memtierd's"),
        ),
        line(
            "CPU, half of them change their maps every 2 s: % of a core",
            *("changes", "percent"),
            at_most(5, "%"),
        ),
        line("resident memory, nothing changes: MiB", "idle", "VmRSS", at_most(64, "MiB")),
        line("resident memory, half change: MiB", "changes", "VmRSS", at_most(64, "MiB")),
        line(
            f"resident memory, and one process with {many:,} mappings: MiB",
            *("many", "VmRSS"),
            at_most(96, "MiB"),
        ),
        Line(
            "new mapping: ms until its policy is in force / until memtierd has moved its page",
            in_force,
            _ms(middle(found, MEMTIERD, "new mapping", "moved_ns")),
            (share_of_peer(1 / 50, "≥ 50 times sooner"),),
            "{:,.3f}",  # microseconds, or half a minute
        ),
        Line(
            "the same / until memtierd has looked at its page: ms",
            in_force,
            _ms(middle(found, MEMTIERD, "new mapping", "seen_ns")),
            (share_of_peer(1 / 50, "≥ 50 times sooner"),),
            "{:,.3f}",  # microseconds, or half a minute
        ),
        line(
            "CPU meanwhile: % of a core",
            *("new mappings", "percent"),
            share_of_peer(1, "no more than memtierd's"),
        ),
    ]
    return _table(("", AGENT, MEMTIERD, "ratio", "goals"), lines)


def crowd_table(found: Sequence[Row], processes: int, faster: float) -> str:
    """Say what the agent takes beside very many processes, and the peer."""

    def line(what: str, field: str, *goals: Goal) -> Line:
        ours, theirs = (middle(found, name, "crowd", field) for name in (AGENT, MEMTIERD))
        if field == "percent":
            ours, theirs = (each and each / faster for each in (ours, theirs))
        return Line(what, ours, theirs, goals, "{:.2f}" if field == "percent" else "{:.1f}")

    beside = f"{processes:,} processes with 40 mappings each, in containers of 100"
    lines = [
        line(f"resident memory, {beside}: MiB", "VmRSS", at_most(96, "MiB")),
        line("the most it was: MiB", "VmHWM"),
        line("CPU, nothing changes: % of a core", "percent"),
    ]
    return _table(("", AGENT, MEMTIERD, "ratio", "goals"), lines)


_SEEN = {
    "mmap(), touched, munmap(): worst": "map_worst",
    "the same: 99th percentile": "map_p99",
    "page fault: worst": "fault_worst",
    "page fault: 99th percentile": "fault_p99",
}


def victim_table(found: Sequence[Row], subject: str, what: str) -> str:
    """Compare what a process sees of a subject with what it sees of nothing, in milliseconds."""
    lines = [
        Line(
            text,
            _ms(middle(found, subject, what, field)),
            _ms(middle(found, subject, f"control, {what}", field)),
            _victim_goals(subject, what, field),
            "{:.3f}",
        )
        for text, field in _SEEN.items()
    ]
    rate = middle(found, subject, "rate", "mib_per_s") if what == "moved" else None
    head = f"{what}: ms" if rate is None else f"{what} at {rate:.0f} MiB/s: ms"
    return _table((head, subject, "nothing", "ratio", "goals"), lines)


def _victim_goals(subject: str, what: str, field: str) -> Sequence[Goal]:
    is_goal = (subject, what, field) == (AGENT, "looked at", "map_worst")
    return (over_control(1, "ms"),) if is_goal else ()


def _table(head: Sequence[str], lines: Sequence[Line]) -> str:
    top = [f"| {' | '.join(head)} |", "|---|---:|---:|---:|---|"]
    return "\n".join([*top, *(line.markdown() for line in lines)])


def within(readme: str, text: str) -> str:
    """Put this between the two marks of a page.

    Raises:
        ValueError: It does not have them once each, in this order.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in after:
        raise ValueError(f"the page needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{text.strip()}\n{END}{after}"


def memtierd_config(sample: str, cgroup: str) -> str:
    """Put our cgroup and our nodes into a sample configuration, and change nothing else.

    Pages in use belong on node 0, idle ones on node 1.

    Raises:
        ValueError: It names no cgroup, or no nodes.
    """
    text, cgroups = re.subn(
        r"^( *cgroups:\n +- ).*$", rf"\g<1>{cgroup}", sample, flags=re.MULTILINE
    )
    text, idle = re.subn(r"^( *idlenumas: ).*$", r"\g<1>[1]", text, flags=re.MULTILINE)
    text, active = re.subn(r"^( *activenumas: ).*$", r"\g<1>[0]", text, flags=re.MULTILINE)
    if (cgroups, idle, active) != (1, 1, 1):
        raise ValueError("not the sample of the age policy: one cgroups, idlenumas, activenumas")
    return text
