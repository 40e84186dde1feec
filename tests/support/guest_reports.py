# SPDX-License-Identifier: Apache-2.0
"""Read what the pytest of a guest told over its channel: JSON, one object a line.

``{"began": ID}`` for each test, pytest's own form of each report, and ``{"ended": STATUS}``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

_LAST = 6000


@dataclass
class Told:
    """What a guest told of its tests.

    Attributes:
        reports: Pytest's reports as JSON has them, by the test's id.
        collected: The same of files that could not be read.
        began: The ids of tests that began, in order.
        problems: Why this is not the whole story; empty if it is.
        console: What the kernel and pytest said there.
    """

    reports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    collected: list[dict[str, Any]] = field(default_factory=list)
    began: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    console: str = ""
    _explained: bool = False

    def why_not(self, nodeid: str) -> str:
        """Tell why there is no whole report of a test; first with the end of the console."""
        if nodeid in self.began:
            what = "the guest told nothing of how this test ended"
        else:
            what = f"this test did not begin; the last that did: {(self.began or ['none'])[-1]}"
        if self._explained:
            return "\n".join((what, *self.problems))
        self._explained = True
        unread = [str(report.get("longrepr")) for report in self.collected]
        console = f"the console ends with:\n{self.console[-_LAST:]}"
        return "\n".join((what, *self.problems, *unread, console))


def read(text: str) -> Told:
    """Read what came over a channel, as far as it came."""
    told = Told()
    *whole, rest = text.split("\n")
    ended = False
    for line in whole:
        try:
            facts = json.loads(line)
        except ValueError:
            told.problems.append(f"no JSON: {line!r}")
            continue
        if "began" in facts:
            told.began.append(facts["began"])
        elif "ended" in facts:
            ended = True
        elif facts["$report_type"] == "TestReport":
            told.reports.setdefault(facts["nodeid"], []).append(facts)
        else:
            told.collected.append(facts)
    if rest:
        told.problems.append(f"it ends in the middle of a line: {rest[:400]!r}")
    if not ended:
        told.problems.append("the guest did not come to its end")
    return told
