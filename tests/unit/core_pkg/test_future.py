# SPDX-License-Identifier: Apache-2.0
"""A default for mappings to come is given only if all that is born under it follows its rule."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import PolicySpec, RegionEntry, Rule
from memplace.entries import ProcessName
from memplace.future import (
    BORN,
    Cause,
    FutureNotPossible,
    Implied,
    explain_future,
    future_policy,
    implied_future,
)
from memplace.kinds import Mode, Policy, RegionKind
from memplace.matching import Matcher
from memplace.regions import Region

PAGE = 4096
MIB = 1 << 20


def entry(kind="Heap", **keys):
    return RegionEntry(type=RegionKind(kind), **keys)


def rule(name, *entries, exclude=(), mode=Mode.LOCAL):
    return Rule(name=name, regions=entries, policy=PolicySpec(mode=mode), exclude=exclude)


def implied(*rules):
    """For brk and mmap: rule and least size, or the cause and the rule it names."""
    future = implied_future(rules)
    return [
        (each.rule.name, each.least) if isinstance(each, Implied) else (each.cause, each.rule)
        for each in (future.brk, future.mmap)
    ]


def test_a_rule_on_heap_is_kept_for_all_of_it():
    assert implied(rule("r", entry("Heap"))) == [("r", 0), ("r", 0)]


def test_brk_and_mmap_may_follow_different_rules():
    both = (rule("a", entry("Anonymous")), rule("b", entry("Heap")))
    assert implied(*both) == [("b", 0), ("a", 0)]
    assert implied(rule("b", entry("Brk"))) == [("b", 0), (Cause.NO_RULE, "")]


def test_rules_on_other_memory_are_in_nobodys_way():
    before = rule("code", entry("Anonymous", permissions="r-x"), entry("Stack"), entry("File"))
    without = rule("r", entry("Heap"), exclude=(entry("Stack"), entry("Shared", name="a")))
    assert implied(before, without) == [("r", 0), ("r", 0)]


@pytest.mark.parametrize(
    ("keys", "cause"),
    [
        ({"name": "io-*"}, Cause.NAME),
        ({"process": "redis"}, Cause.PROCESS),
        ({"permissions": "rw-"}, Cause.PERMISSIONS),
        ({"max_size": "1Gi"}, Cause.MAX_SIZE),
        ({"name": "?*"}, Cause.NAME),
    ],
)
def test_what_the_kernel_does_not_know_prevents_a_default(keys, cause):
    narrow = rule("narrow", entry("Anonymous", **keys))
    assert implied(narrow)[1] == (cause, "narrow")
    # It takes a part of what a rule behind it means, too.
    assert implied(narrow, rule("wide", entry("Heap"))) == [("wide", 0), (cause, "narrow")]
    # What has no other rule's memory in it is no part: the wider entry means all of it.
    assert implied(rule("r", *narrow.regions, entry("Anonymous")))[1] == ("r", 0)


def test_a_pattern_that_means_everything_is_none():
    assert implied(rule("r", entry("Anonymous", name="*", process="**")))[1] == ("r", 0)


def test_an_exclude_that_may_mean_a_part_prevents_it():
    without = rule("r", entry("Heap"), exclude=(entry("Anonymous", name="io-*"),))
    assert implied(without) == [("r", 0), (Cause.EXCLUDE, "r")]
    behind = implied(without, rule("rest", entry("Heap")))
    assert behind == [("r", 0), (Cause.EXCLUDE, "r")]


def test_the_smallest_size_is_kept_for_mmap_and_prevents_brk():
    least = rule("r", entry("Heap", min_size="1Mi"), entry("Anonymous", min_size="64Ki"))
    assert implied(least) == [(Cause.MIN_SIZE, "r"), ("r", 64 << 10)]
    # What is smaller follows another rule by its own size, or this one by its neighbours.
    assert implied(least, rule("small", entry("Heap"))) == implied(least)


def test_what_only_a_part_may_be_smaller_than_is_no_smallest_size():
    named = rule("r", entry("Anonymous", name="io"), entry("Anonymous", min_size="64Ki"))
    assert implied(named)[1] == ("r", 64 << 10)


def test_a_rule_that_asks_for_no_policy_needs_no_default():
    off = rule("off", entry("Heap"), mode=Mode.DEFAULT)
    assert implied(off, rule("r", entry("Heap"))) == [(Cause.NO_POLICY, "off")] * 2


def test_bind_is_never_a_default():
    nodes = frozenset({1, 2})
    assert future_policy(Policy(Mode.BIND, nodes)) == Policy(Mode.PREFERRED_MANY, nodes)
    others = [mode for mode in Mode if mode is not Mode.BIND]
    assert [future_policy(Policy(mode)).mode for mode in others] == others


def test_each_cause_has_a_sentence_that_names_the_rule():
    for cause in Cause:
        assert ("r-1" in FutureNotPossible(cause, "r-1").text) is (cause is not Cause.NO_RULE)


def test_the_page_of_conditions_has_each_cause():
    text = (Path(__file__).parents[3] / "docs/reference/conditions.md").read_text()
    rows = [f"- {FutureNotPossible(cause, '…').text}" for cause in Cause]
    assert "\n".join(rows) in text


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        (
            [rule("r", entry("Heap"))],
            "brk() by rule r from the first page; mmap() by rule r from the first page",
        ),
        (
            [rule("r", entry("Anonymous", min_size="1Mi"))],
            "brk() not: no rule means it (FutureNotPossible); "
            "mmap() of 1Mi or more by rule r from the first page",
        ),
        (
            [rule("values", entry("Heap", process="redis"))],
            "not from the first page: rule values selects by process (FutureNotPossible)",
        ),
    ],
)
def test_it_is_said_in_one_sentence(rules, sentence):
    assert explain_future(implied_future(rules)) == sentence


# --- for every list of rules and every mapping to come ---

NAMES = st.sampled_from(["", "*", "a", "a*"])
SIZES = st.sampled_from(["", "4Ki", "8Ki", "64Ki"])
KINDS = [RegionKind.HEAP, RegionKind.BRK, RegionKind.ANONYMOUS, RegionKind.STACK, RegionKind.FILE]


@st.composite
def entries(draw):
    kind = draw(st.sampled_from([*KINDS, RegionKind.HEAP, RegionKind.ANONYMOUS]))
    few = draw(st.integers(0, 3)) == 0  # most entries are wide, or there would be no default
    keys = {"min_size": draw(SIZES)} if draw(st.booleans()) else {}
    if few:
        keys["max_size"] = draw(SIZES)
        keys["process"] = draw(NAMES)
        keys["permissions"] = draw(st.sampled_from(["", "rw-", "---", "r-x"]))
        if kind is RegionKind.ANONYMOUS:
            keys["name"] = draw(NAMES)
    if kind is RegionKind.HEAP and keys.get("permissions") == "r-x":
        keys["permissions"] = ""  # the API refuses it
    return RegionEntry(type=kind, **keys)


RULES = st.lists(
    st.tuples(
        st.lists(entries(), min_size=1, max_size=3),
        st.one_of(st.just([]), st.lists(entries(), max_size=2)),
        st.sampled_from([Mode.LOCAL, Mode.DEFAULT]),
    ),
    min_size=1,
    max_size=4,
).map(
    lambda all_: [
        rule(f"r{n}", *regions, exclude=tuple(exclude), mode=mode)
        for n, (regions, exclude, mode) in enumerate(all_)
    ]
)


@st.composite
def mapping(draw, kind=None):
    """Pages, permissions and name: anything that can be born, or what it becomes at once."""
    kind = kind or draw(st.sampled_from([RegionKind.BRK, RegionKind.ANONYMOUS]))
    permissions = "".join(draw(st.sampled_from(p)) for p in ("r-", "w-")) + "-"
    name = draw(st.sampled_from(["", "a", "ab", "b"]))
    return kind, draw(st.integers(1, 20)), permissions, name


def laid_out(mappings):
    at, found = 0x10000, []
    for kind, pages, permissions, name in mappings:
        end = at + pages * PAGE
        found.append(
            Region(start=at, end=end, kind=kind, permissions=permissions, name=name),
        )
        at = end
    return found


@given(
    RULES,
    mapping(),
    st.lists(mapping(), max_size=2),
    st.lists(mapping(), max_size=2),
    st.sampled_from(["a", "b"]),
)
@example([rule("r0", entry("Heap", max_size="64Ki"))], (RegionKind.BRK, 1, "rw-", ""), [], [], "a")
def test_what_is_born_under_a_default_follows_its_rule(rules, born, below, above, comm):
    kind, pages, *_ = born
    default = implied_future(rules).of(kind)
    if isinstance(default, FutureNotPossible) or pages * PAGE < default.least:
        return
    regions = laid_out([*below, born, *above])
    match = Matcher(rules).match(regions, ProcessName(comm, f"/{comm}"))[len(below)]
    assert match.rule == default.rule
    assert match.rule.policy.mode is not Mode.DEFAULT


@given(RULES)
def test_a_default_is_given_where_nothing_can_be_wrong(rules):
    """The other way round, for rules on sizes only: what is refused would have been wrong."""
    for kind in BORN:
        found = implied_future(rules).of(kind)
        first = next(
            (r for r in rules if any(e.type in (kind, RegionKind.HEAP) for e in r.regions)), None
        )
        if first is None:
            assert found == FutureNotPossible(Cause.NO_RULE)
        elif first.policy.mode is not Mode.DEFAULT and all(
            not (e.name or e.process or e.permissions or e.max_size)
            for e in (*first.regions, *first.exclude)
        ):
            takes_out = any(e.type in (kind, RegionKind.HEAP) for e in first.exclude)
            sizes = [e.min_bytes for e in first.regions if e.type in (kind, RegionKind.HEAP)]
            is_brk = kind is RegionKind.BRK and min(sizes) > 0
            assert isinstance(found, Implied) is not (takes_out or is_brk)
