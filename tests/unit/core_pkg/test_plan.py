# SPDX-License-Identifier: Apache-2.0
"""The heart: whatever rules and regions there are, the plan keeps its promises."""

from hypothesis import given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import PolicySpec, RegionEntry, Rule
from memplace.kinds import ExistingPages, Mode, Policy, RegionKind
from memplace.matching import Matcher
from memplace.policy import plan
from memplace.regions import Region
from msgspec import UNSET, structs

MIB = 1 << 20
TIERS = {"dram": frozenset({0, 1}), "cxl": frozenset({2, 3}), "far": frozenset({4})}
ALL = frozenset(range(5))

KINDS = [kind for kind in RegionKind if kind is not RegionKind.HEAP]
node_sets = st.frozensets(st.integers(0, 6), max_size=7)
sizes = st.sampled_from(["", "1Mi", "2Mi", "4Mi"])
entries = st.builds(
    RegionEntry,
    type=st.sampled_from(RegionKind),
    name=st.sampled_from(["", "a*", "io"]),
    path=st.sampled_from(["", "/a*"]),
    min_size=sizes,
    max_size=sizes,
    permissions=st.sampled_from(["", "", "rw-", "rwx"]),
)


@st.composite
def some_rules(draw, /, **fixed):
    count = draw(st.integers(0, 4))
    return tuple(draw(one_rule(f"r{i}", **fixed)) for i in range(count))


@st.composite
def one_rule(draw, name, *, wide=False):
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
        override=draw(st.booleans()),
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
                kind=draw(st.sampled_from(KINDS)),
                shared=draw(st.booleans()),
                name=draw(st.sampled_from(["", "ab", "io"])),
                path=draw(st.sampled_from(["", "/ab"])),
                policy=draw(policies),
                pages=draw(
                    st.dictionaries(st.integers(0, 6), st.integers(1, 9).map(lambda n: n * 4096))
                ),
                special=draw(st.integers(0, 9)) == 0,
                permissions=draw(st.sampled_from(["rw-", "rw-", "---", "rwx"])),
                own=draw(st.booleans()),
            )
        )
    return regions


# Whose a policy is that a region has of its own: memplace's, at these addresses.
@st.composite
def some_spaces(draw):
    regions = draw(some_regions())
    own = [region.start for region in regions if region.own]
    return regions, draw(st.frozensets(st.sampled_from(own))) if own else frozenset()


def make_plan(rules, allowed, regions, ours=frozenset()):
    return plan(
        Matcher(rules),
        tiers=TIERS,
        allowed=allowed,
        regions=regions,
        ours=lambda region: region.start in ours,
    )


def winners(rules, regions):
    found = Matcher(rules).match(regions)
    return {r.start: match.rule for r, match in zip(regions, found, strict=True) if match.rule}


def simulate(made, regions):
    """Do to the regions what the kernel would do, when every page can be moved."""
    steps = {step.start: step for step in made.policies}
    moves = {move.start: move for move in made.moves}
    back = {region.start for region in made.released}
    return [
        structs.replace(r, policy=Policy(Mode.DEFAULT), own=False)
        if r.start in back
        else moved(moves.get(r.start), after(steps.get(r.start), r))
        for r in regions
    ]


def after(step, region):
    if step is None:
        return region
    assert (step.start, step.end) == (region.start, region.end)
    # A policy of Default takes the mapping's own away; here the task has none either.
    return structs.replace(region, policy=step.policy, own=step.policy != Policy(Mode.DEFAULT))


def moved(move, region):
    if move is None:
        return region
    assert (move.start, move.end) == (region.start, region.end)
    assert region.policy == move.policy
    inside = {n: b for n, b in region.pages.items() if n in move.nodes}
    target = min(move.nodes)
    inside[target] = inside.get(target, 0) + move.bytes
    return region.holding(inside)


@given(some_rules(), node_sets, some_spaces())
def test_nothing_names_a_node_that_the_cpuset_forbids(rules, allowed, space):
    made = make_plan(rules, allowed, *space)
    for each in (*made.policies, *made.moves):
        assert each.policy.nodes <= allowed
        assert bool(each.policy.nodes) == each.policy.mode.takes_nodes
    assert all(move.nodes <= allowed for move in made.moves)
    for result in made.rules:
        assert result.nodes <= allowed
        assert frozenset(result.weights) <= allowed


@given(some_rules(wide=True), node_sets, some_spaces())
def test_nothing_names_a_node_outside_the_rules_tiers(rules, allowed, space):
    named = {r.name: frozenset().union(*(TIERS.get(t, ()) for t in r.policy.tiers)) for r in rules}
    made = make_plan(rules, allowed, *space)
    for each in (*made.policies, *made.moves):
        assert each.policy.nodes <= named[each.rule]


@given(some_rules(), node_sets, some_spaces())
def test_once_done_there_is_nothing_to_do(rules, allowed, space):
    regions, ours = space
    first = make_plan(rules, allowed, regions, ours)
    ours = ours | {step.start for step in first.policies}
    ours -= {region.start for region in first.released}
    done = simulate(first, regions)
    again = make_plan(rules, allowed, done, ours)
    assert again.is_done
    assert again.problems == first.problems
    troubled = {problem.rule for problem in again.problems}
    assert all(r.misplaced_bytes == 0 for r in again.rules if r.rule not in troubled)
    # Read back, it is the same again: what a rule holds does not depend on what it did.
    assert [(r.rule, r.regions, r.own_regions, r.bytes) for r in again.rules] == [
        (r.rule, r.regions, r.own_regions, r.bytes) for r in first.rules
    ]
    assert make_plan(rules, allowed, done, ours) == again


