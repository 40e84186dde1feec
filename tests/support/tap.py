# SPDX-License-Identifier: Apache-2.0
"""Read what programs of a machine said over its channel: TAP 14, a subtest for each program.

Nothing is overlooked: a line that is cut, a number that is missing, a plan that is not kept, a
program that ended badly or never began is a problem, and a case that was announced and has no
result is in no list of results.

Source: https://testanything.org/tap-version-14-specification.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

# "ok 1 - name" or, from the kernel's harness, "ok 1 fixture.name # SKIP why"
_POINT = re.compile(
    r"(?P<verdict>ok|not ok) (?P<number>\d+)(?: -)? (?P<name>\S+)(?: # (?P<why>.*))?"
)
_PLAN = re.compile(r"1\.\.(?P<count>\d+)")
_SUBTEST = re.compile(r"# Subtest: (?P<name>\S+)")
_INDENT = "    "


@dataclass(frozen=True)
class Case:
    """One test point.

    Attributes:
        name: Its name; that of a program is the program's.
        good: Whether it passed, or was skipped.
        skipped: Why it was skipped; "" if it was not.
        why: What is behind its name otherwise.
        notes: What was said between the case before and this one.
    """

    name: str
    good: bool
    skipped: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the case and all that it said."""
        verdict = "ok" if self.good else "not ok"
        return "\n".join((*self.notes, f"{verdict} - {self.name} {self.why}".rstrip()))


@dataclass
class Told:
    """What a program said, or the machine about its programs.

    Attributes:
        cases: Its cases, by name, in order.
        notes: What it said that belongs to no case.
        problems: In what it is no whole TAP.
        planned: How many cases it announced; None before it did.
    """

    cases: dict[str, Case] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    planned: int | None = None

    def take(self, line: str) -> None:
        """Take one line of it."""
        if match := _POINT.fullmatch(line):
            self._take_case(match)
        elif match := _PLAN.fullmatch(line):
            if self.planned is not None:
                self.problems.append(f"a second plan: {line}")
            self.planned = int(match["count"])
        elif line and not line.startswith("TAP version "):
            self.notes.append(line)

    def _take_case(self, match: re.Match[str]) -> None:
        name, why = match["name"], match["why"] or ""
        skip = re.fullmatch(r"SKIP\b *(.*)", why)
        if int(match["number"]) != len(self.cases) + 1:
            self.problems.append(f"{len(self.cases) + 1} cases before this one: {match[0]}")
        if name in self.cases:
            self.problems.append(f"twice: {name}")
        skipped = (skip[1] or "no reason given") if skip else ""
        good, notes = match["verdict"] == "ok", tuple(self.notes)
        self.cases[name] = Case(name, good, skipped, "" if skip else why, notes)
        self.notes = []

    def end(self) -> None:
        """Take it that nothing comes any more."""
        if self.planned is None:
            self.problems.append("no plan")
        elif self.planned != len(self.cases):
            last = next(reversed(self.cases), "none")
            self.problems.append(
                f"{self.planned} cases were announced, {len(self.cases)} came (the last: {last})"
            )


@dataclass
class Report:
    """What all programs of a machine said.

    Attributes:
        top: The programs as cases: how each of them ended.
        programs: What each of them said, by its name, in order.
    """

    top: Told = field(default_factory=Told)
    programs: dict[str, Told] = field(default_factory=dict)

    @property
    def cases(self) -> dict[str, Case]:
        """The cases of all programs, by name."""
        return {name: case for told in self.programs.values() for name, case in told.cases.items()}

    def problems(self, expected: Sequence[str]) -> list[str]:
        """Tell why this is not the whole story, if it isn't.

        Args:
            expected: The programs that had to run.
        """
        found = [*self.top.problems]
        for name, told in self.programs.items():
            found += [f"{name}: {problem}" for problem in told.problems]
            ending = self.top.cases.get(name)
            if ending is None:
                found.append(f"{name}: it did not end; its last words: {told.notes[-3:]}")
            elif not ending.good and ending.why:
                found.append(f"{name}: {ending.why}")
        found += [f"{name}: it did not begin" for name in expected if name not in self.programs]
        return found


def read(text: str) -> Report:
    """Read what came over a channel, as far as it came."""
    report = Report()
    current: Told | None = None
    for line in _lines(text, report.top.problems):
        if line.startswith(_INDENT):
            if current is None:
                report.top.problems.append(f"of no program: {line.strip()}")
            else:
                current.take(line.removeprefix(_INDENT))
        elif match := _SUBTEST.fullmatch(line):
            current = report.programs[match["name"]] = Told()
        else:
            current = None
            report.top.take(line)
    for told in (report.top, *report.programs.values()):
        told.end()
    return report


def _lines(text: str, problems: list[str]) -> Iterator[str]:
    """Yield whole lines; what is behind the last one was cut, and is not to be believed."""
    *whole, rest = text.split("\n")
    yield from whole
    if rest:
        problems.append(f"it ends in the middle of a line: {rest!r}")
