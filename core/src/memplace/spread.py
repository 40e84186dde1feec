# SPDX-License-Identifier: Apache-2.0
"""To which node pages go that are moved without a policy: what the kernel does by a policy. Pure.

Pages are moved in blocks, of which each goes to one node. So a huge page never has two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from memplace.calls import CUT_ALIGNMENT
from memplace.kinds import Mode, Policy


def blocks(ranges: Iterable[tuple[int, int]], page_size: int = 4096) -> Iterator[tuple[int, int]]:
    """Cut ranges at multiples of 2 MiB, or of a page that is larger than that.

    Example:
        >>> [(hex(start), hex(end)) for start, end in blocks([(0x1FF000, 0x401000)])]
        [('0x1ff000', '0x200000'), ('0x200000', '0x400000'), ('0x400000', '0x401000')]
    """
    step = max(CUT_ALIGNMENT, page_size)
    for start, end in ranges:
        while start < end:
            last = min(end, start // step * step + step)
            yield start, last
            start = last


def target(
    policy: Policy,
    address: int,
    size: int,
    free: Mapping[int, int],
    weights: Mapping[int, int],
    *,
    page_size: int = 4096,
) -> int:
    """Return the node of a policy that a block of pages goes to.

    Modes that interleave spread blocks by their addresses, as the kernel spreads pages by
    their place in the mapping. All others fill the first node with room for the block, in the
    order of their numbers; without such a node, that with the most.

    Args:
        policy: With nodes.
        address: Of the block.
        size: Bytes to move of it.
        free: Bytes that a move may take of each node.
        weights: Of WeightedInterleave, by node; 1 where there is none.
        page_size: Bytes of a page.
    """
    nodes = sorted(policy.nodes)
    if policy.mode in (Mode.INTERLEAVE, Mode.WEIGHTED_INTERLEAVE):
        weighted = policy.mode is Mode.WEIGHTED_INTERLEAVE
        shares = [weights.get(node, 1) if weighted else 1 for node in nodes]
        number = address // max(CUT_ALIGNMENT, page_size) % sum(shares)
        for node, share in zip(nodes, shares, strict=True):
            if number < share:
                return node
            number -= share
    for node in nodes:
        if free.get(node, 0) >= size:
            return node
    return max(nodes, key=lambda node: (free.get(node, 0), -node))
