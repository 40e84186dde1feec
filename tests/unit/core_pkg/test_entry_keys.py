# SPDX-License-Identifier: Apache-2.0
"""Each key of a region entry, alone, makes the difference, wherever keys are listed by hand.

A matcher keeps the answer for regions that look alike, and numbers entries that mean the same
extents. So a key that one of these lists forgets gives a region the answer of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from memplace.api.v1alpha1 import LabelSelector, PlacementSpec, PolicySpec, RegionEntry, Rule
from memplace.entries import ProcessName
from memplace.extents import joins
from memplace.kinds import Mode, RegionKind
from memplace.matching import Matcher
from memplace.regions import Region
from memplace.validation import problems

MIB = 1 << 20
A, B = ProcessName("a", "/a"), ProcessName("b", "/b")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A key of an entry, and two regions, or processes, that differ in nothing else.

    Attributes:
        value: Of the key; means the first of the two.
        other: Of the key; means the second.
        fact: The region's field that it is compared with, and what it is in both.
        processes: Of both.
        kind: Of the entry and both regions.
    """

    value: str
    other: str
    fact: tuple[str, object, object] | None = None
    processes: tuple[ProcessName, ProcessName] = (A, A)
    kind: RegionKind = RegionKind.ANONYMOUS


SIZES = {"min_size", "max_size"}
CASES = {
    "type": Case(
        value=RegionKind.ANONYMOUS,
        other=RegionKind.BRK,
        fact=("kind", RegionKind.ANONYMOUS, RegionKind.BRK),
    ),
    "name": Case(value="a*", other="b*", fact=("name", "a1", "b1")),
    "path": Case(value="/a*", other="/b*", fact=("path", "/a1", "/b1"), kind=RegionKind.FILE),
    "min_size": Case(value="2Mi", other="1Mi", fact=("end", 2 * MIB, MIB)),
    "max_size": Case(value="1Mi", other="2Mi", fact=("end", MIB, 2 * MIB)),
    "permissions": Case(value="rw-", other="r--", fact=("permissions", "rw-", "r--")),
    "process": Case(value="a", other="b", processes=(A, B)),
}
# Of an extent, all regions have them: no two entries that differ in them share one.
NEVER_TOGETHER = {"type", "path"}
# Fields of a region that no key is about, but which decide whether it is anybody's.
OTHER_FACTS = {"shared": (False, True), "special": (False, True)}
# Fields of a region that no rule asks for.
NO_FACTS = {
    *("start", "policy", "pages", "page_size", "own", "policy_is_whole", "object", "offset"),
}


def pair(case: Case) -> tuple[Region, Region]:
    """Return the two regions of a case, from address 0."""
    first = Region(start=0, end=MIB, kind=case.kind)
    if case.fact is None:
        return first, first
    name, one, two = case.fact
    return with_fact(first, name, one), with_fact(first, name, two)


def with_fact(region: Region, name: str, value: object) -> Region:
    changed: dict[str, Any] = {name: value}
    return msgspec.structs.replace(region, **changed)


def far(region: Region) -> Region:
    """Return it where it touches nothing."""
    return msgspec.structs.replace(
        region, start=region.start + (1 << 30), end=region.end + (1 << 30)
    )


def after(region: Region) -> Region:
    """Return it right behind the first of a pair."""
    return msgspec.structs.replace(region, start=region.start + MIB, end=region.end + MIB)


def an_entry(case: Case, key: str, value: str, **rest: str) -> RegionEntry:
    changed: dict[str, Any] = {key: value, **rest}
    return msgspec.structs.replace(RegionEntry(case.kind), **changed)


def a_rule(name: str, *entries: RegionEntry) -> Rule:
    return Rule(name=name, regions=entries, policy=PolicySpec(Mode.BIND, ("cxl",)))


def won(matcher: Matcher, region: Region, process: ProcessName) -> str | None:
    (match,) = matcher.match([region], process)
    return match.rule.name if match.rule else None


def test_each_key_has_a_case() -> None:
    assert list(CASES) == list(RegionEntry.__struct_fields__)


def test_each_field_of_a_region_is_compared_or_not() -> None:
    compared = {case.fact[0] for case in CASES.values() if case.fact}
    assert compared | OTHER_FACTS.keys() | NO_FACTS == set(Region.__struct_fields__)


@pytest.mark.parametrize("turned", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("key", CASES)
def test_a_region_does_not_get_the_answer_of_one_that_differs_in_it(
    key: str, *, turned: bool
) -> None:
    case = CASES[key]
    matcher = Matcher([a_rule("r", an_entry(case, key, case.value))])
    order = [0, 1, 0] if not turned else [1, 0, 1]
    regions = pair(case)
    found = [won(matcher, regions[i], case.processes[i]) for i in order]
    assert found == [None if i else "r" for i in order]


@pytest.mark.parametrize("fact", OTHER_FACTS)
def test_nor_that_of_one_that_differs_in_what_no_key_is_about(fact: str) -> None:
    matcher = Matcher([a_rule("r", RegionEntry(RegionKind.ANONYMOUS))])
    region = Region(start=0, end=MIB, kind=RegionKind.ANONYMOUS)
    no, yes = OTHER_FACTS[fact]
    both = [with_fact(region, fact, no), far(with_fact(region, fact, yes))]
    assert [match.rule is not None for match in matcher.match(both, A)] == [True, False]


@pytest.mark.parametrize("key", sorted(CASES.keys() - SIZES - NEVER_TOGETHER))
def test_entries_that_differ_in_it_mean_extents_of_their_own(key: str) -> None:
    case = CASES[key]
    sized = [
        a_rule(name, an_entry(case, key, value, min_size="2Mi"))
        for name, value in (("a", case.value), ("b", case.other))
    ]
    first, second = pair(case)
    together = [first, after(second)]
    assert joins(*together)
    wide = Matcher([a_rule("w", msgspec.structs.replace(RegionEntry(case.kind), min_size="2Mi"))])
    assert [match.rule is not None for match in wide.match(together, A)] == [True, True]
    if key == "process":  # of the whole of them
        assert [m.rule and m.rule.name for m in Matcher(sized[::-1]).match(together, A)] == [
            "a",
            "a",
        ]
    else:
        assert [match.rule for match in Matcher(sized).match(together, A)] == [None, None]


@pytest.mark.parametrize("key", sorted(NEVER_TOGETHER))
def test_what_no_extent_has_two_of_needs_no_extents_of_its_own(key: str) -> None:
    first, second = pair(CASES[key])
    assert not joins(first, after(second))


@pytest.mark.parametrize("key", sorted(CASES.keys() - SIZES))
def test_bounds_are_compared_only_if_it_is_the_same(key: str) -> None:
    # With another key, sizes are of something else: a part may be small, and the whole large.
    case = CASES[key]
    wide = RegionEntry(RegionKind.HEAP if key == "type" else case.kind, max_size="4Mi")
    narrow = msgspec.structs.replace(wide, **{key: case.value})
    rules = (a_rule("a", wide), a_rule("b", narrow))
    assert not problems(PlacementSpec(selector=LabelSelector(), rules=rules))
    same = (a_rule("a", narrow), a_rule("b", narrow))
    assert problems(PlacementSpec(selector=LabelSelector(), rules=same))
