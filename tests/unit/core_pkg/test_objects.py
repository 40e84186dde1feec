# SPDX-License-Identifier: Apache-2.0
"""Bytes that mappings have in common: however they are mapped, they count once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from memplace.objects import Common, ObjectId, surplus

FILE = ObjectId(0, 1, 77)
MIB = 1 << 20


def common(start, end, pages=None, rule="r", of=FILE):
    return Common(rule, of, start * MIB, end * MIB, pages or {0: (end - start) * MIB})


def counted(commons):
    """What is left of their sum."""
    commons = list(commons)
    return sum(c.bytes for c in commons) - sum(sum(p.values()) for p in surplus(commons).values())


ranges = st.tuples(st.integers(0, 12), st.integers(1, 6)).map(lambda p: (p[0], p[0] + p[1]))


@given(st.lists(ranges, max_size=12))
def test_what_is_all_in_memory_counts_as_large_as_what_is_mapped_of_it(mapped):
    """The union of the ranges, by counting its pieces."""
    pieces = {piece for start, end in mapped for piece in range(start, end)}
    assert abs(counted(common(start, end) for start, end in mapped) - len(pieces) * MIB) <= 2


pages = st.dictionaries(st.integers(0, 2), st.integers(0, 1 << 20), min_size=1, max_size=3)
commons = st.builds(
    lambda at, held, rule, of: common(*at, held, rule, of),
    ranges,
    pages,
    st.sampled_from(["r", "s"]),
    st.sampled_from([FILE, FILE._replace(inode=78), 4096]),
)


@given(st.lists(commons, max_size=12))
def test_nothing_counts_less_than_in_the_mapping_that_has_most_and_nothing_negative(mapped):
    over = surplus(mapped)
    for rule in {c.rule for c in mapped}:
        of_rule = [c for c in mapped if c.rule == rule]
        largest = max(c.bytes for c in of_rule)
        assert counted(of_rule) >= largest - len(of_rule) * 3
        for node, size in over.get(rule, {}).items():
            assert 0 < size <= sum(c.pages.get(node, 0) for c in of_rule) + 1


@given(st.lists(commons, max_size=8), st.randoms(use_true_random=False))
def test_the_order_decides_nothing(mapped, random):
    shuffled = list(mapped)
    random.shuffle(shuffled)
    assert abs(counted(mapped) - counted(shuffled)) <= 3 * len(mapped) + 3


@given(commons, st.integers(1, 6))
def test_who_maps_the_same_as_often_as_he_likes_has_it_once(one, times):
    assert counted([one] * times) == one.bytes


def test_objects_and_rules_are_told_apart():
    other = [common(0, 4), common(0, 4, of=FILE._replace(system_v=True)), common(0, 4, rule="s")]
    assert surplus(other) == {}


def test_many_small_parts_are_counted_as_they_are_mapped():
    parts = [common(n, n + 2, {0: 1}) for n in range(1000)]
    assert surplus(parts) == {}
    assert surplus([*parts, replace(parts[0])]) == {"r": {0: 1}}
