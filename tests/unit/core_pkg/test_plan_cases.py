# SPDX-License-Identifier: Apache-2.0
"""Single cases of the plan, each one a sentence of the contract."""

import pytest
from memplace.api.v1alpha1 import PolicySpec, RegionEntry, Rule
from memplace.kinds import ExistingPages, Mode, Policy, RegionKind
from memplace.matching import Matcher
from memplace.objects import ObjectId
from memplace.policy import Plan, plan
from memplace.problems import Problem
from memplace.reasons import Reason
from memplace.regions import Region
from msgspec import UNSET, structs

TIERS = {"dram": frozenset({0}), "cxl": frozenset({1, 2})}
ALL = frozenset({0, 1, 2})
MOVE, LEAVE = ExistingPages.MOVE, ExistingPages.LEAVE


def heap(policy=None, **rest):
    return Region(
        start=0x1000,
        end=0x9000,
        kind=RegionKind.BRK,
        policy=policy or Policy(Mode.DEFAULT),
        own=policy is not None,
        **rest,
    )


def rule(mode="PreferredMany", *tiers, existing=UNSET, kind="Heap", name="r", override=False):
    spec = PolicySpec(mode=Mode(mode), tiers=tiers)
    entry = RegionEntry(type=RegionKind(kind))
    return Rule(
        name=name, regions=(entry,), policy=spec, existing_pages=existing, override=override
    )


def made(*rules_and_regions, allowed=ALL, ours=True, **rest) -> Plan:
    rules = [item for item in rules_and_regions if isinstance(item, Rule)]
    regions = [item for item in rules_and_regions if isinstance(item, Region)]
    return plan(
        Matcher(rules),
        tiers=TIERS,
        allowed=allowed,
        regions=regions,
        ours=lambda region: ours and region.own,
        **rest,
    )


def test_a_heap_goes_to_the_tier():
    result = made(rule("PreferredMany", "cxl"), heap(pages={0: 4096, 1: 8192}))
    (step,), (move,) = result.policies, result.moves
    assert step.policy == move.policy == Policy(Mode.PREFERRED_MANY, frozenset({1, 2}))
    assert (step.previous, step.own) == (Policy(Mode.DEFAULT), False)
    assert (move.nodes, move.bytes, move.move_all) == (frozenset({1, 2}), 4096, True)
    assert not result.is_done


def test_policies_do_not_wait_for_moves():
    assert len(made(rule("Bind", "cxl"), heap()).policies) == 1
    assert made(rule("Bind", "cxl"), heap()).moves == ()


def test_preferred_names_the_first_node_only_as_the_kernel_does():
    (step,) = made(rule("Preferred", "cxl"), heap()).policies
    assert step.policy == Policy(Mode.PREFERRED, frozenset({1}))


def test_tiers_are_taken_together():
    (step,) = made(rule("Interleave", "cxl", "dram"), heap()).policies
    assert step.policy.nodes == {0, 1, 2}


def test_a_tier_that_is_missing_here_does_not_spoil_the_others():
    result = made(rule("Bind", "hbm", "cxl"), heap())
    assert result.policies[0].policy.nodes == {1, 2}
    assert result.problems == ()


@pytest.mark.parametrize("existing", [MOVE, UNSET])
def test_misplaced_pages_are_moved_though_the_policy_is_right(existing):
    right = Policy(Mode.BIND, frozenset({1, 2}))
    a_rule = rule("Bind", "cxl", existing=existing)
    result = made(a_rule, heap(right, pages={0: 8192, 1: 4096}))
    assert [move.bytes for move in result.moves] == [8192]
    assert result.policies == ()
    assert result.rules[0].misplaced_bytes == 8192


def test_misplaced_pages_are_left_when_the_rule_says_so():
    right = Policy(Mode.BIND, frozenset({1, 2}))
    result = made(rule("Bind", "cxl", existing=LEAVE), heap(right, pages={0: 8192}))
    assert result.is_done
    assert result.rules[0].misplaced_bytes == 0
    assert result.rules[0].numa_bytes == {0: 8192}


def test_flags_of_a_policy_count():
    static = Policy(Mode.BIND, frozenset({1, 2}), frozenset({"static"}))
    assert len(made(rule("Bind", "cxl"), heap(static)).policies) == 1


@pytest.mark.parametrize("mode", ["Default", "Local"])
def test_modes_without_nodes_leave_pages_and_misplace_nothing(mode):
    result = made(
        rule(mode), heap(Policy(Mode.BIND, frozenset({1})), pages={0: 4096}), allowed=frozenset()
    )
    (step,) = result.policies
    assert step.policy == Policy(Mode(mode))
    assert result.moves == ()
    assert (result.rules[0].misplaced_bytes, result.problems) == (0, ())
    assert made(rule(mode), heap(step.policy, pages={0: 4096})).is_done


