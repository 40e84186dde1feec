# SPDX-License-Identifier: Apache-2.0
"""Looks at what did not change: only pages can be elsewhere, and little is done to find out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.matching import Matcher
from memplace.policy import plan
from memplace_agent.engine.holding import Holding
from memplace_agent.engine.placer import Placer
from memplace_agent.procfs.query import Way

from tests.unit.core_pkg.test_plan import ALL, TIERS, some_regions, some_rules

A = "a" * 64
ONE = ("mp", "p", "c0")
MINUTES = 130.0

pages = st.dictionaries(st.integers(0, 6), st.integers(1, 9).map(lambda n: n * 4096))


def planned(rules, regions):
    return plan(Matcher(rules), tiers=TIERS, allowed=ALL, regions=regions)


@given(some_rules(), some_regions(), st.lists(pages, min_size=8, max_size=8))
def test_what_rules_hold_is_what_a_plan_of_new_pages_says(rules, regions, new):
    before = planned(rules, regions)
    moved = [region.holding(on) for region, on in zip(regions, new, strict=False)]
    found = {region.start: region.pages for region in moved}
    held = Holding.of(before.following)
    troubled = {problem.rule for problem in before.problems}
    again = held.measured(rules, before.rules, found)
    wanted = planned(rules, moved).rules
    assert [r for r in again if r.rule not in troubled] == [
        r for r in wanted if r.rule not in troubled
    ]


@given(some_rules(), some_regions())
def test_the_ranges_are_those_of_the_regions(rules, regions):
    following = planned(rules, regions).following
    assert [(s.start, s.end, s.page_size) for s in Holding.of(following).spans()] == [
        (region.start, region.end, region.page_size) for region, _ in following
    ]


@pytest.fixture
def plans(monkeypatch):
    """How often a process was planned."""
    made = []
    place = Placer.place

    def counted(self, *args, **kwargs):
        made.append(args)
        return place(self, *args, **kwargs)

    monkeypatch.setattr(Placer, "place", counted)
    return made


def put(machine, start, *runs):
    """Pages go elsewhere as the kernel moves them: no mapping changes."""
    process = machine.processes[100]
    process.vmas = [v.with_runs(runs) if v.start == start else v for v in process.vmas]
    machine.write(100)


def test_what_stays_as_it_is_is_planned_once(started, kit, plans):
    started.full(kit.placement())
    done = len(plans)
    report = started.run(10 * MINUTES)[ONE]
    assert len(plans) == done
    assert (report.state, report.rules[0].bytes) == ("Placed", 2 * kit.MIB)


def test_figures_follow_pages_that_are_swapped_out(started, kit, plans):
    started.full(kit.placement())
    done = len(plans)
    put(started.machine, kit.HEAP, (1, 16), (-1, 240))
    (rule,) = started.run(MINUTES)[ONE].rules
    assert (rule.bytes, rule.misplaced_bytes) == (kit.MIB + (16 << 12), 0)
    assert len(plans) == done


def test_pages_that_went_elsewhere_are_brought_back(started, kit):
    started.full(kit.placement())
    put(started.machine, kit.HEAP, (0, 200), (1, 56))
    report = started.run(MINUTES)[ONE]
    assert started.machine.pages(100, kit.HEAP) == {1: 256}
    assert (report.state, report.rules[0].misplaced_bytes) == ("Placed", 0)


def test_a_rule_with_a_problem_is_planned_anew(started, kit, plans):
    """What helps it, a tier or a cpuset, shows in a plan only."""
    rules = [kit.rule({"type": "Heap"}, "PreferredMany", "hbm")]
    started.full(kit.placement(rules=rules))
    done = len(plans)
    started.run(MINUTES)
    assert len(plans) > done


def test_a_change_is_read_once(started, kit):
    started.full(kit.placement())
    started.run(MINUTES)
    reads = []
    started.machine.on_read = reads.append
    started.machine.map(100, kit.Vma(0x60000000, 0x60001000, "/lib", "r--p", 7))
    started.reconciler._parts.due.changed([A], started.clock())
    started.run(1)
    assert len(reads) == 1


def test_a_stack_that_came_later_is_found_by_its_pointer(node, kit):
    """Without flags only its thread tells a stack from other memory."""
    node.way = Way.MAPS
    node.start()
    node.machine.start(100, A, kit.heap(), kit.anon())
    wanted = kit.placement(rules=[kit.rule({"type": "Heap"}, "PreferredMany", "cxl")])
    node.full(wanted)
    node.machine.map(100, kit.Vma(0x60000000, 0x60001000, perms="---p"))
    node.machine.map(100, kit.Vma(0x60001000, 0x60801000, pages={0: 2}))
    stack = " ".join(["0x0"] * 6) + " 0x60800000 0x7f0000001000"
    (node.machine.host.pid(100) / "task/100/syscall").write_text(f"202 {stack}\n")
    node.run(MINUTES)
    assert node.machine.policies(100)["0x60001000"] is None
    assert node.machine.policies(100)["[heap]"] == kit.CXL
