# SPDX-License-Identifier: Apache-2.0
"""Where pages go that are moved without a policy."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.kinds import Mode, Policy
from memplace.spread import blocks, target

MIB = 1 << 20
BLOCK = 2 * MIB
NODES = frozenset({1, 3, 4})
RANGES = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 3000)), max_size=4)


@given(RANGES, st.sampled_from([4096, BLOCK, 1 << 30]))
def test_blocks_cover_what_they_are_cut_from_and_split_no_page(pairs, page_size):
    ranges = [(first * page_size, (first + count) * page_size) for first, count in pairs]
    cut = list(blocks(ranges, page_size))
    assert sum(end - start for start, end in cut) == sum(end - start for start, end in ranges)
    step = max(BLOCK, page_size)
    assert all(start < end and start // step == (end - 1) // step for start, end in cut)
    assert all(start % page_size == end % page_size == 0 for start, end in cut)


@pytest.mark.parametrize(
    ("free", "node"),
    [
        ({1: 9, 3: 9, 4: 9}, 1),
        ({1: 4, 3: 5, 4: 9}, 3),
        ({1: 4, 4: 9}, 4),
        ({1: 2, 3: 4, 4: 4}, 3),
        ({}, 1),
        ({0: 99}, 1),
    ],
)
@pytest.mark.parametrize("mode", [Mode.BIND, Mode.PREFERRED_MANY])
def test_the_first_node_with_room_is_taken(mode, free, node):
    assert target(Policy(mode, NODES), 0, 5, free, {}) == node


@pytest.mark.parametrize(
    ("mode", "weights", "shares"),
    [
        (Mode.INTERLEAVE, {}, {1: 10, 3: 10, 4: 10}),
        (Mode.INTERLEAVE, {1: 9}, {1: 10, 3: 10, 4: 10}),
        (Mode.WEIGHTED_INTERLEAVE, {}, {1: 10, 3: 10, 4: 10}),
        (Mode.WEIGHTED_INTERLEAVE, {0: 7, 1: 4, 3: 1, 4: 1}, {1: 20, 3: 5, 4: 5}),
    ],
)
def test_blocks_are_spread_by_their_address(mode, weights, shares):
    policy = Policy(mode, NODES)
    found = Counter(target(policy, n * BLOCK, 1, {}, weights) for n in range(30))
    assert found == shares
    assert target(policy, 5 * BLOCK + 4096, 1, {}, weights) == target(
        policy, 6 * BLOCK - 4096, 1, {}, weights
    )