def test_a_mapping_under_the_tasks_policy_has_none_of_its_own():
    bind = Policy(Mode.BIND, frozenset({0}))
    under_task = structs.replace(heap(), policy=bind)
    assert made(rule("Default"), under_task).is_done
    (step,) = made(rule("Bind", "cxl"), under_task).policies
    assert (step.previous, step.own) == (Policy(Mode.DEFAULT), False)


def test_a_move_under_the_tasks_policy_sets_one_and_remembers_that_there_was_none():
    right = Policy(Mode.BIND, frozenset({0}))
    under_task = structs.replace(heap(pages={1: 4096}), policy=right)
    result = made(rule("Bind", "dram"), under_task)
    assert len(result.moves) == 1
    assert [(s.previous, s.own) for s in result.policies] == [(Policy(Mode.DEFAULT), False)]
    assert made(rule("Bind", "dram"), structs.replace(under_task, pages={0: 4096})).is_done


@pytest.mark.parametrize(
    ("tier", "allowed", "reason", "words"),
    [
        ("typo", ALL, "TierUnknown", "no tier is called typo; this node has: cxl, dram"),
        ("hbm", ALL, "TierNotOnNode", "no memory of tier hbm"),
        ("mine", ALL, "TierNotOnNode", "no memory of tier mine"),
        ("cxl", frozenset({0}), "NotAllowedByCpuset", "NUMA nodes 1-2 of tier cxl"),
        ("cxl", frozenset(), "NotAllowedByCpuset", "cpuset.mems"),
    ],
)
def test_a_rule_without_a_usable_node_is_a_problem_and_does_nothing(tier, allowed, reason, words):
    region = heap(pages={0: 4096})
    result = made(
        rule("Bind", tier), region, allowed=allowed, known_tiers={"dram", "cxl", "hbm", "mine"}
    )
    (problem,) = result.problems
    assert isinstance(problem, Problem)
    assert (problem.rule, problem.reason) == ("r", reason)
    assert words in problem.message
    assert result.is_done
    assert (result.rules[0].bytes, result.rules[0].misplaced_bytes) == (4096, 4096)


def test_a_rule_with_a_problem_does_not_hand_its_regions_on():
    rules = [rule("Bind", "typo", name="first"), rule("Bind", "cxl", name="second")]
    result = made(*rules, heap())
    assert result.is_done
    assert [r.regions for r in result.rules] == [1, 0]


def test_the_cpuset_narrows_a_tier():
    (step,) = made(rule("Bind", "cxl"), heap(), allowed=frozenset({0, 2})).policies
    assert step.policy.nodes == {2}


def test_nothing_to_do_for_no_rules():
    assert made(heap()) == Plan()


# --- memory that other processes may map -----------------------------------------------


@pytest.mark.parametrize("kind", ["File", "Shared", "HugeTLB"])
def test_what_others_may_map_is_left_alone_with_a_reason(kind):
    shared = Region(start=0, end=4096, kind=RegionKind(kind), shared=True, pages={0: 4096})
    result = made(rule("Bind", "cxl", kind=kind), shared)
    assert result.is_done
    (problem,) = result.problems
    assert (problem.rule, problem.reason) == ("r", "SharedNotSupported")
    assert "1 regions are left alone" in problem.message
    assert result.rules[0].regions == 0


@pytest.mark.parametrize("kind", ["File", "HugeTLB"])
def test_private_mappings_of_files_are_placed_and_their_pages_are_not_moved_along(kind):
    region = Region(start=0, end=4096, kind=RegionKind(kind), pages={0: 4096})
    result = made(rule("Bind", "cxl", kind=kind), region)
    assert result.problems == ()
    assert [move.move_all for move in result.moves] == [False]


def test_a_rule_for_shared_memory_has_no_problem_before_there_is_any():
    assert made(rule("Bind", "cxl", kind="Shared")).problems == ()


def test_shared_memory_that_may_be_placed_is_moved_with_all_who_map_it():
    of = ObjectId(0, 1, 7)
    region = Region(
        start=0, end=4096, kind=RegionKind.SHARED, shared=True, pages={0: 4096}, object=of
    )
    asked = []
    result = made(
        rule("Bind", "cxl", kind="Shared"),
        region,
        sharing=lambda rule, region: asked.append((rule.name, region)),
    )
    assert asked == [("r", region)]
    assert result.problems == ()
    assert [(move.move_all, move.object) for move in result.moves] == [(True, of)]
    assert [step.start for step in result.policies] == [0]


