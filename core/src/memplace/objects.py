# SPDX-License-Identifier: Apache-2.0
"""Memory that several mappings have in common: what it is, and how to count it once.

A file, or what is like one (memfd, System V segments, shared anonymous memory), is an object; a
byte of it is the same in all mappings that show it at the same offset. A page that fork() left
to two processes is the same in both until one of them writes to it. Whoever adds up what
processes map has such bytes several times.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

# What claims of objects have for Mems_allowed_list: a change of anybody's cpuset leaves the
# policies of objects as they are. Source: linux ``mm/mempolicy.c:mpol_rebind_mm()``, which goes
# through the mappings of a process only.
ALL_NODES = frozenset(range(1024))

_NAME = re.compile(r"object-(\d+)\.(\d+)\.(\d+)(\.v)?", re.ASCII)

# Of one object under one rule. Programs that map more of its parts each by itself are counted
# as they map: the bound is one for the agent's time.
_MOST_RANGES = 512


class ObjectId(NamedTuple):
    """What tells objects apart, as far as mappings show it.

    Two objects can look alike: System V segments have numbers of their own in each IPC
    namespace, on one device. So a mapping that looks alike may be one of something else, but
    what looks different is never the same object.

    Attributes:
        major: Of the device of its file system.
        minor: Likewise.
        inode: Its number there; that of a System V segment is its id.
        system_v: It is a System V segment.
    """

    major: int
    minor: int
    inode: int
    system_v: bool = False


@dataclass(frozen=True, slots=True)
class Common:
    """Bytes that one mapping has, and that others may have as well.

    Attributes:
        rule: Which they are counted for.
        of: What they are bytes of.
        start: Where in that, ``[start, end)``.
        end: The first place after it.
        pages: Bytes per NUMA node that are in memory.
    """

    rule: str
    of: Hashable
    start: int
    end: int
    pages: Mapping[int, int]

    @property
    def bytes(self) -> int:
        """All of them."""
        return sum(self.pages.values())


def surplus(commons: Iterable[Common]) -> dict[str, dict[int, int]]:
    """Return what a sum over mappings counts too often, by rule and NUMA node.

    Where mappings overlap, the one that has most of that part in memory counts, and what the
    others have is surplus. That is right where one has all that is there, and too much where
    each has some other pages of it.

    Args:
        commons: Of all mappings that were added up, any number of each process.
    """
    ranges: dict[tuple[str, Hashable], dict[tuple[int, int], Common]] = {}
    over: dict[str, dict[int, float]] = {}
    for common in commons:
        same = ranges.setdefault((common.rule, common.of), {})
        at = common.start, common.end
        least, same[at] = _ranked(same.get(at), common)
        if least is not None:
            _add(over, least, 1.0)
    for distinct in ranges.values():
        if 1 < len(distinct) <= _MOST_RANGES:
            _add_overlaps(over, sorted(distinct.values(), key=lambda c: (c.start, c.end)))
    return {
        rule: {node: round(size) for node, size in sorted(pages.items()) if round(size)}
        for rule, pages in over.items()
    }


def _ranked(known: Common | None, new: Common) -> tuple[Common | None, Common]:
    if known is None:
        return None, new
    return (known, new) if new.bytes > known.bytes else (new, known)


def _add(over: dict[str, dict[int, float]], common: Common, share: float) -> None:
    pages = over.setdefault(common.rule, {})
    for node, size in common.pages.items():
        pages[node] = pages.get(node, 0.0) + size * share


def _add_overlaps(over: dict[str, dict[int, float]], ascending: Sequence[Common]) -> None:
    # Cut at all borders, each part is in some ranges whole; bytes lie evenly in each.
    borders = sorted({border for c in ascending for border in (c.start, c.end)})
    around: list[Common] = []
    after = iter((*ascending, None))
    following = next(after)
    for low, high in pairwise(borders):
        around = [common for common in around if common.end > low]
        while following is not None and following.start <= low:
            around.append(following)
            following = next(after)
        if len(around) > 1:
            densest = max(around, key=lambda c: c.bytes / (c.end - c.start))
            for common in around:
                if common is not densest:
                    _add(over, common, (high - low) / (common.end - common.start))


def claim_name(of: ObjectId) -> str:
    """Return what the claim of an object is called, in place of a container's id."""
    return f"object-{of.major}.{of.minor}.{of.inode}{'.v' if of.system_v else ''}"


def object_of(name: str) -> ObjectId | None:
    """Return the object whose claim is called so; None for a container's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return ObjectId(int(match[1]), int(match[2]), int(match[3]), system_v=bool(match[4]))
