# SPDX-License-Identifier: Apache-2.0
"""The heart: whatever rules and regions there are, the plan keeps its promises."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import PolicySpec, RegionEntry, Rule
from memplace.kinds import ExistingPages, Mode, Policy, RegionKind
from memplace.policy import plan
from memplace.regions import Region, matches, winner
from msgspec import UNSET

MIB = 1 << 20
TIERS = {"dram": frozenset({0, 1}), "cxl": frozenset({2, 3}), "far": frozenset({4})}
ALL = frozenset(range(5))

node_sets = st.frozensets(st.integers(0, 6), max_size=7)
sizes = st.sampled_from(["", "1Mi", "2Mi", "4Mi"])
entries = st.builds(
    RegionEntry,
    type=st.sampled_from(RegionKind),
    name=st.sampled_from(["", "a*", "io"]),
    path=st.sampled_from(["", "/a*"]),
    min_size=sizes,
    max_size=sizes,
)


@st.composite
def some_rules(draw, /, **fixed):
    count = draw(st.integers(0, 4))
    return tuple(draw(one_rule(f"r{i}", **fixed)) for i in range(count))


@st.composite
def one_rule(draw, name, wide=False):
    mode = draw(st.sampled_from(Mode))
    names = st.sampled_from(["dram", "cxl", "far", "hbm", "typo"])
    tiers = draw(st.lists(names, min_size=1, max_size=3, unique=True)) if mode.takes_nodes else []
    existing = draw(st.sampled_from([UNSET, ExistingPages.MOVE, ExistingPages.LEAVE]))
    regions = (
        tuple(RegionEntry(type=kind) for kind in RegionKind)
        if wide
        else tuple(draw(st.lists(entries, min_size=1, max_size=4)))
    )
    return Rule(
        name=name,
        regions=regions,
        policy=PolicySpec(mode=mode, tiers=tuple(tiers)),
        exclude=tuple(draw(st.lists(entries, max_size=1))),
        existing_pages=existing if mode.takes_nodes else UNSET,
    )


policies = st.builds(
    Policy,
    st.sampled_from(Mode),
    st.frozensets(st.integers(0, 4), max_size=2),
    st.sampled_from([frozenset(), frozenset({"static"})]),
)


@st.composite
def some_regions(draw):
    address, regions = 0x400000, []
    for _ in range(draw(st.integers(0, 8))):
        start = address + draw(st.integers(0, 2)) * 4096
        address = start + draw(st.sampled_from([4096, MIB - 4096, MIB, 2 * MIB, 4 * MIB]))
        regions.append(
            Region(
                start=start,
                end=address,
                kind=draw(st.sampled_from(RegionKind)),
                shared=draw(st.booleans()),
                name=draw(st.sampled_from(["", "ab", "io"])),
                path=draw(st.sampled_from(["", "/ab"])),
                policy=draw(policies),
                pages=draw(
                    st.dictionaries(st.integers(0, 6), st.integers(1, 9).map(lambda n: n * 4096))
                ),
                special=draw(st.integers(0, 9)) == 0,
            )
        )
    return regions


def make_plan(rules, allowed, regions):
    return plan(rules, tiers=TIERS, allowed=allowed, regions=regions)


def simulate(actions, regions):
    """Do to the regions what the kernel would do, when every page can be moved."""
    by_start = {action.start: action for action in actions}
    return [
        after(by_start[region.start], region) if region.start in by_start else region
        for region in regions
    ]


def after(action, region):
    assert (action.start, action.end) == (region.start, region.end)
    pages = dict(region.pages)
    if action.existing is ExistingPages.MOVE and pages:
        inside = {n: b for n, b in pages.items() if n in action.policy.nodes}
        target = min(action.policy.nodes)
        inside[target] = inside.get(target, 0) + region.bytes_outside(action.policy.nodes)
        pages = {n: b for n, b in inside.items() if b}
    return replace(region, policy=action.policy, pages=pages)


@given(some_rules(), node_sets, some_regions())
def test_no_action_names_a_node_that_the_cpuset_forbids(rules, allowed, regions):
    made = make_plan(rules, allowed, regions)
    for action in made.actions:
        assert action.policy.nodes <= allowed
        assert bool(action.policy.nodes) == action.policy.mode.takes_nodes
    for result in made.rules:
        assert result.nodes <= allowed


@given(some_rules(wide=True), node_sets, some_regions())
def test_no_action_names_a_node_outside_the_rules_tiers(rules, allowed, regions):
    named = {r.name: frozenset().union(*(TIERS.get(t, ()) for t in r.policy.tiers)) for r in rules}
    for action in make_plan(rules, allowed, regions).actions:
        assert action.policy.nodes <= named[action.rule]


@given(some_rules(), node_sets, some_regions())
def test_once_done_there_is_nothing_to_do(rules, allowed, regions):
    first = make_plan(rules, allowed, regions)
    again = make_plan(rules, allowed, simulate(first.actions, regions))
    assert again.actions == ()
    assert again.problems == first.problems
    troubled = {problem.rule for problem in again.problems}
    assert all(r.misplaced_bytes == 0 for r in again.rules if r.rule not in troubled)


@given(some_rules(), node_sets, some_regions())
def test_actions_are_exactly_for_what_differs(rules, allowed, regions):
    made = make_plan(rules, allowed, regions)
    wanted = {result.rule: result.nodes for result in made.rules}
    troubled = {problem.rule for problem in made.problems}
    acted = {action.start: action for action in made.actions}
    for region in regions:
        rule = winner(rules, region)
        if rule is None or rule.name in troubled:
            assert region.start not in acted
            continue
        right = Policy(rule.policy.mode, wanted[rule.name])
        moves = rule.existing is ExistingPages.MOVE
        wrong_pages = moves and any(node not in right.nodes for node in region.pages)
        assert (region.start in acted) == (region.policy != right or wrong_pages)


@given(some_rules(wide=True), some_regions())
def test_the_first_rule_that_matches_wins(rules, regions):
    for action in make_plan(rules, ALL, regions).actions:
        region = next(r for r in regions if r.start == action.start)
        position = [rule.name for rule in rules].index(action.rule)
        for earlier in rules[:position]:
            assert not any(matches(e, region) for e in earlier.regions) or any(
                matches(e, region) for e in earlier.exclude
            )


@given(some_rules(), node_sets, some_regions())
def test_regions_that_no_rule_means_are_untouched_and_uncounted(rules, allowed, regions):
    meant = [r for r in regions if winner(rules, r)]
    without_the_rest = make_plan(rules, allowed, meant)
    assert make_plan(rules, allowed, regions) == without_the_rest
    assert {a.start for a in without_the_rest.actions} <= {r.start for r in meant}


@given(some_rules(wide=True), some_regions())
def test_special_and_unnamed_shared_mappings_are_never_touched(rules, regions):
    acted = {action.start for action in make_plan(rules, ALL, regions).actions}
    for region in regions:
        private_kind = region.kind in (RegionKind.HEAP, RegionKind.STACK, RegionKind.ANONYMOUS)
        if region.special or (region.shared and private_kind):
            assert region.start not in acted


@given(some_rules(), node_sets, some_regions())
def test_an_action_describes_its_region(rules, allowed, regions):
    made = make_plan(rules, allowed, regions)
    by_start = {region.start: region for region in regions}
    existing = {rule.name: rule.existing for rule in rules}
    assert [a.start for a in made.actions] == sorted({a.start for a in made.actions})
    for action in made.actions:
        region = by_start[action.start]
        assert (action.end, action.previous) == (region.end, region.policy)
        assert action.existing is existing[action.rule]
        private = region.kind in (RegionKind.HEAP, RegionKind.STACK, RegionKind.ANONYMOUS)
        assert action.move_all == private


@given(some_rules(), node_sets, some_regions())
def test_results_measure_every_region_once(rules, allowed, regions):
    made = make_plan(rules, allowed, regions)
    won = [region for region in regions if winner(rules, region)]
    assert [result.rule for result in made.rules] == [rule.name for rule in rules]
    assert sum(result.regions for result in made.rules) == len(won)
    assert sum(r.bytes for r in made.rules) == sum(sum(r.pages.values()) for r in won)
    for result in made.rules:
        assert result.bytes == sum(result.numa_bytes.values())
        outside = sum(b for n, b in result.numa_bytes.items() if n not in result.nodes)
        rule = next(r for r in rules if r.name == result.rule)
        assert result.misplaced_bytes == (
            outside if rule.existing is ExistingPages.MOVE and rule.policy.mode.takes_nodes else 0
        )


@given(some_rules(), node_sets, some_regions(), st.randoms())
def test_the_order_of_regions_does_not_matter(rules, allowed, regions, random):
    shuffled = random.sample(regions, len(regions))
    assert make_plan(rules, allowed, shuffled) == make_plan(rules, allowed, regions)