@given(some_rules(), node_sets, some_regions())
def test_steps_and_moves_are_exactly_for_what_differs(rules, allowed, regions):
    made = make_plan(rules, allowed, regions)
    wanted = {result.rule: result.nodes for result in made.rules}
    hopeless = {p.rule for p in made.problems if p.reason != "SharedNotSupported"}
    stepped = {step.start for step in made.policies}
    moves = {move.start: move.bytes for move in made.moves}
    won = winners(rules, regions)
    for region in regions:
        rule = won.get(region.start)
        left = rule is None or rule.name in hopeless or region.shared
        if left or (region.own and not rule.override):
            assert region.start not in {*stepped, *moves}
            continue
        right = Policy(rule.policy.mode, wanted[rule.name])
        wrong = region.bytes_outside(right.nodes) if rule.existing is ExistingPages.MOVE else 0
        assert moves.get(region.start, 0) == wrong
        had = region.policy if region.own else Policy(Mode.DEFAULT)
        assert region.start not in stepped or right != had
        assert region.start in stepped or region.policy == right or right == had


@given(some_rules(), node_sets, some_spaces())
def test_released_is_what_carries_our_policy_and_no_rule_may_touch(rules, allowed, space):
    regions, ours = space
    released = {region.start for region in make_plan(rules, allowed, regions, ours).released}
    meant = winners(rules, [r for r in regions if not r.shared])
    assert released <= ours
    # Within its bounds' slack a region may still be held; without rules none is.
    assert not released & meant.keys()
    # Objects end elsewhere: what no rule means here another process may have by one.
    private = {r.start for r in regions if not r.in_object}
    assert {r.start for r in make_plan((), allowed, regions, ours).released} == ours & private


@given(some_rules(), node_sets, some_regions())
def test_regions_that_no_rule_means_are_untouched_and_uncounted(rules, allowed, regions):
    meant = winners(rules, regions)
    made = make_plan(rules, allowed, regions)
    assert {each.start for each in (*made.policies, *made.moves)} <= meant.keys()
    assert sum(r.regions + r.own_regions for r in made.rules) <= len(meant)


@given(some_rules(wide=True), some_spaces())
def test_special_and_shared_mappings_and_code_are_never_touched(rules, space):
    made = make_plan(rules, ALL, *space)
    acted = {each.start for each in (*made.policies, *made.moves)}
    for region in space[0]:
        code = region.executable and region.kind in (RegionKind.BRK, RegionKind.ANONYMOUS)
        if region.special or region.shared or code:
            assert region.start not in acted


@given(some_rules(), node_sets, some_spaces())
def test_the_programs_own_policies_are_touched_by_rules_that_say_so_only(rules, allowed, space):
    regions, ours = space
    overriding = {rule.name for rule in rules if rule.override}
    theirs = {r.start for r in regions if r.own and r.start not in ours}
    made = make_plan(rules, allowed, regions, ours)
    for each in (*made.policies, *made.moves):
        assert each.start not in theirs or each.rule in overriding


@given(some_rules(), node_sets, some_spaces())
def test_steps_and_moves_describe_their_regions(rules, allowed, space):
    made = make_plan(rules, allowed, *space)
    by_start = {region.start: region for region in space[0]}
    for half in (made.policies, made.moves):
        assert [each.start for each in half] == sorted({each.start for each in half})
    for step in made.policies:
        region = by_start[step.start]
        had = region.policy if region.own else Policy(Mode.DEFAULT)
        assert (step.end, step.previous, step.own) == (region.end, had, region.own)
    for move in made.moves:
        region = by_start[move.start]
        private = region.kind in (RegionKind.BRK, RegionKind.STACK, RegionKind.ANONYMOUS)
        assert (move.end, move.move_all) == (region.end, private)
        assert move.nodes == move.policy.nodes
        assert move.bytes == region.bytes_outside(move.nodes) > 0


@given(some_rules(), node_sets, some_regions())
def test_results_measure_every_region_once(rules, allowed, regions):
    made = make_plan(rules, allowed, regions)
    meant = winners(rules, regions)
    won = [r for r in regions if r.start in meant and not r.shared]
    follow = [r for r in won if not r.own or meant[r.start].override]
    assert [result.rule for result in made.rules] == [rule.name for rule in rules]
    assert sum(result.regions for result in made.rules) == len(follow)
    assert sum(result.own_regions for result in made.rules) == len(won) - len(follow)
    assert sum(r.bytes for r in made.rules) == sum(sum(r.pages.values()) for r in follow)
    for result in made.rules:
        assert result.bytes == sum(result.numa_bytes.values())
        outside = sum(b for n, b in result.numa_bytes.items() if n not in result.nodes)
        rule = next(r for r in rules if r.name == result.rule)
        assert result.misplaced_bytes == (
            outside if rule.existing is ExistingPages.MOVE and rule.policy.mode.takes_nodes else 0
        )


@given(some_rules(), node_sets, some_spaces(), st.randoms())
def test_the_order_of_regions_does_not_matter(rules, allowed, space, random):
    regions, ours = space
    shuffled = random.sample(regions, len(regions))
    made = make_plan(rules, allowed, regions, ours)
    assert make_plan(rules, allowed, shuffled, ours) == made
