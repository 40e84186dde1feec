# SPDX-License-Identifier: Apache-2.0
import pytest
from memplace.api.v1alpha1 import PolicySpec, RegionEntry, Rule
from memplace.kinds import Mode, RegionKind
from memplace.regions import Region, matches, winner

MIB = 1 << 20


def region(kind, size=MIB, **rest):
    return Region(start=0x10000, end=0x10000 + size, kind=RegionKind(kind), **rest)


def entry(kind, **keys):
    return RegionEntry(type=RegionKind(kind), **keys)


def rule(name, *entries, exclude=()):
    return Rule(name=name, regions=entries, policy=PolicySpec(mode=Mode.LOCAL), exclude=exclude)


@pytest.mark.parametrize("kind", list(RegionKind))
def test_a_type_alone_matches_its_kind_and_no_other(kind):
    assert [k for k in RegionKind if matches(entry(kind), region(k))] == [kind]


@pytest.mark.parametrize(
    ("size", "expected"), [(MIB - 1, False), (MIB, True), (2 * MIB, True), (2 * MIB + 1, False)]
)
def test_bounds_are_inclusive(size, expected):
    bounded = entry("Anonymous", min_size="1Mi", max_size="2Mi")
    assert matches(bounded, region("Anonymous", size)) is expected


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("io-*", "io-1", True),
        ("io-*", "IO-1", False),
        ("io", "io-1", False),
        ("*", "", True),
        ("?*", "", False),
        ("io", "", False),
        ("[ab]", "b", True),
    ],
)
def test_names_are_shell_patterns(glob, name, expected):
    assert matches(entry("Anonymous", name=glob), region("Anonymous", name=name)) is expected


def test_a_star_in_a_path_crosses_slashes():
    weights = region("File", path="/models/llama/model.bin")
    assert matches(entry("File", path="*/model.bin"), weights)
    assert matches(entry("File", path="/models/*"), weights)
    assert not matches(entry("File", path="/model.bin"), weights)


def test_all_keys_have_to_hold():
    both = entry("Shared", name="a", path="/memfd:*", min_size="1Mi")
    assert matches(both, region("Shared", name="a", path="/memfd:x"))
    assert not matches(both, region("Shared", name="b", path="/memfd:x"))
    assert not matches(both, region("Shared", name="a", path="/x"))
    assert not matches(both, region("Shared", MIB - 1, name="a", path="/memfd:x"))


def test_the_first_rule_that_means_it_wins():
    first, second = rule("first", entry("Heap")), rule("second", entry("Heap"))
    assert winner((first, second), region("Heap")) == first
    assert winner((second, first), region("Heap")) == second


def test_exclude_passes_the_region_on():
    first = rule("first", entry("Anonymous"), exclude=(entry("Anonymous", name="io-*"),))
    second = rule("second", entry("Anonymous"))
    assert winner((first, second), region("Anonymous", name="io-1")) == second
    assert winner((first, second), region("Anonymous", name="x")) == first
    assert winner((first,), region("Anonymous", name="io-1")) is None


def test_no_rule_means_a_special_mapping():
    everything = rule("all", *(entry(kind) for kind in RegionKind))
    for kind in RegionKind:
        assert winner((everything,), region(kind)) == everything
        assert winner((everything,), region(kind, special=True)) is None


def test_a_shared_mapping_is_meant_only_by_types_that_say_so():
    everything = rule("all", *(entry(kind) for kind in RegionKind))
    shared = {k for k in RegionKind if winner((everything,), region(k, shared=True))}
    assert shared == {RegionKind.FILE, RegionKind.SHARED, RegionKind.HUGETLB}


def test_what_lies_elsewhere():
    heap = region("Heap", pages={0: 5, 1: 7, 2: 11})
    assert heap.bytes_outside(frozenset({1})) == 16
    assert heap.bytes_outside(frozenset({0, 1, 2, 3})) == 0
    assert heap.bytes_outside(frozenset()) == 23
