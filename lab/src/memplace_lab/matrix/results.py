# SPDX-License-Identifier: Apache-2.0
"""Compare what other projects' tests gave on two kernels: does one fail that passed before?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Exit statuses that say "skipped": ksft_exit_skip(), automake's test driver, LTP's TCONF
_SKIPPED = {"mm": 4, "numactl": 77, "ltp": 32}
_TIMED_OUT = {124, 137}  # timeout(1): ended by SIGTERM, by SIGKILL

_BEGIN = re.compile(r"^NEIGHBOUR BEGIN (?P<name>\S+)$")
_END = re.compile(r"^NEIGHBOUR END (?P<name>\S+) (?P<status>\d+) (?P<seconds>\d+)$")
# "ok 3 name", "ok 3 - name", "not ok 3 name # comment"
_TAP = re.compile(r"^(?P<verdict>ok|not ok) (?P<case>\d+)(?: -)?(?P<text>.*)$")
# LTP's summary, and the one of tools/testing/vma
_COUNTED = re.compile(r"^passed +(\d+)$|^\d+ tests run, (\d+) passed")
_COMPLAINT = re.compile(r"\b(?:BUG|WARNING): |Oops: |Kernel panic|possible recursive locking")
SILENCE = "kernel/did-not-complain"


@dataclass(frozen=True)
class Result:
    """One program.

    Attributes:
        verdict: "pass", "skip" or "fail", and why if that is known.
        passed: The cases that passed, of a program that tells them apart (TAP).
        counted: How many checks it says passed, of one that only counts them.
        total: How many cases it told apart.
        seconds: How long it took, by the machine's clock.
        complaints: What the kernel said meanwhile that it should not have to say.
    """

    verdict: str
    passed: frozenset[str] = frozenset()
    counted: int = 0
    total: int = 0
    seconds: int = 0
    complaints: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """The less, the worse: a program that skipped some of it can still begin to fail."""
        return {"pass": 2, "skip": 1}.get(self.verdict, 0)

    @property
    def good(self) -> bool:
        """Whether it passed."""
        return self.verdict == "pass"

    def __str__(self) -> str:
        """Return the cell of a table."""
        if self.total:
            return f"{self.verdict} ({len(self.passed)} of {self.total})"
        return f"{self.verdict} ({self.counted})" if self.counted else self.verdict


def verdict(name: str, status: int) -> str:
    """Tell what an exit status means, by the habits of the suite before the slash of the name."""
    if status == 0:
        return "pass"
    if status == _SKIPPED.get(name.partition("/")[0]):
        return "skip"
    return "fail: too long" if status in _TIMED_OUT else f"fail: {status}"


def result(name: str, status: int, output: list[str], seconds: int = 0) -> Result:
    """Judge what one program printed, without what the kernel printed meanwhile."""
    cases = {}
    for match in filter(None, map(_TAP.match, output)):
        text, _, comment = match["text"].partition(" # ")
        skipped = comment.upper().startswith("SKIP")
        cases[f"{match['case']} {text.strip()}"] = match["verdict"] == "ok" and not skipped
    counts = [int(one or other) for line in output for one, other in _COUNTED.findall(line)]
    return Result(
        verdict(name, status),
        frozenset(case for case, good in cases.items() if good),
        sum(counts),
        len(cases),
        seconds,
    )


def results(console: str) -> dict[str, Result]:
    """Name -> result of all programs, and of the kernel's silence as one more."""
    found: dict[str, Result] = {}
    output: list[str] = []
    complaints: list[str] = []
    current = "no test"
    for line in console.splitlines():
        if match := _BEGIN.match(line):
            current, output = match["name"], []
        elif match := _END.match(line):
            seconds = int(match["seconds"])
            found[match["name"]] = result(match["name"], int(match["status"]), output, seconds)
            current = "no test"
        elif line.startswith("| "):
            output.append(line[2:])
        elif _COMPLAINT.search(line):
            complaints.append(f"{current}: {line}")
    judged = f"fail: {len(complaints)} lines" if complaints else "pass"
    found[SILENCE] = Result(judged, complaints=tuple(complaints))
    return found


def regressions(before: Mapping[str, Result], after: Mapping[str, Result]) -> list[str]:
    """Return what came to less after than before, a line each, and if nothing passed before.

    To skip is less than to pass, to fail or not to run is less than to skip.
    """
    if not any(one.good for name, one in before.items() if name != SILENCE):
        return ["no test passed without the series: there is nothing to compare with"]
    absent = Result("did not run")
    lines = []
    for name, old in before.items():
        new = after.get(name, absent)
        if new.rank < old.rank:
            lines.append(f"{name}: {old} before, {new} after")
        lines += [f"{name}: {case}" for case in sorted(old.passed - new.passed) if new != absent]
        if old.good:
            lines += new.complaints
    return lines


def table(before: Mapping[str, Result], after: Mapping[str, Result]) -> str:
    """Write one line a test, in Markdown."""
    lines = ["| test | before | after |", "|---|---|---|"]
    for name in dict.fromkeys((*before, *after)):
        cells = (str(side[name]) if name in side else "did not run" for side in (before, after))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
