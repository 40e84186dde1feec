# SPDX-License-Identifier: Apache-2.0
"""Several placements select one container: who acts, and what a swap does while both run."""

import pytest
from memplace.kinds import Capability
from memplace_agent.engine.look import Container
from memplace_agent.engine.wanting import Wants
from memplace_agent.node.machine import Machine

A = "a" * 64
LATER = "2026-02-01T00:00:00Z"


def rules(kit, tier):
    heap = {"type": "Heap"}
    return [kit.rule(heap, "PreferredMany", tier)]


def old(kit, **spec):
    return kit.placement("old", rules=rules(kit, "cxl"), **spec)


def new(kit, **spec):
    return kit.placement("new", created=LATER, rules=rules(kit, "dram"), **spec)


@pytest.mark.parametrize(
    ("priorities", "winner", "node_of_pages"),
    [((0, 0), "old", 1), ((0, 1), "new", 0), ((-1, -1), "old", 1), ((-5, -1), "new", 0)],
)
def test_the_higher_priority_acts_then_the_older(started, kit, priorities, winner, node_of_pages):
    mine, its = priorities
    found = started.full(new(kit, priority=its), old(kit, priority=mine))
    assert {name: report.state for (name, *_), report in found.items()} == {winner: "Placed"}
    assert started.machine.pages(100, kit.HEAP) == {node_of_pages: 256}


def test_the_loser_is_told_both_priorities(started, kit):
    started.full(new(kit, priority=3), old(kit))
    lost = started.said["old"]
    assert (lost.reason, lost.conflicts, lost.pods) == ("Conflict", 1, ())
    assert lost.message == "follows placement ns/new, which has priority 3, this one 0"


def test_a_swap_while_both_run_ends_what_nobody_wants_any_more(node, kit):
    big = kit.anon(0x100000000, 1 << 30)
    node.bandwidth = 64 << 20
    node.restart()
    node.machine.start(100, A, kit.heap(), big)
    node.full(new(kit), old(kit), seconds=5)
    moved = node.machine.pages(100, 0x100000000)[1]
    assert 0 < moved < 262144
    made = len(node.machine.calls)
    node.full(new(kit, priority=1), old(kit), seconds=0)
    assert node.mover.progress() == ()
    assert node.mover.step() > 0 and len(node.machine.calls) == made
    assert node.run(60)["new", "p", "c0"].state == "Placed"
    assert node.machine.pages(100, 0x100000000)[0] == 262144
    (claim,) = node.claims
    assert claim.placement[0] == "uid-new"
    node.full(new(kit), old(kit), seconds=60)
    assert node.said["old"].pods and not node.said["new"].pods
    assert node.full(seconds=30) == {}
    assert set(node.machine.policies(100).values()) == {None}
    assert not node.claims


def test_nothing_is_said_of_the_new_winner_before_it_was_looked_at(started, kit):
    started.full(new(kit), old(kit))
    started.full(new(kit, priority=1), old(kit), seconds=0)
    report = started.reports()["new", "p", "c0"]
    assert (report.state, report.rules) == ("Pending", ())


def test_another_priority_of_the_winner_costs_nothing(node, kit):
    node.bandwidth = 64 << 20
    node.restart()
    node.machine.start(100, A, kit.heap(), kit.anon(0x100000000, 1 << 30))
    node.full(old(kit), seconds=5)
    (before,) = node.mover.progress()
    node.full(old(kit, priority=7), seconds=0)
    assert node.mover.progress() == (before,)
    assert node.reports()["old", "p", "c0"].state == "Moving"


def test_what_is_wanted_of_a_container_does_not_depend_on_it(kit):
    wants = Wants(frozenset(Capability))
    container = Container(wants.of(A, old(kit), Machine()))
    cancel = container.cancel
    assert not container.follow(wants.of(A, old(kit, priority=7), Machine()))
    assert container.cancel is cancel and not cancel.is_set()
    assert container.follow(wants.of(A, old(kit, priority=7, paused=True), Machine()))
    assert cancel.is_set() and not container.cancel.is_set()
