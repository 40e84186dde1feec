# SPDX-License-Identifier: Apache-2.0
"""A mapping of a process on the machine of text files, and where its pages are."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from memplace.kinds import Policy

PAGE = 4096

ORIGINS = itertools.count()


@dataclass(frozen=True)
class Vma:
    """One mapping; ``pages`` are 4 KiB pages per NUMA node, in that order from its begin;
    ``stuck`` ones do not move. Parts of one mapping join again when they are alike."""

    start: int
    end: int
    path: str = ""
    perms: str = "rw-p"
    inode: int = 0
    policy: Policy | None = None
    pages: dict[int, int] = field(default_factory=dict, hash=False)
    stuck: bool = False
    flags: str = ""
    runs: tuple[tuple[int, int], ...] = ()  # node, or -1 for none, and how many pages
    origin: int = field(default_factory=lambda: next(ORIGINS), compare=False)

    def __post_init__(self):
        if not self.runs:
            runs = [*self.pages.items()]
            rest = (self.end - self.start) // PAGE - sum(self.pages.values())
            runs += [(-1, rest)] if rest > 0 else []
            object.__setattr__(self, "runs", tuple(runs))

    def part(self, start, end):
        first, last = (start - self.start) // PAGE, (end - self.start) // PAGE
        return self.with_runs(_cut(self.runs, first, last), start=start, end=end)

    def with_runs(self, runs, **changes):
        pages = {}
        for node, count in runs:
            if node >= 0:
                pages[node] = pages.get(node, 0) + count
        return replace(self, runs=tuple(runs) or ((-1, 0),), pages=pages, **changes)

    def node_at(self, address):
        index = (address - self.start) // PAGE
        for node, count in self.runs:
            if index < count:
                return node
            index -= count
        return -1


def _cut(runs, first, last):
    at, found = 0, []
    for node, count in runs:
        low, high = max(at, first), min(at + count, last)
        if low < high:
            found.append((node, high - low))
        at += count
    return found