def test_what_others_came_to_map_gets_back_what_it_had_and_what_no_rule_means_does_not():
    """The latter another process may have by a rule: objects end elsewhere."""
    region = Region(
        start=0,
        end=4096,
        kind=RegionKind.SHARED,
        shared=True,
        policy=Policy(Mode.BIND, frozenset({2})),
        own=True,
    )
    why = Reason.SHARED_WITH_OTHERS, "process 3 maps it"
    foreign = made(
        rule("Bind", "cxl", kind="Shared"),
        region,
        sharing=lambda *_: why,
    )
    assert foreign.released == (region,)
    assert foreign.problems[0].reason == "SharedWithOthers"
    other = made(rule("Bind", "cxl", kind="File"), region)
    assert other.released == () and other.is_done


def test_of_two_problems_of_a_rule_the_tier_is_said():
    (problem,) = made(rule("Bind", "typo", kind="Shared")).problems
    assert problem.reason == "TierUnknown"


# --- policies of the program's own -----------------------------------------------------


def test_a_policy_of_the_programs_own_wins():
    bound = heap(Policy(Mode.BIND, frozenset({0})), pages={0: 4096})
    result = made(rule("Bind", "cxl"), bound, ours=False)
    assert result.is_done
    (found,) = result.rules
    assert (found.own_regions, found.regions, found.bytes, found.misplaced_bytes) == (1, 0, 0, 0)


def test_a_rule_that_overrides_takes_it_and_knows_what_was_there():
    before = Policy(Mode.BIND, frozenset({0}))
    overriding = rule("Bind", "cxl", override=True)
    result = made(overriding, heap(before, pages={0: 4096}), ours=False)
    assert [(step.previous, step.own) for step in result.policies] == [(before, True)]
    assert len(result.moves) == 1
    assert result.rules[0].own_regions == 0


def test_a_policy_of_the_programs_own_that_is_right_is_still_its_own():
    right = heap(Policy(Mode.BIND, frozenset({1, 2})), pages={0: 4096})
    result = made(rule("Bind", "cxl"), right, ours=False)
    assert result.is_done
    assert result.rules[0].own_regions == 1


# --- sizes -----------------------------------------------------------------------------

MIB = 1 << 20


def sized(**keys):
    entry = RegionEntry(type=RegionKind.ANONYMOUS, **keys)
    return Rule(
        name="large",
        regions=(entry,),
        policy=PolicySpec(mode=Mode.PREFERRED_MANY, tiers=("cxl",)),
    )


def anonymous(start, size, **rest):
    return Region(start=start, end=start + size, kind=RegionKind.ANONYMOUS, **rest)


CXL = Policy(Mode.PREFERRED_MANY, frozenset({1, 2}))


def test_growth_next_to_a_placed_region_is_placed():
    placed = anonymous(0x20000000, 4 * MIB, policy=CXL, own=True)
    grown = anonymous(placed.end, MIB)
    (step,) = made(sized(min_size="4Mi"), placed, grown).policies
    assert step.start == grown.start


def test_a_hole_in_a_placed_region_releases_neither_half():
    halves = [
        anonymous(start, 2 * MIB, policy=CXL, own=True, pages={1: 4096})
        for start in (0x20000000, 0x20300000)
    ]
    result = made(sized(min_size="4Mi"), *halves)
    assert result.is_done
    assert result.rules[0].regions == 2
    (new,) = made(sized(min_size="4Mi"), *halves, ours=False).rules
    assert (new.regions, new.own_regions) == (0, 0)


def test_a_placed_region_that_grows_beyond_twice_its_bound_is_released():
    for size, regions in ((8 * MIB, 1), (8 * MIB + 4096, 0)):
        region = anonymous(0x20000000, size, policy=CXL, own=True)
        assert made(sized(max_size="4Mi"), region).rules[0].regions == regions


# --- interleaving ----------------------------------------------------------------------


def test_interleaving_is_to_be_even_and_weighted_by_the_weights():
    both = ("dram", "cxl")
    weights = {0: 4, 1: 1, 2: 1}

    def found(a_rule, **rest):
        return made(a_rule, heap(), **rest).rules[0].weights

    assert found(rule("Interleave", *both)) == {0: 1, 1: 1, 2: 1}
    assert found(rule("WeightedInterleave", *both), weights=weights) == weights
    assert found(rule("WeightedInterleave", *both)) == {}
    assert found(rule("WeightedInterleave", *both), weights={0: 1}) == {}
    assert found(rule("Bind", *both)) == {}
    assert found(rule("Interleave", *both, existing=LEAVE)) == {}


# --- what is to be given back ----------------------------------------------------------


def test_what_no_rule_means_any_more_is_released():
    placed = heap(CXL)
    result = made(placed, heap())
    assert result.released == (placed,)
    assert not result.is_done
    assert made(placed, ours=False).is_done


def test_shared_memory_that_carries_our_policy_is_released():
    shared = Region(start=0, end=4096, kind=RegionKind.SHARED, shared=True, policy=CXL, own=True)
    assert made(rule("Bind", "cxl", kind="Shared"), shared).released == (shared,)
