# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.api import checks
from memplace.api.v1alpha1 import LabelSelector, PlacementSpec, PolicySpec, RegionEntry, Rule
from memplace.kinds import Mode, RegionKind
from memplace.matching import Matcher
from memplace.regions import Region
from memplace.validation import problems

CXL = PolicySpec(mode=Mode.BIND, tiers=("cxl",))


def entry(kind="Anonymous", **keys):
    return RegionEntry(type=RegionKind(kind), **keys)


def rule(name, *entries, exclude=(), policy=CXL):
    return Rule(name=name, regions=entries, policy=policy, exclude=exclude)


def spec(*rules):
    return PlacementSpec(selector=LabelSelector(), rules=rules)


entries = st.builds(
    RegionEntry,
    type=st.sampled_from([RegionKind.HEAP, RegionKind.ANONYMOUS, RegionKind.SHARED]),
    name=st.sampled_from(["", "*", "a*", "ab"]),
    min_size=st.sampled_from(["", "1Ki", "2Ki"]),
    max_size=st.sampled_from(["", "2Ki", "4Ki"]),
    permissions=st.sampled_from(["", "", "rw-", "rwx"]),
).filter(lambda e: e.type is not RegionKind.HEAP or not (e.name or e.permissions == "rwx"))
rule_lists = st.lists(
    st.tuples(st.lists(entries, min_size=1, max_size=2), st.lists(entries, max_size=1)),
    min_size=1,
    max_size=3,
).map(lambda parts: [rule(f"r{i}", *e, exclude=tuple(x)) for i, (e, x) in enumerate(parts)])


@st.composite
def address_spaces(draw):
    address, found = 0, []
    for _ in range(draw(st.integers(0, 8))):
        start = address + draw(st.sampled_from([0, 512]))
        address = start + draw(st.sampled_from([512, 1024, 2048, 4096, 8192]))
        found.append(
            Region(
                start=start,
                end=address,
                kind=draw(st.sampled_from([RegionKind.ANONYMOUS, RegionKind.SHARED])),
                name=draw(st.sampled_from(["", "a", "ab", "b"])),
                permissions=draw(st.sampled_from(["rw-", "rwx", "---"])),
            )
        )
    return found


@given(rule_lists, address_spaces())
def test_a_rule_that_is_called_pointless_never_wins(rules, regions):
    named = problems(spec(*rules))
    for match in Matcher(rules).match(regions):
        won = match.rule
        assert won is None or not any(f"spec.rules[{won.name[1:]}]" in text for text in named)


def test_a_sensible_spec_has_no_problems():
    assert problems(spec(rule("a", entry("Brk")), rule("b", entry(min_size="64Mi")))) == ()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (entry(), entry()),
        (entry(), entry(name="io-*")),
        (entry(name="*"), entry(name="x")),
        (entry(min_size="1Mi"), entry(min_size="1Mi")),
        (entry(min_size="1Mi"), entry(min_size="2Mi", max_size="4Mi")),
        (entry(max_size="4Mi"), entry(max_size="4096Ki")),
        (entry("Heap"), entry("Brk")),
        (entry("Heap"), entry(name="io")),
        (entry("Heap"), entry(permissions="rw-")),
        (entry("File"), entry("File", permissions="r-x")),
        (entry(process="a"), entry(process="a", min_size="1Mi")),
    ],
)
def test_a_rule_that_can_never_win_is_named_with_the_one_before_it(earlier, later):
    (problem,) = problems(spec(rule("first", earlier), rule("second", later)))
    assert "rule second can never win" in problem
    assert "first" in problem
    assert "put it first" in problem


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (entry("Brk"), entry()),
        (entry(), entry("Heap")),
        (entry("Heap"), entry("Stack")),
        (entry("Heap"), entry(permissions="rwx")),
        (entry(), entry(permissions="r-x")),
        (entry(permissions="rw-"), entry(permissions="r--")),
        (entry(process="a"), entry(process="b")),
        (entry(process="a"), entry()),
        # The extent of what is called io is smaller than that of all.
        (entry(max_size="4Mi"), entry(name="io", max_size="4Mi")),
        (entry("Heap", min_size="4Mi"), entry(permissions="rw-", min_size="4Mi")),
        (entry(name="a"), entry()),
        (entry(name="a*"), entry(name="b")),
        (entry(min_size="2Mi"), entry(min_size="1Mi")),
        (entry(min_size="1Mi"), entry()),
        (entry(max_size="1Mi"), entry(max_size="2Mi")),
        (entry(max_size="1Mi"), entry()),
    ],
)
def test_a_rule_that_can_win_is_not(earlier, later):
    assert problems(spec(rule("first", earlier), rule("second", later))) == ()


def test_an_earlier_rule_with_an_exclude_takes_nothing_for_sure():
    first = rule("first", entry(), exclude=(entry(name="io"),))
    assert problems(spec(first, rule("second", entry()))) == ()


def test_several_earlier_rules_may_take_it_all_together():
    found = problems(
        spec(rule("a", entry("Stack")), rule("b", entry()), rule("c", entry("Stack"), entry()))
    )
    assert len(found) == 1
    assert "a, b before" in found[0]


def test_an_exclude_that_takes_everything():
    (problem,) = problems(spec(rule("a", entry(name="x"), exclude=(entry(),))))
    assert "exclude of rule a takes away everything" in problem


def test_what_the_crd_refuses_is_said_first():
    bare = rule("a", entry(), policy=PolicySpec(mode=Mode.BIND))
    assert problems(spec(bare)) == (f"spec.rules[0].policy: {checks.NEEDS_TIERS}",)


def test_sizes_and_tiers_are_looked_at_too():
    twice = PolicySpec(mode=Mode.BIND, tiers=("cxl", "cxl"))
    size, tiers = problems(spec(rule("a", entry(min_size="64m"), policy=twice)))
    assert size == f"spec.rules[0].regions[0].minSize: {checks.NOT_A_SIZE}"
    assert tiers == "spec.rules[0].policy.tiers: a tier is there twice: write each of them once"
