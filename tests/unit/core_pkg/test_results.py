# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import NumaBytes, TierBytes
from memplace.policy import RuleResult
from memplace.results import (
    RESERVE_BYTES,
    bytes_per_tier,
    explain_misplaced,
    explain_own,
    merge_results,
    rule_report,
    uneven_bytes,
    without_room,
)

MIB = 1 << 20
TIERS = {"dram": frozenset({0, 1}), "cxl": frozenset({2})}
numa_bytes = st.dictionaries(st.integers(0, 4), st.integers(0, 2**40))
results = st.builds(
    RuleResult,
    rule=st.sampled_from(["a", "b"]),
    regions=st.integers(0, 5),
    bytes=st.integers(0, 99),
    numa_bytes=numa_bytes,
    misplaced_bytes=st.integers(0, 99),
    nodes=st.frozensets(st.integers(0, 3)),
    own_regions=st.integers(0, 5),
)


def left(size, nodes=frozenset({2})):
    return RuleResult(rule="values", misplaced_bytes=size, nodes=nodes)


@given(numa_bytes)
def test_no_byte_is_lost_between_nodes_and_tiers(numa_bytes):
    per_tier = bytes_per_tier(numa_bytes, TIERS)
    assert sum(tier.bytes for tier in per_tier) == sum(numa_bytes.values())
    names = [tier.name for tier in per_tier]
    assert len(set(names)) == len(names)


def test_tiers_come_by_name_and_other_last():
    assert bytes_per_tier({4: 1, 2: 2, 0: 4, 1: 8}, TIERS | {"zzz": frozenset({3})}) == (
        TierBytes(name="cxl", bytes=2),
        TierBytes(name="dram", bytes=12),
        TierBytes(name="other", bytes=1),
    )
    assert bytes_per_tier({0: 0}, TIERS) == ()


@given(st.lists(st.lists(results, max_size=2, unique_by=lambda r: r.rule), max_size=4))
def test_merging_adds_everything_up(plans):
    merged = merge_results(plans)
    flat = [result for results in plans for result in results]
    assert {r.rule for r in merged} == {r.rule for r in flat}
    assert len(merged) == len({r.rule for r in flat})
    for field in ("regions", "bytes", "misplaced_bytes", "own_regions"):
        assert sum(getattr(r, field) for r in merged) == sum(getattr(r, field) for r in flat)
    for result in merged:
        parts = [r for r in flat if r.rule == result.rule]
        assert sum(result.numa_bytes.values()) == sum(sum(r.numa_bytes.values()) for r in parts)
        assert result.nodes == frozenset().union(*(r.nodes for r in parts))


def test_a_report_lists_numa_nodes_in_order():
    report = rule_report(
        RuleResult(rule="r", regions=1, bytes=3, numa_bytes={2: 1, 0: 2}, own_regions=4)
    )
    assert report.numa_nodes == (NumaBytes(id=0, bytes=2), NumaBytes(id=2, bytes=1))
    assert (report.name, report.regions, report.bytes, report.misplaced_bytes) == ("r", 1, 3, 0)
    assert report.own_regions == 4


def test_nothing_misplaced_needs_no_explanation():
    assert explain_misplaced(left(0), {}, moved=True) is None
    assert explain_misplaced(left(0), {}, moved=False) is None


def test_before_a_move_it_is_moving_however_full_the_tier():
    explained = explain_misplaced(left(MIB), {2: 0}, moved=False)
    assert explained is not None
    assert explained.reason == "Moving"
    assert "1Mi" in explained.message


def test_a_tier_without_room_for_the_rest_is_full():
    exactly = {2: MIB + RESERVE_BYTES}
    full = explain_misplaced(left(MIB), {2: exactly[2] - 1, 0: 2**40}, moved=True)
    failed = explain_misplaced(left(MIB), exactly, moved=True)
    assert full is not None
    assert failed is not None
    assert (full.reason, failed.reason) == ("TierFull", "Failed")
    assert "1Mi did not fit" in full.message
    assert "1Mi could not be moved" in failed.message


def test_room_is_counted_over_all_wanted_nodes_and_unknown_ones_are_full():
    both = left(2 * MIB, frozenset({1, 2}))
    some_room = explain_misplaced(both, {1: MIB, 2: MIB}, moved=True, reserve_bytes=0)
    too_little = explain_misplaced(both, {1: MIB}, moved=True, reserve_bytes=0)
    assert some_room is not None
    assert too_little is not None
    assert (some_room.reason, too_little.reason) == ("Failed", "TierFull")


def spread(weights, **on_node):
    numa_bytes = {int(node[1:]): size for node, size in on_node.items()}
    return RuleResult(rule="i", numa_bytes=numa_bytes, nodes=frozenset(weights), weights=weights)


def test_all_pages_on_one_of_the_nodes_are_not_interleaved():
    explained = explain_misplaced(spread({0: 1, 1: 1}, n0=100 * MIB), {}, moved=True)
    assert explained is not None
    assert explained.reason == "Uneven"
    assert "50Mi would have to change NUMA nodes" in explained.message
    assert "100Mi on 0, 0 on 1" in explained.message


def test_a_tenth_may_lie_elsewhere():
    even = {0: 1, 1: 1}
    assert uneven_bytes(spread(even, n0=60 * MIB, n1=40 * MIB)) == 0
    assert uneven_bytes(spread(even, n0=61 * MIB, n1=39 * MIB)) == 11 * MIB


def test_weights_are_what_it_is_measured_by():
    weighted = {0: 3, 1: 1}
    assert uneven_bytes(spread(weighted, n0=75 * MIB, n1=25 * MIB)) == 0
    assert uneven_bytes(spread(weighted, n0=50 * MIB, n1=50 * MIB)) == 25 * MIB


def test_what_lies_outside_of_the_nodes_is_misplaced_and_not_uneven():
    assert uneven_bytes(spread({0: 1, 1: 1}, n0=50 * MIB, n1=50 * MIB, n2=99 * MIB)) == 0


def test_a_few_huge_pages_are_never_even():
    assert uneven_bytes(spread({0: 1, 1: 1, 2: 1}, n0=2 * MIB)) == 0
    assert uneven_bytes(spread({}, n0=200 * MIB)) == 0


def test_what_the_program_placed_itself_is_said():
    told = explain_own([RuleResult(rule="a"), RuleResult(rule="b", own_regions=3)])
    assert "rule b leaves 3 regions alone" in told
    assert "override: true" in told
    assert explain_own([RuleResult(rule="a")]) == ""


def test_rules_share_the_room_and_the_first_has_it():
    first, second = left(2 * MIB), left(2 * MIB, frozenset({1, 2}))
    assert without_room([first, second], {2: 4 * MIB}) == ()
    assert without_room([first, second], {2: 3 * MIB}) == ("values",)
    assert without_room([first, second], {1: MIB, 2: 3 * MIB}) == ()
    assert without_room([second, first], {1: MIB, 2: 2 * MIB}) == ("values",)
    assert without_room([first], {}) == ("values",) and without_room([left(0)], {}) == ()
