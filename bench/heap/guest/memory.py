# SPDX-License-Identifier: Apache-2.0
"""Where the memory of a process is, by mapping and NUMA node."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

NODES = (0, 1)
# Documentation/filesystems/proc.rst; "prefer (many):1" has a blank of its own
_NUMA_LINE = re.compile(r"^([0-9a-f]+) (prefer \(many\)\S*|\S+)(.*)$", re.MULTILINE)
_ON_NODE = re.compile(r" N(\d+)=(\d+)")
_PAGE_KIB = re.compile(r" kernelpagesize_kB=(\d+)")
_MAPS_LINE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ...([ps]) \S+ \S+ (\d+) *(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Mapping:
    """One line of /proc/PID/numa_maps.

    Attributes:
        start: First address.
        end: Behind the last one.
        kind: "private" for private anonymous memory, "stack" for that of the main thread,
            "shared" or "file".
        policy: As the kernel shows it; "default" is none.
        on: Bytes on each of `NODES`.
    """

    start: int
    end: int
    kind: str
    policy: str
    on: tuple[int, ...]


def mappings(pid: int) -> list[Mapping]:
    """Return all mappings of a process that does nothing in the meantime.

    Raises:
        OSError: There is no such process, or no right to look at it.
    """
    process = Path(f"/proc/{pid}")
    where = {int(line[0], 16): line for line in _MAPS_LINE.findall((process / "maps").read_text())}
    found = []
    for address, policy, rest in _NUMA_LINE.findall((process / "numa_maps").read_text()):
        start = int(address, 16)
        if start in where:
            _, end, sharing, inode, name = where[start]
            kind = _kind(sharing, int(inode), name)
            found.append(Mapping(start, int(end, 16), kind, policy, _bytes_on(rest)))
    return found


def _bytes_on(rest: str) -> tuple[int, ...]:
    size = _PAGE_KIB.search(rest)
    pages = {int(node): int(count) for node, count in _ON_NODE.findall(rest)}
    return tuple(pages.get(node, 0) * int(size.group(1)) * 1024 if size else 0 for node in NODES)


def _kind(sharing: str, inode: int, name: str) -> str:
    if sharing == "s":
        return "shared"
    if inode:
        return "file"
    return "stack" if name == "[stack]" else "private"


def total(all_of_them: Iterable[Mapping], *kinds: str) -> tuple[int, ...]:
    """Return the bytes on each of `NODES` in mappings of these kinds."""
    chosen = [mapping for mapping in all_of_them if mapping.kind in kinds]
    return tuple(sum(mapping.on[node] for mapping in chosen) for node in NODES)


def stayed(before: list[Mapping], after: list[Mapping], *kinds: str) -> dict[str, int]:
    """Return the growth on node 0 of these kinds of memory in bytes, by why it is there."""
    grown = _by_reason(after, before, kinds)
    grown.subtract(_by_reason(before, before, kinds))
    return {reason: size for reason, size in grown.items() if size}


def _by_reason(now: list[Mapping], before: list[Mapping], kinds: Sequence[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for mapping in now:
        if mapping.kind in kinds:
            found[_reason(mapping, before)] += mapping.on[0]
    return found


def _reason(mapping: Mapping, before: list[Mapping]) -> str:
    if mapping.kind != "private":
        return mapping.kind
    if mapping.policy != "default":
        return "has the policy"
    there = any(old.start < mapping.end and mapping.start < old.end for old in before)
    return "mapped before" if there else "mapped since, without the policy"
