# SPDX-License-Identifier: Apache-2.0
"""A placement that is paused: nothing new is done to its pods, and nothing undone."""

import pytest
from memplace.errors import KernelWithoutProcessMbind
from memplace_agent.world import World

from tests.support.agent.build import HEAP_RULE, new_pod
from tests.unit.agent_pkg.shim_ward import NAME, SHIM, ShimWard
from tests.unit.agent_pkg.test_birth import CXL_BOTH, A, B
from tests.unit.agent_pkg.test_shared import buffers, rules

ONE = ("mp", "p", "c0")
BIG = 0x100000000


def done(node):
    machine = node.machine
    return len(machine.calls), len(machine.futures), len(machine.moves)


def ledger(node):
    return {path.name: path.read_bytes() for path in node.machine.host.journal.glob("*.json")}


@pytest.fixture
def moving(node, kit):
    """A gigabyte that takes 16 seconds to move, some of it moved."""
    node.bandwidth = 64 << 20
    node.restart()
    node.machine.start(100, A, kit.heap(), kit.anon(BIG, 1 << 30))
    assert node.full(kit.placement(), seconds=5)[ONE].state == "Moving"
    return node


def test_nothing_is_begun(started, kit):
    report = started.full(kit.placement(paused=True))[ONE]
    assert (report.state, report.reason) == ("Paused", "Paused")
    assert (report.rules[0].bytes, report.rules[0].misplaced_bytes) == (2 * kit.MIB, 2 * kit.MIB)
    assert done(started) == (0, 0, 0) and not started.claims
    assert started.full(kit.placement())[ONE].state == "Placed"


def test_in_the_middle_of_a_move_it_stops_and_goes_on_from_there(moving, kit):
    before, was = done(moving), moving.machine.pages(100, BIG)
    assert 0 < was[1] < 262144
    moving.full(kit.placement(paused=True), seconds=0)
    assert moving.mover.step() > 0 and moving.mover.progress() == ()
    report = moving.run(120)[ONE]
    assert (report.state, report.reason) == ("Paused", "Paused")
    # Bytes are sampled; the heap is on node 1 as well.
    on_node = {n.id: n.bytes >> 12 for n in report.rules[0].numa_nodes}
    assert on_node == {0: pytest.approx(was[0], rel=0.01), 1: pytest.approx(was[1], rel=0.01)}
    assert done(moving) == before
    assert moving.machine.policies(100)["[heap]"] == kit.CXL
    assert moving.full(kit.placement(), seconds=60)[ONE].state == "Placed"
    assert moving.machine.pages(100, BIG)[1] == 262144


def test_the_call_under_way_is_the_last_one(moving, kit):
    paused = World(placements=(kit.placement(paused=True),), pods=moving.world.pods)
    made = len(moving.machine.calls)
    moving.machine.on_call = lambda: moving.reconciler.take(paused)
    moving.run(60)
    assert len(moving.machine.calls) == made + 1
    assert moving.reports()[ONE].state == "Paused"


def test_paused_and_taken_back_before_anybody_looked(moving, kit):
    moving.full(kit.placement(paused=True), seconds=0)
    assert moving.full(kit.placement(), seconds=60)[ONE].state == "Placed"


def test_what_comes_meanwhile_is_measured_and_left_alone(started, kit):
    started.full(kit.placement(rules=[HEAP_RULE]))
    started.full(kit.placement(rules=[HEAP_RULE], paused=True))
    before, kept = done(started), ledger(started)
    started.machine.map(100, kit.anon(0x60000000))
    started.machine.start(101, A, kit.heap())
    started.machine.fork(100, 102, A)
    report = started.run(120)[ONE]
    assert report.state == "Paused" and report.rules[0].misplaced_bytes == 2 * kit.MIB
    assert (done(started), ledger(started)) == (before, kept)
    assert started.machine.policies(100)["0x60000000"] is None
    started.full(kit.placement(rules=[HEAP_RULE]))
    assert started.machine.policies(101)["[heap]"] == kit.CXL


def test_it_is_looked_at_no_more_often_than_what_is_in_its_place(started, kit):
    started.full(kit.placement(paused=True))
    asked = []
    real, started.machine.on_read = started.machine.on_read, asked.append
    started.run(600)
    started.machine.on_read = real
    assert 5 <= len(asked) <= 25


