# SPDX-License-Identifier: Apache-2.0
"""A dry run foresees what would be in its way: limits of its namespace, and other placements."""

import pytest
from memplace.errors import KernelWithoutProcessMbind

from tests.support.agent.build import HEAP_RULE
from tests.support.agent.machine import HEAP, MIB
from tests.support.agent.mappings import Vma
from tests.unit.agent_pkg.test_namespace_limits import A, B, limits, on_cxl, two
from tests.unit.agent_pkg.test_paused import done
from tests.unit.agent_pkg.test_shared import buffers, rules

DRY = {"mode": "DryRun"}
ONE, TWO = ("mp", "p", "c0"), ("mp", "p", "c1")


def stack_rule(*tiers):
    policy = {"mode": "PreferredMany", "tiers": list(tiers)}
    return {"name": "stack", "regions": [{"type": "Stack"}], "policy": policy}


def moves(report):
    return [(rule.name, rule.misplaced_bytes, rule.withheld_bytes) for rule in report.rules]


# --- limits of the namespace ---


def test_who_would_be_refused_is_told_as_the_real_one_is(node, kit):
    two(node, kit, 2, 2)
    world = {"pods": [kit.pod(ids="ab")], "tiers": (limits(("ns", "3Mi")),)}
    found = node.full(kit.placement(**DRY), **world)
    assert (found[ONE].state, found[ONE].reason) == ("DryRun", "DryRun")
    assert (found[TWO].state, found[TWO].reason) == ("DryRun", "NamespaceLimit")
    assert moves(found[ONE]) == [("heap", 2 * MIB, 0)]
    assert moves(found[TWO]) == [("heap", 2 * MIB, 2 * MIB)]
    assert done(node) == (0, 0, 0) and not node.claims
    foreseen = found[TWO].message
    assert "rule heap: namespace ns may have 3Mi of tier cxl" in foreseen
    assert "with mode Enforce nothing would be placed there" in foreseen
    # It comes as it was foreseen, and is said in the same words.
    found = node.full(kit.placement(), **world)
    assert (found[ONE].state, found[TWO].reason) == ("Placed", "NamespaceLimit")
    assert found[TWO].message.partition(":")[2].split(",")[0] in foreseen
    assert moves(found[TWO]) == [("heap", 2 * MIB, 2 * MIB)]


def test_what_is_there_of_others_comes_first_whatever_the_priority(node, kit):
    two(node, kit, 2, 2)
    real = kit.placement("a", containers=["c0"])
    dry = kit.placement("b", containers=["c1"], priority=9, **DRY)
    world = {"pods": [kit.pod(ids="ab")], "tiers": (limits(("ns", "3Mi")),)}
    node.full(real, **world)
    found = node.full(real, dry, seconds=60, **world)
    assert found["b", "p", "c1"].reason == "NamespaceLimit"
    assert found["a", "p", "c0"].state == "Placed"
    found = node.full(real, dry, **world | {"tiers": (limits(("ns", "5Mi")),)})
    assert found["b", "p", "c1"].reason == "DryRun"
    assert on_cxl(node, 200) == 0


def test_each_dry_run_is_foreseen_as_if_it_was_the_only_one(node, kit):
    two(node, kit, 2, 2)
    both = [kit.placement(n, containers=[f"c{i}"], **DRY) for i, n in enumerate("ab")]
    found = node.full(*both, pods=[kit.pod(ids="ab")], tiers=(limits(("ns", "3Mi")),))
    assert found["a", "p", "c0"].reason == found["b", "p", "c1"].reason == "DryRun"


def test_only_rules_that_name_the_tier_are_withheld(node, kit):
    heap = Vma(HEAP, HEAP + 2 * MIB, "[heap]", pages={0: 512})
    node.machine.start(100, A, heap, Vma(0x7FF0000000, 0x7FF0100000, "[stack]", pages={1: 256}))
    dry = kit.placement(rules=[HEAP_RULE, stack_rule("dram")], **DRY)
    report = node.full(dry, tiers=(limits(("ns", "1Mi")),))[ONE]
    assert report.reason == "NamespaceLimit" and "rule r: " in report.message
    assert moves(report) == [("r", 2 * MIB, 2 * MIB), ("stack", MIB, 0)]


def test_a_lower_limit_and_a_higher_one_are_foreseen_too(node, kit):
    two(node, kit, 2, 2)
    pods, dry = [kit.pod(ids="ab")], kit.placement(**DRY)
    found = node.full(dry, pods=pods, tiers=(limits(("ns", "1Mi")),))
    assert {found[ONE].reason, found[TWO].reason} == {"NamespaceLimit"}
    assert node.metrics.namespace_limited.labels("cxl")._value.get() == 0
    found = node.full(dry, pods=pods, tiers=(limits(("ns", "9Mi")),))
    assert {found[ONE].reason, found[TWO].reason} == {"DryRun"}
    found = node.full(dry, pods=pods)
    assert {found[ONE].reason, found[TWO].reason} == {"DryRun"}


