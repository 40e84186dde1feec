# SPDX-License-Identifier: Apache-2.0
"""What is said of regions and rules: which wins, why not, and what a plan would do."""

from __future__ import annotations

import msgspec
import pytest
from memplace.api.v1alpha1 import PolicySpec, RegionEntry, Rule
from memplace.entries import ProcessName
from memplace.explain import Facts, Wish, explain, format_policy
from memplace.explain_rules import human_bytes
from memplace.explained import ProcessExplained, Reading
from memplace.kinds import ExistingPages, Mode, Policy, RegionKind
from memplace.matching import Matcher
from memplace.objects import ObjectId
from memplace.policy import plan
from memplace.problems import left_alone
from memplace.regions import Region

MIB = 1 << 20
TIERS = {"cxl": frozenset({1}), "dram": frozenset({0})}
CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}))


def region(start, size=MIB, kind=RegionKind.ANONYMOUS, **keys):
    pages = keys.pop("pages", {0: size})
    return Region(start=start, end=start + size, kind=kind, pages=pages, **keys)


def rule(rule_name="heap", kind=RegionKind.HEAP, tiers=("cxl",), existing=None, **keys):
    entry = RegionEntry(type=kind, **keys)
    spec = PolicySpec(mode=Mode.PREFERRED_MANY, tiers=tiers)
    extra = {} if existing is None else {"existing_pages": existing}
    return Rule(name=rule_name, regions=(entry,), policy=spec, **extra)


def explained(regions, rules=(), carried=(), most=0, *, may_share=False, **keys):
    facts = Facts(
        pid=1,
        name=ProcessName("redis", "/usr/bin/redis"),
        regions=regions,
        allowed=frozenset({0, 1}),
        tiers=TIERS,
        reading=Reading(policies="ProcmapQuery", bytes="Exact"),
        carried=carried,
        **keys,
    )
    if not rules:
        return explain(facts, None, most)
    matcher = Matcher(rules)
    planned = plan(
        matcher,
        tiers=TIERS,
        allowed=facts.allowed,
        regions=regions,
        process=facts.name,
        ours=facts.ours,
        sharing=(lambda *_: None) if may_share else left_alone,
    )
    return explain(facts, Wish("mp", matcher, planned), most)


def test_a_region_says_which_rule_it_follows_and_why_not_the_others():
    rules = [rule("large", min_size="8Mi"), rule("heap"), rule("text", RegionKind.FILE)]
    (row,) = explained([region(0x1000)], rules).regions
    assert row.rule == "heap"
    assert {why.rule: (why.reason, why.message) for why in row.why_not} == {
        "large": ("TooSmall", "minSize is 8Mi, its extent has 1Mi"),
        "text": ("OtherType", "type is File, it is Anonymous"),
    }


def test_adjacent_mappings_are_one_row_until_something_about_them_differs():
    parts = [
        region(0, permissions="r--"),
        region(MIB, permissions="rw-"),
        region(2 * MIB, name="io-1"),
        region(3 * MIB, policy=CXL, own=True),
    ]
    rows = explained(parts).regions
    assert [(row.mappings, row.name, row.policy_of) for row in rows] == [
        (2, "", "Process"),
        (1, "io-1", "Process"),
        (1, "", "Program"),
    ]
    assert [(row.permissions, row.size, row.extent) for row in rows] == [
        ("rw-", 2 * MIB, 4 * MIB),
        ("rw-", MIB, 4 * MIB),
        ("rw-", MIB, 4 * MIB),
    ]


