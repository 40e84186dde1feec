# SPDX-License-Identifier: Apache-2.0
"""Read the TAP lines of a test program out of a console."""

from __future__ import annotations

import re
from dataclasses import dataclass

# "ok 1 - name" or, from the kernel's harness, "ok 1 fixture.name # SKIP why"
_LINE = re.compile(
    r"^(?P<verdict>ok|not ok) \d+ (?:- )?(?P<name>[\w.]+)(?: # (?:SKIP (?P<skip>.*)|.*))?$"
)
_PLAN = re.compile(r"^1\.\.(\d+)$", re.MULTILINE)
_SPLAT = re.compile(r"BUG:|WARNING: |Oops:|Kernel panic|possible recursive locking|Call Trace:")


@dataclass(frozen=True)
class Result:
    """One case: its verdict, and the comment lines it printed before it."""

    good: bool
    notes: tuple[str, ...]
    skipped: str = ""


def results(console: str) -> dict[str, Result]:
    """Case name -> result, in the order of the console."""
    found: dict[str, Result] = {}
    notes: list[str] = []
    for line in console.splitlines():
        if match := _LINE.match(line):
            good = match["verdict"] == "ok"
            found[match["name"]] = Result(good, tuple(notes), match["skip"] or "")
            notes = []
        elif line.startswith("# "):
            notes.append(line)
    return found


def planned(console: str) -> int:
    """How many cases all programs together announced."""
    return sum(int(count) for count in _PLAN.findall(console))


def splats(console: str) -> list[str]:
    """Lines by which the kernel complains about itself."""
    return [line for line in console.splitlines() if _SPLAT.search(line)]