def test_containers_to_come_lose_nothing_by_what_is_only_foreseen(node, kit):
    told = []
    two(node, kit, 2, 2)
    parts = node.reconciler._parts
    object.__setattr__(parts, "publish", lambda table, _store: told.append(table))
    real = kit.placement("a", containers=["c0"], rules=[HEAP_RULE])
    dry = kit.placement("b", containers=["c1"], rules=[HEAP_RULE], **DRY)
    node.full(real, dry, pods=[kit.pod(ids="ab")], tiers=(limits(("ns", "3Mi")),))
    assert node.reports()["b", "p", "c1"].reason == "NamespaceLimit"
    assert told[-1]


def test_who_would_be_at_the_edge_does_not_come_and_go(node, kit):
    two(node, kit, 1, 1)
    pods, tiers = [kit.pod(ids="ab")], (limits(("ns", "32Mi")),)
    edge = 0x50000000
    node.machine.map(100, kit.anon(edge, 32 * MIB, pages={0: 32 * 256}))
    assert node.full(kit.placement(**DRY), pods=pods, tiers=tiers)[ONE].reason == "NamespaceLimit"
    for size in (30, 31, 30):  # with 1 MiB of a heap: just below the limit
        node.machine.unmap(100, edge)
        node.machine.map(100, kit.anon(edge, size * MIB, pages={0: size * 256}))
        assert node.run(120)[ONE].reason == "NamespaceLimit"
    node.machine.unmap(100, edge)
    node.machine.map(100, kit.anon(edge, 28 * MIB, pages={0: 28 * 256}))
    assert node.run(120)[ONE].reason == "DryRun"


# --- placements that have the container ---


def test_what_it_would_take_from_another_is_measured_and_nothing_is_done(started, kit):
    low = kit.placement("low", rules=[stack_rule("cxl")])
    started.full(low)
    before = done(started)
    high = kit.placement("high", priority=900, **DRY)
    report = started.full(low, high, seconds=60)["high", "p", "c0"]
    assert (report.state, report.reason) == ("DryRun", "DryRun")
    assert moves(report) == [("heap", 2 * MIB, 0)]
    assert report.message.startswith(
        "placement ns/low has it, and with mode Enforce this one would: it has priority 900, "
        "that one 0; mode DryRun: nothing is changed"
    )
    assert done(started) == before
    assert started.said["high"].conflicts == 0
    found = started.full(low, kit.placement("high", priority=900), seconds=60)
    assert found["high", "p", "c0"].state == "Placed" and ("low", "p", "c0") not in found


def test_what_another_has_placed_is_not_taken_for_the_programs_own(started, kit):
    low = kit.placement("low", rules=[HEAP_RULE])
    assert started.full(low, seconds=60)["low", "p", "c0"].state == "Placed"
    back = kit.rule({"type": "Heap"}, "Bind", "dram")
    high = kit.placement("high", priority=1, rules=[back], **DRY)
    found = started.full(low, high, seconds=60)
    assert moves(found["high", "p", "c0"]) == [("r", 2 * MIB, 0)]
    assert found["high", "p", "c0"].rules[0].own_regions == 0
    assert found["low", "p", "c0"].state == "Placed"


def test_what_it_would_lose_is_a_conflict_that_says_why(started, kit):
    old = kit.placement("old")
    dry = kit.placement("dry", created="2026-02-01T00:00:00Z", **DRY)
    found = started.full(old, dry)
    assert ("dry", "p", "c0") not in found
    said = started.said["dry"]
    assert (said.reason, said.conflicts) == ("Conflict", 1)
    assert said.message == "placement ns/old has it, and would have it with mode Enforce, too: " + (
        "it is older"
    )


def test_of_two_dry_runs_the_second_tells_as_well_and_of_many_no_more(started, kit):
    names = ("a", "b", "c")
    found = started.full(*(kit.placement(n, **DRY) for n in names), seconds=60)
    assert found["a", "p", "c0"].message.startswith("mode DryRun: ")
    assert found["b", "p", "c0"].message.startswith("placement ns/a has it, and with mode Enforce")
    assert moves(found["b", "p", "c0"]) == moves(found["a", "p", "c0"])
    assert ("c", "p", "c0") not in found
    assert "only the first tells more: placement ns/b" in started.said["c"].message


def test_it_is_looked_at_no_more_often_than_before(started, kit):
    low, high = kit.placement("low"), kit.placement("high", priority=9, **DRY)
    started.full(low, high)
    asked = []
    real, started.machine.on_read = started.machine.on_read, asked.append
    started.run(600)
    started.machine.on_read = real
    assert 10 <= len(asked) <= 50


