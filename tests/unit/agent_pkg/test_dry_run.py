# SPDX-License-Identifier: Apache-2.0
"""A placement that only tells: nothing is done for it, and what it did before is given back."""

from dataclasses import replace

import pytest
from memplace.errors import KernelWithoutProcessMbind
from memplace_agent.node import memory

from tests.support.agent.build import HEAP_RULE, new_pod
from tests.unit.agent_pkg.shim_ward import SHIM, ShimWard
from tests.unit.agent_pkg.test_birth import CXL_BOTH, A, B
from tests.unit.agent_pkg.test_paused import ONE, done
from tests.unit.agent_pkg.test_shared import buffers, rules

DRY = {"mode": "DryRun"}


def test_nothing_is_done_and_what_would_move_is_told(started, kit):
    report = started.full(kit.placement(**DRY))[ONE]
    assert (report.state, report.reason) == ("DryRun", "DryRun")
    assert (report.rules[0].bytes, report.rules[0].misplaced_bytes) == (2 * kit.MIB, 2 * kit.MIB)
    assert done(started) == (0, 0, 0) and not started.claims
    assert started.full(kit.placement())[ONE].state == "Placed"


def test_what_would_not_fit_is_told(started, kit):
    started.machine.set_free(1, 0)
    report = started.full(kit.placement(**DRY))[ONE]
    assert (report.state, report.reason) == ("DryRun", "TierFull")
    assert "rule" in report.message and "would fit" in report.message
    assert done(started) == (0, 0, 0)
    # What the kernel frees by itself is room.
    started.machine.set_free(1, 0, cache_kb=1 << 20)
    assert started.run(120)[ONE].reason == "DryRun"


def test_what_would_fit_is_read_once_for_many_containers(node, kit, monkeypatch):
    for number in range(50):
        node.machine.start(1000 + number, f"{number:064x}", kit.heap())
    pod, ids = kit.pod(), {f"c{n}": f"{n:064x}" for n in range(50)}
    pods = [replace(pod, ref=replace(pod.ref, containers=tuple(ids)), container_ids=ids)]
    read, real = [], memory._room
    monkeypatch.setattr(memory, "_room", lambda *of: (read.append(of[0].name), real(*of))[1])
    reports = node.full(kit.placement(**DRY), pods=pods, seconds=0.9)
    assert [each.reason for each in reports.values()] == ["DryRun"] * 50
    assert sorted(read) == ["node0", "node1"]


def test_it_is_looked_at_no_more_often_than_what_is_in_its_place(started, kit):
    started.full(kit.placement(**DRY))
    asked = []
    real, started.machine.on_read = started.machine.on_read, asked.append
    started.run(600)
    started.machine.on_read = real
    assert 5 <= len(asked) <= 25


def test_what_it_did_before_is_given_back_and_then_it_tells(started, kit):
    assert started.full(kit.placement())[ONE].state == "Placed"
    report = started.full(kit.placement(**DRY), seconds=30)[ONE]
    assert report.state == "DryRun" and not started.claims
    assert set(started.machine.policies(100).values()) == {None}
    # Pages stay where they are: nobody asked to move them back.
    assert report.rules[0].misplaced_bytes == 0
    before = done(started)
    started.run(120)
    assert done(started) == before
    assert started.full(kit.placement())[ONE].state == "Placed"
    assert started.machine.policies(100)["[heap]"] == kit.CXL


def test_in_the_middle_of_a_move_it_stops(node, kit):
    node.bandwidth = 64 << 20
    node.restart()
    node.machine.start(100, A, kit.heap(), kit.anon(0x100000000, 1 << 30))
    assert node.full(kit.placement(), seconds=5)[ONE].state == "Moving"
    moved = node.machine.pages(100, 0x100000000)[1]
    assert 0 < moved < 262144
    assert node.full(kit.placement(**DRY), seconds=60)[ONE].state == "DryRun"
    assert node.machine.pages(100, 0x100000000)[1] <= moved + 512 and not node.claims


def test_it_takes_no_container_from_one_that_acts(started, kit):
    low, high = kit.placement("low"), kit.placement("high", priority=900, **DRY)
    started.full(low)
    before = done(started)
    found = started.full(low, high, seconds=60)
    assert found["low", "p", "c0"].state == "Placed"
    assert found["high", "p", "c0"].state == "DryRun"
    assert done(started) == before and started.claims
    found = started.full(high, seconds=60)
    assert found["high", "p", "c0"].state == "DryRun"
    assert not started.claims and set(started.machine.policies(100).values()) == {None}


def test_with_paused_nothing_is_given_back(started, kit):
    started.full(kit.placement())
    before = done(started)
    report = started.full(kit.placement(paused=True, **DRY), seconds=60)[ONE]
    assert report.state == "Paused" and done(started) == before and started.claims
    assert started.full(kit.placement(**DRY), seconds=60)[ONE].state == "DryRun"
    assert not started.claims


def test_after_a_restart_it_is_given_back_all_the_same(started, kit):
    started.full(kit.placement(rules=[HEAP_RULE]))
    started.restart()
    report = started.full(kit.placement(rules=[HEAP_RULE], **DRY), seconds=60)[ONE]
    assert report.state == "DryRun" and not started.claims
    assert set(started.machine.policies(100).values()) == {None}


def test_memory_that_several_map_gets_its_policy_back(node, kit):
    node.machine.start(100, A, buffers())
    node.machine.start(101, A, buffers())
    assert node.full(kit.placement(rules=rules()), seconds=60)[ONE].state == "Placed"
    node.run(900)
    report = node.full(kit.placement(rules=rules(), **DRY), seconds=5)[ONE]
    assert report.state == "DryRun" and report.rules[0].bytes == 64 * kit.MIB
    assert not node.claims


@pytest.mark.parametrize(("asked", "state"), [("Fail", "Unsupported"), ("BestEffort", "DryRun")])
def test_on_a_node_that_can_set_no_policy(started, kit, asked, state):
    started.unsupported = KernelWithoutProcessMbind("this kernel has no process_mbind().")
    started.restart()
    report = started.full(kit.placement(onUnsupported=asked, **DRY), seconds=60)[ONE]
    assert report.state == state
    assert done(started) == (0, 0, 0)


def test_a_shim_gets_no_default_and_gives_back_the_one_it_has(node, kit):
    ward = ShimWard(node, kit)
    ward.sandbox()
    dry = kit.placement(rules=[HEAP_RULE], **DRY)
    ward.looked(dry)
    assert ward.future(SHIM) == {} and not ward.births.is_watching
    ward.looked(ward.placement)
    assert ward.future(SHIM) == CXL_BOTH
    ward.machine.fork(SHIM, 100, B)
    pods = [new_pod("c0", ids=[B])]
    ward.looked(dry, pods=pods)
    ward.node.run(60)
    assert ward.future(SHIM) == {} and ward.future(100) == {}
    assert not ward.node.claims
    ward.births.close()