def test_after_a_restart_claims_stay_and_nothing_changes(started, kit):
    wanted = kit.placement(rules=[HEAP_RULE])
    started.full(wanted)
    before, kept, policies = done(started), ledger(started), started.machine.policies(100)
    started.restart()
    paused = kit.placement(rules=[HEAP_RULE], paused=True)
    assert started.full(paused, seconds=300)[ONE].state == "Paused"
    assert (done(started), ledger(started)) == (before, kept)
    assert started.machine.policies(100) == policies
    assert started.full(wanted)[ONE].state == "Placed"
    started.full()
    assert not started.claims and set(started.machine.policies(100).values()) == {None}


def test_one_that_is_deleted_is_undone_as_always(moving, kit):
    moving.full(kit.placement(paused=True))
    moving.full(seconds=30)
    assert not moving.claims and set(moving.machine.policies(100).values()) == {None}


@pytest.mark.parametrize("after", ["resumed", "deleted"])
def test_a_pod_that_it_selects_no_more_keeps_what_it_has_until_then(started, kit, after):
    other = {"matchLabels": {"app": "y"}}
    started.full(kit.placement())
    started.full(kit.placement(paused=True, selector=other), seconds=300)
    assert started.machine.policies(100)["[heap]"] == kit.CXL and started.claims
    wanted = [kit.placement(selector=other)] if after == "resumed" else []
    started.full(*wanted, seconds=30)
    assert not started.claims and set(started.machine.policies(100).values()) == {None}


def test_one_of_higher_priority_holds_what_another_did(started, kit):
    low = kit.placement("low")
    high = kit.placement(
        "high", rules=[kit.rule({"type": "Heap"}, "Bind", "dram")], priority=1, paused=True
    )
    started.full(low)
    before = done(started)
    found = started.full(low, high, seconds=60)
    assert found["high", "p", "c0"].state == "Paused" and done(started) == before
    started.full(high, seconds=60)
    assert done(started) == before and started.machine.policies(100)["[heap]"] == kit.CXL
    started.full()
    assert not started.claims and set(started.machine.policies(100).values()) == {None}


def test_memory_that_several_map_keeps_its_policy_and_its_claim(node, kit):
    node.machine.start(100, A, buffers())
    node.machine.start(101, A, buffers())
    wanted = kit.placement(rules=rules())
    assert node.full(wanted, seconds=60)[ONE].state == "Placed"
    before, kept = done(node), ledger(node)
    paused = kit.placement(rules=rules(), paused=True)
    report = node.full(paused, seconds=120)[ONE]
    assert report.state == "Paused" and report.rules[0].bytes == 64 * kit.MIB
    node.machine.end(100)
    node.machine.end(101)
    node.run(30)
    assert (done(node), ledger(node)) == (before, kept)


@pytest.mark.parametrize(("asked", "state"), [("Fail", "Unsupported"), ("BestEffort", "Paused")])
def test_on_a_node_that_can_set_no_policy(started, kit, asked, state):
    started.unsupported = KernelWithoutProcessMbind("this kernel has no process_mbind().")
    started.restart()
    report = started.full(kit.placement(onUnsupported=asked, paused=True), seconds=60)[ONE]
    assert report.state == state
    assert done(started) == (0, 0, 0)


# --- new containers ---


@pytest.fixture
def ward(node, kit):
    made = ShimWard(node, kit)
    yield made
    made.births.close()


def test_a_shim_keeps_its_default_and_gets_none(ward, kit):
    ward.sandbox()
    paused = kit.placement(rules=[HEAP_RULE], paused=True)
    ward.looked(paused)
    assert ward.future(SHIM) == {} and not ward.births.is_watching
    ward.looked(ward.placement)
    assert ward.future(SHIM) == CXL_BOTH
    made, kept = len(ward.machine.futures), ledger(ward.node)
    ward.looked(paused)
    ward.node.run(300)
    ward.node.restart()
    ward.looked(paused)
    ward.node.run(300)
    assert ward.future(SHIM) == CXL_BOTH and NAME in str(list(kept))
    assert (len(ward.machine.futures), ledger(ward.node)) == (made, kept)
    ward.looked()
    assert ward.future(SHIM) == {} and not ward.node.claims


def test_what_a_shim_starts_meanwhile_is_given_back_in_the_end(ward, kit):
    ward.sandbox()
    ward.looked(ward.placement)
    paused = kit.placement(rules=[HEAP_RULE], paused=True)
    ward.looked(paused)
    ward.machine.fork(SHIM, 100, B)
    pods = [new_pod("c0", ids=[B])]
    assert ward.looked(paused, pods=pods)[ONE].state == "Paused"
    assert ward.future(100) == CXL_BOTH
    ward.looked(pods=pods)
    ward.node.run(30)
    assert ward.future(100) == ward.future(SHIM) == {}
    assert not ward.node.claims