def test_the_limit_is_foreseen_of_what_it_would_take(node, kit):
    two(node, kit, 2, 2)
    low = kit.placement("low", rules=[stack_rule("dram")])
    high = kit.placement("high", priority=9, **DRY)
    found = node.full(
        low, high, pods=[kit.pod(ids="ab")], tiers=(limits(("ns", "3Mi")),), seconds=60
    )
    assert found["high", "p", "c0"].reason == "DryRun"
    refused = found["high", "p", "c1"]
    assert refused.reason == "NamespaceLimit" and moves(refused) == [("heap", 2 * MIB, 2 * MIB)]
    assert "placement ns/low has it" in refused.message
    assert "namespace ns may have 3Mi" in refused.message


def test_what_the_other_one_would_leave_behind_counts(node, kit):
    # 2 MiB of the heap are on the tier for the placement that has it; the dry run wants the stack.
    heap = Vma(HEAP, HEAP + 2 * MIB, "[heap]", pages={0: 512})
    node.machine.start(100, A, heap, Vma(0x7FF0000000, 0x7FF0200000, "[stack]", pages={0: 512}))
    low, tiers = kit.placement("low", rules=[HEAP_RULE]), (limits(("ns", "3Mi")),)
    assert node.full(low, tiers=tiers)["low", "p", "c0"].state == "Placed"
    high = kit.placement("high", priority=9, rules=[stack_rule("cxl")], **DRY)
    found = node.full(low, high, tiers=tiers, seconds=60)
    assert found["high", "p", "c0"].reason == "NamespaceLimit"


def test_a_default_of_the_cluster_gives_way_also_in_a_dry_run(node, kit):
    node.machine.start(100, A, kit.heap())
    pods = [kit.pod(its_labels={})]
    found = node.full(kit.placement("own"), kit.cluster_placement(**DRY), pods=pods)
    assert found["own", "p", "c0"].state == "Placed" and "cmp" not in node.said
    enforced = kit.cluster_placement(enforced=True, **DRY)
    found = node.full(kit.placement("own"), enforced, pods=pods, seconds=60)
    assert "it is enforced, that one is not" in found["cmp", "p", "c0"].message


def test_a_dry_run_that_is_paused_tells_nothing_of_what_would_be(started, kit):
    low, high = kit.placement("low"), kit.placement("high", priority=9, paused=True, **DRY)
    found = started.full(low, high, seconds=60)
    assert ("high", "p", "c0") not in found
    assert "follows placement ns/low" in started.said["high"].message


def test_where_the_dry_run_could_not_act_it_tells_of_the_other(started, kit):
    started.unsupported = KernelWithoutProcessMbind("this kernel has no process_mbind().")
    started.restart()
    low = kit.placement("low", onUnsupported="BestEffort")
    found = started.full(low, kit.placement("high", priority=9, **DRY), seconds=60)
    assert found["low", "p", "c0"].state == "PlacedBestEffort"
    assert ("high", "p", "c0") not in found and started.said["high"].reason == "Conflict"


@pytest.mark.parametrize("then", ["gone", "meant", "lower"])
def test_what_was_foreseen_ends_with_the_dry_run(started, kit, then):
    low, high = kit.placement("low"), kit.placement("high", priority=9, **DRY)
    assert started.full(low, high, seconds=60)["high", "p", "c0"].state == "DryRun"
    after = {
        "gone": [],
        "meant": [kit.placement("high", priority=9)],
        "lower": [kit.placement("high", priority=-1, **DRY)],
    }[then]
    found = started.full(low, *after, seconds=60)
    found = {name: report.state for (name, _, _), report in found.items()}
    assert found == ({"high": "Placed"} if then == "meant" else {"low": "Placed"})


def test_shared_memory_would_be_taken_over_with_the_container(node, kit):
    node.machine.start(100, A, buffers())
    low = kit.placement("low", rules=rules())
    assert node.full(low, seconds=60)["low", "p", "c0"].state == "Placed"
    high = kit.placement("high", priority=9, rules=rules(), **DRY)
    found = node.full(low, high, seconds=60)
    assert {report.state for report in found.values()} == {"Placed", "DryRun"}
    report = found["high", "p", "c0"].rules[0]
    assert (report.bytes, report.misplaced_bytes) == (64 * MIB, 0)


def test_a_container_that_is_not_there_is_said_of_both(node, kit):
    low, high = kit.placement("low"), kit.placement("high", priority=9, **DRY)
    found = node.full(low, high, seconds=5)
    states = {report.state for report in found.values()}
    assert len(found) == 2 and states == {"Pending"}
    assert {report.message for report in found.values()} == {found["low", "p", "c0"].message}


def test_what_fails_in_the_dry_run_leaves_the_other_alone(started, kit, monkeypatch):
    low, high = kit.placement("low"), kit.placement("high", priority=9, **DRY)
    trials = started.reconciler._trials

    def broken(*_):
        raise RuntimeError("a fault of the test")

    monkeypatch.setattr(type(trials), "_judged", broken)
    found = started.full(low, high, seconds=60)
    assert found["low", "p", "c0"].state == "Placed"
    assert found["high", "p", "c0"].state == "Failed"
    assert "a fault of the test" in found["high", "p", "c0"].message
    assert B not in {claim.container for claim in started.claims}
