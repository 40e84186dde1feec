# SPDX-License-Identifier: Apache-2.0
"""Single cases of the plan, each one a sentence of the contract."""

import pytest
from memplace.api.v1alpha1 import PolicySpec, RegionEntry, Rule
from memplace.kinds import ExistingPages, Mode, Policy, RegionKind
from memplace.policy import Plan, Problem, plan
from memplace.regions import Region
from msgspec import UNSET

TIERS = {"dram": frozenset({0}), "cxl": frozenset({1, 2})}
ALL = frozenset({0, 1, 2})
MOVE, LEAVE = ExistingPages.MOVE, ExistingPages.LEAVE


def heap(policy=None, **rest):
    return Region(
        start=0x1000,
        end=0x9000,
        kind=RegionKind.HEAP,
        policy=policy or Policy(Mode.DEFAULT),
        **rest,
    )


def rule(mode="PreferredMany", *tiers, existing=UNSET, kind="Heap", name="r"):
    spec = PolicySpec(mode=Mode(mode), tiers=tiers)
    entry = RegionEntry(type=RegionKind(kind))
    return Rule(name=name, regions=(entry,), policy=spec, existing_pages=existing)


def made(a_rule, *regions, allowed=ALL, **rest) -> Plan:
    return plan([a_rule], tiers=TIERS, allowed=allowed, regions=regions, **rest)


def test_a_heap_goes_to_the_tier():
    (action,) = made(rule("PreferredMany", "cxl"), heap(pages={0: 4096})).actions
    assert action.policy == Policy(Mode.PREFERRED_MANY, frozenset({1, 2}))
    assert (action.existing, action.move_all) == (MOVE, True)
    assert action.previous == Policy(Mode.DEFAULT)


def test_preferred_names_the_first_node_only_as_the_kernel_does():
    (action,) = made(rule("Preferred", "cxl"), heap()).actions
    assert action.policy == Policy(Mode.PREFERRED, frozenset({1}))


def test_tiers_are_taken_together():
    (action,) = made(rule("Interleave", "cxl", "dram"), heap()).actions
    assert action.policy.nodes == {0, 1, 2}


def test_a_tier_that_is_missing_here_does_not_spoil_the_others():
    result = made(rule("Bind", "hbm", "cxl"), heap())
    assert result.actions[0].policy.nodes == {1, 2}
    assert result.problems == ()


@pytest.mark.parametrize("existing", [MOVE, UNSET])
def test_misplaced_pages_are_moved_though_the_policy_is_right(existing):
    right = Policy(Mode.BIND, frozenset({1, 2}))
    a_rule = rule("Bind", "cxl", existing=existing)
    result = made(a_rule, heap(right, pages={0: 8192, 1: 4096}))
    assert [a.existing for a in result.actions] == [MOVE]
    assert result.rules[0].misplaced_bytes == 8192


def test_misplaced_pages_are_left_when_the_rule_says_so():
    right = Policy(Mode.BIND, frozenset({1, 2}))
    result = made(rule("Bind", "cxl", existing=LEAVE), heap(right, pages={0: 8192}))
    assert result.actions == ()
    assert result.rules[0].misplaced_bytes == 0
    assert result.rules[0].numa_bytes == {0: 8192}


def test_flags_of_a_policy_count():
    static = Policy(Mode.BIND, frozenset({1, 2}), frozenset({"static"}))
    assert len(made(rule("Bind", "cxl"), heap(static)).actions) == 1


@pytest.mark.parametrize("mode", ["Default", "Local"])
def test_modes_without_nodes_leave_pages_and_misplace_nothing(mode):
    result = made(
        rule(mode), heap(Policy(Mode.BIND, frozenset({1})), pages={0: 4096}), allowed=frozenset()
    )
    (action,) = result.actions
    assert action.policy == Policy(Mode(mode))
    assert action.existing is LEAVE
    assert (result.rules[0].misplaced_bytes, result.problems) == (0, ())
    assert made(rule(mode), heap(action.policy, pages={0: 4096})).actions == ()


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
def test_a_rule_without_a_usable_node_is_a_problem_and_no_action(tier, allowed, reason, words):
    region = heap(pages={0: 4096})
    result = made(
        rule("Bind", tier), region, allowed=allowed, known_tiers={"dram", "cxl", "hbm", "mine"}
    )
    (problem,) = result.problems
    assert isinstance(problem, Problem)
    assert (problem.rule, problem.reason) == ("r", reason)
    assert words in problem.message
    assert result.actions == ()
    assert (result.rules[0].bytes, result.rules[0].misplaced_bytes) == (4096, 4096)


def test_a_rule_with_a_problem_does_not_hand_its_regions_on():
    rules = [rule("Bind", "typo", name="first"), rule("Bind", "cxl", name="second")]
    result = plan(rules, tiers=TIERS, allowed=ALL, regions=[heap()])
    assert result.actions == ()
    assert [r.regions for r in result.rules] == [1, 0]


def test_the_cpuset_narrows_a_tier():
    (action,) = made(rule("Bind", "cxl"), heap(), allowed=frozenset({0, 2})).actions
    assert action.policy.nodes == {2}


@pytest.mark.parametrize("kind", ["File", "Shared", "HugeTLB"])
@pytest.mark.parametrize("shared", [True, False])
def test_what_others_may_map_is_not_moved_under_them(kind, shared):
    region = Region(start=0, end=4096, kind=RegionKind(kind), shared=shared)
    (action,) = made(rule("Bind", "cxl", kind=kind), region).actions
    assert not action.move_all


def test_nothing_to_do_for_no_rules():
    assert plan([], tiers=TIERS, allowed=ALL, regions=[heap()]) == Plan()
