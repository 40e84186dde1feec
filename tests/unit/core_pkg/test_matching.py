# SPDX-License-Identifier: Apache-2.0
"""Which rule wins a region, and what is said about the others."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import PolicySpec, RegionEntry, Rule
from memplace.entries import Mismatch, ProcessName
from memplace.extents import extents, joins
from memplace.kinds import Mode, Policy, RegionKind
from memplace.matching import Matcher
from memplace.regions import Region

MIB = 1 << 20
KINDS = [kind for kind in RegionKind if kind is not RegionKind.HEAP]
PRIVATE = ["Brk", "Anonymous", "Stack"]


def region(kind="Anonymous", size=MIB, start=0x10000, **rest):
    return Region(start=start, end=start + size, kind=RegionKind(kind), **rest)


def entry(kind="Anonymous", **keys):
    return RegionEntry(type=RegionKind(kind), **keys)


def rule(name, *entries, exclude=()):
    return Rule(name=name, regions=entries, policy=PolicySpec(mode=Mode.LOCAL), exclude=exclude)


def won(rules, *regions, **kwargs):
    found = Matcher(rules).match(regions, **kwargs)
    return [match.rule.name if match.rule else None for match in found]


def matches(an_entry, a_region, **kwargs):
    return won([rule("r", an_entry)], a_region, **kwargs) == ["r"]


def why(rules, a_region, **kwargs):
    (match,) = Matcher(rules).match([a_region], **kwargs)
    return [(each.rule, each.reason) for each in match.why_not]


@pytest.mark.parametrize("kind", KINDS)
def test_a_type_alone_matches_its_kind_and_no_other(kind):
    assert [k for k in KINDS if matches(entry(kind), region(k))] == [kind]


def test_a_heap_is_brk_and_anonymous_memory_named_or_not():
    assert [k for k in KINDS if matches(entry("Heap"), region(k))] == ["Brk", "Anonymous"]
    assert matches(entry("Heap"), region(name="arena"))
    assert matches(entry("Heap"), region(permissions="---"))  # set aside for later
    assert matches(entry("Heap"), region(permissions="r--"))


@pytest.mark.parametrize("kind", ["Heap", "Brk", "Anonymous"])
@pytest.mark.parametrize("permissions", ["r-x", "rwx", "--x"])
def test_executable_memory_is_no_heap(kind, permissions):
    for found in ("Brk", "Anonymous"):
        assert not matches(entry(kind), region(found, permissions=permissions))
    assert why([rule("r", entry("Heap"))], region(permissions=permissions)) == [
        ("r", Mismatch.EXECUTABLE)
    ]


def test_executable_memory_is_meant_by_permissions_that_say_so():
    code = region(permissions="rwx")
    assert matches(entry(permissions="rwx"), code)
    assert not matches(entry(permissions="r-x"), code)
    assert matches(entry("File", permissions="r-x"), region("File", permissions="r-x"))
    assert matches(entry("File"), region("File", permissions="r-x"))
    assert matches(entry("Stack"), region("Stack", permissions="rwx"))


def test_permissions_are_compared_letter_by_letter():
    read_only = entry("File", permissions="r--")
    assert matches(read_only, region("File", permissions="r--"))
    assert not matches(read_only, region("File", permissions="rw-"))


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("redis-server", True),
        ("*/redis-server", True),
        ("/usr/bin/*", True),
        ("redis-check*", False),
        ("io_thd_*", True),
        ("server", False),
    ],
)
def test_a_process_is_named_by_comm_executable_or_its_last_part(glob, expected):
    named = ProcessName("io_thd_1", "/usr/bin/redis-server")
    assert matches(entry("Heap", process=glob), region(), process=named) is expected


def test_one_matcher_serves_processes_of_different_names():
    matcher = Matcher([rule("r", entry(process="a"), entry("Brk", process="b"))])
    both = [region(), region("Brk", start=0x900000)]
    for name, expected in (("a", [True, False]), ("b", [False, True]), ("c", [False, False])):
        found = matcher.match(both, ProcessName(name, ""))
        assert [match.rule is not None for match in found] == expected


@pytest.mark.parametrize(
    ("size", "expected"), [(MIB - 1, False), (MIB, True), (2 * MIB, True), (2 * MIB + 1, False)]
)
def test_bounds_are_inclusive(size, expected):
    assert matches(entry(min_size="1Mi", max_size="2Mi"), region(size=size)) is expected


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
        ("io", "io\n", False),
        # Go and glibc begin theirs with a blank, so that maps has [anon: Go: heap].
        ("Go: heap", " Go: heap", True),
        ("Go: *", " Go: heap", True),
        (" Go: heap", " Go: heap", True),
        ("*Go: heap", " Go: heap", True),
        (" Go: heap", "Go: heap", False),
        ("Go: heap", " Go: heap ", False),
        ("?*", " ", True),
    ],
)
def test_names_are_shell_patterns(glob, name, expected):
    assert matches(entry(name=glob), region(name=name)) is expected


def test_a_star_in_a_path_crosses_slashes():
    weights = region("File", path="/models/llama/model.bin")
    assert matches(entry("File", path="*/model.bin"), weights)
    assert matches(entry("File", path="/models/*"), weights)
    assert not matches(entry("File", path="/model.bin"), weights)
    assert matches(entry("HugeTLB", path="/mnt/*"), region("HugeTLB", path="/mnt/huge/a"))


def test_all_keys_have_to_hold():
    both = entry("Shared", name="a", path="/memfd:*", min_size="1Mi")
    assert matches(both, region("Shared", name="a", path="/memfd:x"))
    assert not matches(both, region("Shared", name="b", path="/memfd:x"))
    assert not matches(both, region("Shared", name="a", path="/x"))
    assert not matches(both, region("Shared", MIB - 1, name="a", path="/memfd:x"))


def test_the_first_rule_that_means_it_wins():
    first, second = rule("first", entry("Heap")), rule("second", entry("Heap"))
    assert won([first, second], region()) == ["first"]
    assert won([second, first], region()) == ["second"]
    assert why([first, second], region()) == [("second", Mismatch.EARLIER_RULE)]


def test_exclude_passes_the_region_on():
    first = rule("first", entry(), exclude=(entry(name="io-*"),))
    second = rule("second", entry())
    assert won([first, second], region(name="io-1")) == ["second"]
    assert won([first, second], region(name="x")) == ["first"]
    assert won([first], region(name="io-1")) == [None]
    assert why([first], region(name="io-1")) == [("first", Mismatch.EXCLUDED)]


def test_no_rule_means_a_special_mapping():
    everything = rule("all", *(entry(kind) for kind in RegionKind))
    assert won([everything], *(region(kind, special=True) for kind in KINDS)) == [None] * len(KINDS)
    assert why([everything], region(special=True)) == [("all", Mismatch.SPECIAL)]


@pytest.mark.parametrize("kind", PRIVATE)
def test_private_kinds_never_mean_shared_memory(kind):
    everything = rule("all", *(entry(kind) for kind in RegionKind))
    assert won([everything], region(kind, shared=True)) == [None]


@pytest.mark.parametrize(
    ("an_entry", "reason", "words"),
    [
        (entry("Brk"), Mismatch.OTHER_TYPE, "type is Brk, it is Anonymous"),
        (entry(process="x"), Mismatch.OTHER_PROCESS, "process is x"),
        (entry(permissions="r--"), Mismatch.OTHER_PERMISSIONS, "permissions are r--, it has rw-"),
        (entry(name="io"), Mismatch.OTHER_NAME, "name is io, its is 'a'"),
        (entry(min_size="2Mi"), Mismatch.TOO_SMALL, "minSize is 2Mi, its extent has 1Mi"),
        (entry(max_size="1Ki"), Mismatch.TOO_LARGE, "maxSize is 1Ki, its extent has 1Mi"),
    ],
)
def test_why_a_rule_does_not_match(an_entry, reason, words):
    (match,) = Matcher([rule("r", an_entry)]).match([region(name="a")])
    assert match.rule is None
    assert [(each.rule, each.reason) for each in match.why_not] == [("r", reason)]
    assert words in match.why_not[0].text


def test_a_path_that_does_not_match_is_said():
    assert why([rule("r", entry("File", path="/a"))], region("File", path="/b")) == [
        ("r", Mismatch.OTHER_PATH)
    ]


# --- extents ---------------------------------------------------------------------------


def test_sizes_are_those_of_extents_whatever_the_policy():
    placed = region(size=4 * MIB, policy=Policy(Mode.BIND, frozenset({1})), own=True)
    grown = region(start=placed.end)
    apart = region(start=grown.end + 4096)
    assert won([rule("large", entry(min_size="4Mi"))], placed, grown, apart) == [
        *["large"] * 2,
        None,
    ]


def test_an_arena_is_one_extent_with_what_it_sets_aside():
    used = region(size=MIB, name="used")
    reserved = region(size=63 * MIB, start=used.end, permissions="---", name="reserve")
    assert won([rule("r", entry("Heap", min_size="16Mi"))], used, reserved) == ["r", "r"]


def test_an_extent_has_only_what_the_entry_means():
    named = region(name="io")
    unnamed = region(size=63 * MIB, start=named.end)
    named_only = rule("named", entry(name="io", min_size="16Mi"))
    rest = rule("rest", entry("Heap", min_size="16Mi"))
    assert won([named_only, rest], named, unnamed) == ["rest", "rest"]


def test_code_and_other_files_end_an_extent():
    one, two = region("File", path="/a"), region("File", start=0x10000 + MIB, path="/b")
    assert won([rule("r", entry("File", min_size="2Mi"))], one, two) == [None, None]
    data, code = region(), region(start=0x10000 + MIB, permissions="rwx")
    assert won([rule("r", entry(min_size="2Mi"))], data, code) == [None, None]


# --- hysteresis ------------------------------------------------------------------------


def test_a_region_that_is_held_keeps_its_rule_within_twice_the_bounds():
    bounded = rule("r", entry(min_size="4Mi", max_size="8Mi"))
    for size, expected in (
        (2 * MIB - 4096, None),
        (2 * MIB, "r"),
        (16 * MIB, "r"),
        (16 * MIB + 4096, None),
    ):
        assert won([bounded], region(size=size), held=lambda *_: True) == [expected]
        assert won([bounded], region(size=size), held=lambda *_: False) == [None]


def test_a_hole_in_the_middle_unmatches_neither_half():
    left, right = region(size=2 * MIB), region(size=2 * MIB, start=0x10000 + 3 * MIB)
    large = rule("large", entry(min_size="4Mi"))
    assert won([large], left, right, held=lambda *_: True) == ["large", "large"]
    assert won([large], left, right) == [None, None]


def test_a_rule_before_it_takes_a_held_region_over_and_one_after_it_does_not():
    held_by = rule("mine", entry(min_size="4Mi"))
    other = rule("other", entry("Heap"))
    shrunk = region(size=3 * MIB)

    def held(a_rule, _region):
        return a_rule.name == "mine"

    assert won([held_by, other], shrunk, held=held) == ["mine"]
    assert won([other, held_by], shrunk, held=held) == ["other"]


def test_a_held_region_that_another_rule_explains_is_not_taken_by_an_earlier_one():
    # Both rules want the same policy; the region carries it because of the second.
    large, rest = rule("large", entry(min_size="4Mi")), rule("rest", entry("Heap"))
    assert won([large, rest], region(size=3 * MIB), held=lambda *_: True) == ["rest"]


# --- properties ------------------------------------------------------------------------

names = st.sampled_from(["", "io", "b"])
entries = st.builds(
    RegionEntry,
    type=st.sampled_from(RegionKind),
    name=st.sampled_from(["", "i*", "b"]),
    min_size=st.sampled_from(["", "8Ki", "16Ki"]),
    max_size=st.sampled_from(["", "16Ki", "32Ki"]),
    permissions=st.sampled_from(["", "rw-", "rwx"]),
)
rule_lists = st.lists(
    st.tuples(st.lists(entries, min_size=1, max_size=3), st.lists(entries, max_size=1)), max_size=4
).map(lambda parts: [rule(f"r{i}", *e, exclude=tuple(x)) for i, (e, x) in enumerate(parts)])


@st.composite
def address_spaces(draw):
    address, found = 0x10000, []
    for _ in range(draw(st.integers(0, 12))):
        start = address + draw(st.sampled_from([0, 0, 4096]))
        address = start + draw(st.sampled_from([4096, 8192, 16384]))
        found.append(
            Region(
                start=start,
                end=address,
                kind=draw(st.sampled_from(KINDS)),
                shared=draw(st.integers(0, 4)) == 0,
                name=draw(names),
                permissions=draw(st.sampled_from(["rw-", "rwx", "---"])),
                own=draw(st.booleans()),
            )
        )
    return found


@given(address_spaces())
def test_extents_cover_exactly_the_regions(regions):
    made = list(extents(regions))
    assert [r for extent in made for r in extent.regions] == regions
    for extent in made:
        assert extent.size == sum(r.size for r in extent.regions)
        assert len({(r.kind, r.shared, r.executable) for r in extent.regions}) == 1
    assert not any(joins(a.regions[-1], b.regions[0]) for a, b in pairwise(made))


@given(rule_lists, address_spaces(), st.randoms())
def test_the_order_of_regions_does_not_matter(rules, regions, random):
    matcher = Matcher(rules)
    expected = dict(zip(map(id, regions), matcher.match(regions), strict=True))
    shuffled = random.sample(regions, len(regions))
    found = dict(zip(map(id, shuffled), Matcher(rules).match(shuffled), strict=True))
    assert found == expected == dict(zip(map(id, regions), matcher.match(regions), strict=True))


@given(rule_lists, address_spaces())
def test_each_rule_either_wins_or_says_why_not(rules, regions):
    for match in Matcher(rules).match(regions):
        told = [why_not.rule for why_not in match.why_not]
        assert told == [r.name for r in rules if r is not match.rule]
        before = told if match.rule is None else told[: rules.index(match.rule)]
        early = [w for w in match.why_not if w.reason is Mismatch.EARLIER_RULE]
        assert not any(w.rule in before for w in early)


@given(rule_lists, address_spaces())
def test_policies_decide_nothing(rules, regions):
    other = [
        Region(
            start=r.start,
            end=r.end,
            kind=r.kind,
            shared=r.shared,
            name=r.name,
            permissions=r.permissions,
            policy=Policy(Mode.LOCAL),
            own=not r.own,
        )
        for r in regions
    ]
    assert Matcher(rules).match(other) == Matcher(rules).match(regions)


def test_of_several_entries_the_nearest_says_why_not():
    assert why([rule("r", entry(name="x"), entry("File"))], region()) == [
        ("r", Mismatch.OTHER_NAME)
    ]
    assert why([rule("r", entry(name="x"), entry(min_size="1Gi"))], region()) == [
        ("r", Mismatch.TOO_SMALL)
    ]