def test_a_plan_is_told_in_sentences_with_what_it_is_about():
    (told,) = explained([region(0), region(4 * MIB, pages={0: MIB // 2, 1: 1})], [rule()]).rules
    assert told.plan == (
        "set PreferredMany on NUMA node 1 (cxl) on 2 ranges (2.0 MiB of addresses)",
        "move 1.5 MiB from NUMA node 0 (dram) to NUMA node 1 (cxl)",
    )
    assert (told.policies, told.misplaced, told.numa_nodes) == (2, MIB + MIB // 2, (1,))


def test_what_a_process_maps_three_times_is_there_once():
    views = [
        region(at, kind=RegionKind.SHARED, shared=True, object=ObjectId(0, 1, 5), pages={0: MIB})
        for at in (0, 4 * MIB, 8 * MIB)
    ]
    own = region(12 * MIB, pages={0: MIB})
    found = explained([*views, own], [rule("shm", RegionKind.SHARED)], may_share=True)
    assert [(told.resident, told.misplaced) for told in found.rules] == [(MIB, MIB)]
    assert [(node.id, node.bytes) for node in found.resident] == [(0, 2 * MIB)]
    assert [(tier.name, tier.bytes) for tier in found.by_tier] == [("dram", 2 * MIB)]
    assert [each.resident for each in found.regions] == [MIB] * 4
    assert "once in the sums" in found.notes[-1]
    assert explained([own], []).notes == ()


def test_what_is_in_place_needs_nothing():
    done = region(0, pages={1: MIB}, policy=CXL, own=True)
    (told,) = explained([done], [rule()], carried=[0]).rules
    assert told.plan == ("nothing: 1 mapping as the rule wants it",)
    (row,) = explained([done], [rule()], carried=[0]).regions
    assert (row.policy_of, row.plan) == ("Memplace", "")


def test_a_rule_without_a_region_says_why_it_gets_none_the_nearest_reason_first():
    regions = [
        region(0, kind=RegionKind.FILE, path="/a"),
        region(4 * MIB, name="cache"),
        region(8 * MIB, kind=RegionKind.STACK),
    ]
    (told,) = explained(regions, [rule("io", RegionKind.ANONYMOUS, name="io-*")]).rules
    assert told.plan == ("nothing: no region of this process follows it",)
    assert [why.message for why in told.why_not] == [
        "name is io-*, its is 'cache'",
        "type is Anonymous, it is File",
        "type is Anonymous, it is Stack",
    ]


@pytest.mark.parametrize(
    ("regions", "rules", "sentence"),
    [
        ([region(0, own=True, policy=CXL)], [rule()], "leave 1 mapping alone: the program set"),
        (
            [region(0)],
            [rule(existing=ExistingPages.LEAVE)],
            "leave 1.0 MiB where they are (existingPages: Leave)",
        ),
        ([region(0)], [rule(tiers=("hbm",))], "this node has no memory of tier hbm"),
        ([region(0)], [rule(tiers=("fast",))], "no tier is called fast"),
        (
            [region(0, kind=RegionKind.SHARED, shared=True)],
            [rule(kind=RegionKind.SHARED)],
            "memory that other processes may map is left alone",
        ),
    ],
)
def test_why_a_rule_does_not_do_all_is_said(regions, rules, sentence):
    (told,) = explained(regions, rules).rules
    assert any(sentence in each for each in told.plan), told.plan


def test_a_rule_that_can_mean_no_node_misplaces_nothing():
    (told,) = explained([region(0)], [rule(tiers=("hbm",))]).rules
    assert (told.problem, told.misplaced, told.policies) == ("TierNotOnNode", 0, 0)


def test_what_carries_our_policy_though_no_rule_means_it_is_given_back():
    told = explained([region(0, policy=CXL, own=True)], [rule("x", min_size="8Mi")], carried=[0])
    assert [row.plan for row in told.regions] == ["give the policy back"]


def test_of_too_many_regions_those_with_most_bytes_are_told_and_the_rest_is_counted():
    regions = [region(at * 4 * MIB, pages={0: at + 1}) for at in range(10)]
    told = explained(regions, most=3)
    assert [int(row.start, 16) // (4 * MIB) for row in told.regions] == [7, 8, 9]
    assert (told.cut.regions, told.cut.resident) == (7, sum(range(1, 8)))
    assert sum(node.bytes for node in told.resident) == sum(range(1, 11))
    assert [tier.name for tier in told.by_tier] == ["dram"]


def test_names_of_any_bytes_can_be_written_as_json():
    odd = region(0, kind=RegionKind.FILE, path=b"/tmp/\xff\n".decode("utf-8", "surrogateescape"))
    told = explained([odd])
    again = msgspec.json.decode(msgspec.json.encode(told), type=ProcessExplained)
    assert again == told
    assert again.regions[0].name == "/tmp/\\xff\n"


def test_without_known_policies_none_is_made_up():
    facts = Facts(
        pid=1,
        name=ProcessName("a", ""),
        regions=[region(0)],
        allowed=frozenset({0}),
        tiers=TIERS,
        reading=Reading(policies="Unknown", bytes="Exact"),
    )
    (row,) = explain(facts).regions
    assert (row.policy, row.policy_of) == ("", "")


def test_sizes_and_policies_are_written_as_people_read_them():
    sizes = {0: "0 B", 1023: "1.0 KiB", 999: "999 B", MIB: "1.0 MiB", 64_000 * MIB: "62.5 GiB"}
    assert {size: human_bytes(size) for size in sizes} == sizes
    flags = frozenset({"static"})
    assert format_policy(Policy(Mode.BIND, frozenset({0, 1}), flags)) == "Bind=static:0-1"
    assert format_policy(Policy(Mode.DEFAULT)) == "Default"
