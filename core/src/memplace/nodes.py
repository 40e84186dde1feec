# SPDX-License-Identifier: Apache-2.0
"""Sets of NUMA nodes: the kernel's list format and the words of a nodemask."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from memplace.errors import ParseError

NumaSet = frozenset[int]

# One more than the largest node id the kernel can be built for: MAX_NUMNODES
# is 1 << NODES_SHIFT, and NODES_SHIFT ends at 10 (linux mm/Kconfig, arch/*/Kconfig).
MAX_NODES = 1024

WORD_BITS = 64

_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?", re.ASCII)


def parse_nodes(text: str) -> NumaSet:
    """Parse a list of nodes as the kernel prints it, such as ``0-3,7``.

    Args:
        text: The list; surrounding white space is ignored, empty means no node.

    Returns:
        The node ids, each in ``[0, MAX_NODES)``.

    Raises:
        ParseError: Not such a list, a range that runs backwards, or an id too large.

    Source: cpuset(7), "List format"; linux ``lib/bitmap-str.c:bitmap_parselist()``.
    """
    stripped = text.strip()
    if not stripped:
        return frozenset()
    return frozenset(node for part in stripped.split(",") for node in _range(part, text))


def _range(part: str, text: str) -> range:
    match = _RANGE.fullmatch(part)
    if match is None:
        raise ParseError("list of nodes such as 0-3,7", text)
    first = int(match[1])
    last = int(match[2] or match[1])
    if first > last or last >= MAX_NODES:
        raise ParseError("list of nodes such as 0-3,7", text)
    return range(first, last + 1)


def format_nodes(nodes: Iterable[int]) -> str:
    """Format nodes the way the kernel prints them: ascending, runs as ``first-last``.

    Returns:
        For example ``0-3,7``; empty for no node.

    Source: linux ``lib/vsprintf.c:bitmap_list_string()``.
    """
    ordered = sorted(set(nodes))
    if not ordered:
        return ""
    breaks = [i for i, (a, b) in enumerate(pairwise(ordered), start=1) if b != a + 1]
    bounds = pairwise([0, *breaks, len(ordered)])
    runs = [(ordered[start], ordered[stop - 1]) for start, stop in bounds]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def parse_cut_nodes(text: str) -> NumaSet:
    """Parse a list of nodes whose end the kernel cut off, as numa_maps does.

    Returns:
        The nodes of the entries before the last comma: the last entry may lack digits. All
        other nodes of the whole list are larger than these.

    Raises:
        ParseError: As `parse_nodes`.

    Source: linux ``fs/proc/task_mmu.c:show_numa_map()``, a buffer of 64 bytes.
    """
    return parse_nodes(text.rpartition(",")[0])


def remap(nodes: NumaSet, old: NumaSet, new: NumaSet) -> NumaSet:
    """Map nodes from their places in one set to the same places in another.

    Args:
        nodes: What to map; nodes outside of `old` stay as they are.
        old: Where the places are counted.
        new: Where they lead: the n-th of `old` becomes the n-th of `new`, and counting starts
            again at its end. If it is empty, nothing is mapped.

    Source: linux ``lib/bitmap.c:bitmap_remap()``, alias nodes_remap().
    """
    if not new:
        return nodes
    place = {node: number for number, node in enumerate(sorted(old))}
    targets = sorted(new)
    return frozenset(
        targets[place[node] % len(targets)] if node in place else node for node in nodes
    )


def places(nodes: NumaSet, allowed: NumaSet) -> NumaSet:
    """Return which places nodes have in a set, from 0; those outside of it have none.

    What MPOL_F_RELATIVE_NODES takes instead of node ids, see set_mempolicy(2).
    """
    return frozenset(place for place, node in enumerate(sorted(allowed)) if node in nodes)


def to_words(nodes: Iterable[int]) -> tuple[int, ...]:
    """Turn nodes into a nodemask of 64-bit words, least significant word first.

    Returns:
        At least one word; bit ``n % 64`` of word ``n // 64`` stands for node ``n``.
        ``maxnode`` of struct mpol_args is 64 times the number of words (it is exact
        there, without the "- 1" of mbind(2)).

    Raises:
        ValueError: A node id is negative or not less than MAX_NODES.
    """
    bits = 0
    for node in nodes:
        if not 0 <= node < MAX_NODES:
            raise ValueError(f"NUMA node {node} is not in [0, {MAX_NODES})")
        bits |= 1 << node
    count = max(1, -(-bits.bit_length() // WORD_BITS))
    mask = (1 << WORD_BITS) - 1
    return tuple(bits >> (WORD_BITS * i) & mask for i in range(count))
