# SPDX-License-Identifier: Apache-2.0
"""Read the TAP lines of a test program out of a console."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"^(?P<verdict>ok|not ok) \d+ - (?P<name>\w+)$")
_SPLAT = re.compile(r"BUG:|WARNING: |Oops:|Kernel panic|possible recursive locking|Call Trace:")


@dataclass(frozen=True)
class Result:
    """One case: its verdict, and the comment lines it printed before it."""

    good: bool
    notes: tuple[str, ...]


def results(console: str) -> dict[str, Result]:
    """Case name -> result, in the order of the console."""
    found: dict[str, Result] = {}
    notes: list[str] = []
    for line in console.splitlines():
        if match := _LINE.match(line):
            found[match["name"]] = Result(match["verdict"] == "ok", tuple(notes))
            notes = []
        elif line.startswith("# "):
            notes.append(line)
    return found


def splats(console: str) -> list[str]:
    """Lines by which the kernel complains about itself."""
    return [line for line in console.splitlines() if _SPLAT.search(line)]
