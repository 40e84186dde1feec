# SPDX-License-Identifier: Apache-2.0
"""Mappings of the machine of text files, and what mbind() does to a list of them."""

from __future__ import annotations

import errno
import itertools
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace

from memplace.kinds import Mode, Policy
from memplace_agent.syscalls import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL

PAGE = 4096
DEFAULT = Policy(Mode.DEFAULT)

_ORIGINS = itertools.count()


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
    page_size: int = PAGE
    device: tuple[int, int] = (0, 0)
    offset: int = 0  # in its file, bytes
    runs: tuple[tuple[int, int], ...] = ()  # node, or -1 for none, and how many pages
    origin: int = field(default_factory=lambda: next(_ORIGINS), compare=False)

    def __post_init__(self):
        if not self.runs:
            runs = [*self.pages.items()]
            rest = (self.end - self.start) // PAGE - sum(self.pages.values())
            runs += [(-1, rest)] if rest > 0 else []
            object.__setattr__(self, "runs", tuple(runs))

    def part(self, start, end):
        first, last = (start - self.start) // PAGE, (end - self.start) // PAGE
        offset = self.offset + start - self.start if self.inode else 0
        return self.with_runs(_cut(self.runs, first, last), start=start, end=end, offset=offset)

    def with_runs(self, runs, **changes):
        pages = {}
        for node, count in runs:
            if node >= 0:
                pages[node] = pages.get(node, 0) + count
        return replace(self, runs=tuple(runs) or ((-1, 0),), pages=pages, **changes)

    def present(self, start, end):
        part, at = self.part(start, end), start
        for node, count in part.runs:
            if node >= 0:
                yield at, at + count * PAGE
            at += count * PAGE

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


def span(vmas, start, end):
    """Return the first index of those that overlap a range, and the first one after them."""
    first = bisect_right(vmas, start, key=lambda v: v.end)
    return first, max(first, bisect_left(vmas, end, key=lambda v: v.start))


def node_at(vmas, address):
    index = bisect_right(vmas, address, key=lambda v: v.start) - 1
    vma = vmas[index] if index >= 0 and address < vmas[index].end else None
    node = -1 if vma is None else vma.node_at(address)
    return node if node >= 0 else -(errno.EFAULT if vma is None else errno.ENOENT)


def bind(vma, start, end, policy, flags):
    low, high = max(vma.start, start), min(vma.end, end)
    if low >= high:
        return [vma]
    middle = replace(vma.part(low, high), policy=None if policy == DEFAULT else policy)
    if flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) and not vma.stuck:
        target = min(policy.nodes)
        runs = [(target if node >= 0 else node, count) for node, count in middle.runs]
        middle = middle.with_runs(runs)
    parts = [vma.part(vma.start, low), middle, vma.part(high, vma.end)]
    return [part for part in parts if part.start < part.end]


def moved(vma, wanted):
    """Return the mapping after move_pages(): ``wanted`` are nodes by address."""
    if vma.stuck or not any(vma.start <= address < vma.end for address in wanted):
        return vma
    runs, at = [], vma.start
    for node, count in vma.runs:
        if node < 0:
            runs.append((node, count))
        for address in range(at, at + count * PAGE, PAGE) if node >= 0 else ():
            now = wanted.get(address, node)
            if runs and runs[-1][0] == now:
                runs[-1] = (now, runs[-1][1] + 1)
            else:
                runs.append((now, 1))
        at += count * PAGE
    return vma.with_runs(runs)


def joined(vmas):
    joined = []
    for vma in vmas:
        last = joined[-1] if joined else None
        if (
            last
            and last.end == vma.start
            and last.origin == vma.origin
            and last.policy == vma.policy
        ):
            runs = list(last.runs)
            for node, count in vma.runs:
                if runs and runs[-1][0] == node:
                    runs[-1] = (node, runs[-1][1] + count)
                else:
                    runs.append((node, count))
            joined[-1] = last.with_runs(runs, end=vma.end)
        else:
            joined.append(vma)
    return joined
