# SPDX-License-Identifier: Apache-2.0
"""Bytes of pages that several processes of a container map count once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from memplace_agent.engine import look

from tests.support.agent.machine import MIB
from tests.support.agent.mappings import PAGE, Vma

VALUES = {
    "name": "values",
    "regions": [{"type": "Heap"}, {"type": "Anonymous", "minSize": "16Mi"}],
    "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
}
START = 0x7E0000000000


def data(mib=512):
    return Vma(START, START + mib * MIB, pages={0: mib * 256})


def written(machine, pid, mib):
    """The process writes to the first of its pages that fork() left to it and its parent."""
    process = machine.processes[pid]
    index = next(i for i, v in enumerate(process.vmas) if v.start == START)
    whole = process.vmas[index]
    low = replace(whole.part(START, START + mib * MIB), origin=-pid)
    process.vmas[index : index + 1] = [low, whole.part(START + mib * MIB, whole.end)]
    machine.write(pid)


def held(node, placement, seconds=15.0):
    rules = node.full(placement, seconds=seconds)[("mp", "p", "c0")].rules
    return {rule.name: rule.bytes for rule in rules}


def test_a_database_that_forks_to_save_does_not_double(node, kit):
    """valkey-io/valkey#1754: 512 MiB, each page mapped by both."""
    node.machine.start(100, "a" * 64, data())
    node.machine.fork(100, 101, "a" * 64)
    assert held(node, kit.placement(rules=[VALUES])) == {"values": 512 * MIB}


def test_what_a_child_writes_to_is_its_own(node, kit):
    node.machine.start(100, "a" * 64, data())
    placement = kit.placement(rules=[VALUES])
    assert held(node, placement) == {"values": 512 * MIB}
    node.machine.fork(100, 101, "a" * 64)
    written(node.machine, 101, 128)
    found = held(node, placement, seconds=90.0)["values"]
    assert found == pytest.approx(640 * MIB, rel=0.05)


def test_who_forks_once_it_is_placed_does_not_double_until_it_is_sampled_again(node, kit):
    node.machine.start(100, "a" * 64, data())
    placement = kit.placement(rules=[VALUES])
    assert held(node, placement) == {"values": 512 * MIB}
    node.machine.fork(100, 101, "a" * 64)
    node.full(placement, seconds=5.0)
    assert held(node, placement, seconds=5.0) == {"values": 512 * MIB}


def test_a_look_that_comes_to_the_child_only_counts_once_as_well(node, kit, monkeypatch):
    """What a look may cost is bounded: this one has no more than a process."""
    node.machine.start(100, "a" * 64, data())
    placement = kit.placement(rules=[VALUES])
    assert held(node, placement) == {"values": 512 * MIB}
    monkeypatch.setattr(look, "_BUDGET_S", -1.0)
    node.machine.fork(100, 101, "a" * 64)
    found = set()
    for _ in range(40):
        if not node.reconciler.step():
            node.clock.now += 0.1
            node.reconciler.audit()
        found |= {rule.bytes for rule in node.reports()[("mp", "p", "c0")].rules}
    assert found == {512 * MIB}


def test_children_that_were_not_forked_from_each_other_have_pages_of_their_own(node, kit):
    node.machine.start(100, "a" * 64, data())
    node.machine.start(101, "a" * 64, data())
    assert held(node, kit.placement(rules=[VALUES])) == {"values": 1024 * MIB}


def test_what_is_said_of_a_move_counts_once_as_well(node, kit):
    node.machine.start(100, "a" * 64, data())
    node.machine.fork(100, 101, "a" * 64)
    slow = kit.placement(rules=[VALUES], migration={"maxBandwidth": "16Mi"})
    said = set()
    for _ in range(10):
        report = node.full(slow, seconds=2.0)[("mp", "p", "c0")]
        said |= set(re.findall(r"\d+ of (\S+ \S+)", report.message))
    assert said == {"512 MiB"}, report


def test_what_has_to_move_counts_once_as_well(node, kit):
    pinned = replace(data(64), stuck=True)
    node.machine.start(100, "a" * 64, pinned)
    node.machine.fork(100, 101, "a" * 64)
    report = node.full(kit.placement(rules=[VALUES]), seconds=60.0)[("mp", "p", "c0")]
    assert [rule.misplaced_bytes for rule in report.rules] == [64 * MIB]


def test_a_file_that_two_programs_map_counts_once(node, kit):
    library = Vma(START, START + 64 * MIB, "/lib/model.so", "r--p", 7, device=(8, 1))
    library = library.with_runs([(0, 64 * MIB // PAGE)])
    node.machine.start(100, "a" * 64, library)
    node.machine.start(
        101, "a" * 64, replace(library, start=START + 64 * MIB, end=START + 128 * MIB)
    )
    rule = kit.rule({"type": "File"}, "PreferredMany", "cxl")
    assert held(node, kit.placement(rules=[rule])) == {"r": 64 * MIB}


# --- shared memory; what is reported from the field ------------------------------------


def segment(at, mib, **members: Any):
    given: dict[str, Any] = {"path": "/dev/zero (deleted)", "inode": 77} | members
    return Vma(at, at + mib * MIB, perms="rw-s", device=(0, 1), pages={0: mib * 256}, **given)


def shared(name, path=""):
    entry = {"type": "Shared"} | ({"path": path} if path else {})
    policy = {"mode": "PreferredMany", "tiers": ["cxl"]}
    return {"name": name, "regions": [entry], "policy": policy}


def test_the_buffers_of_a_database_count_once_however_many_backends_map_them(node, kit):
    """polardb/PolarDB-for-PostgreSQL#692, OpenTenBase/OpenTenBase#310: there are 512 MiB."""
    for pid in range(100, 104):
        node.machine.start(pid, "a" * 64, segment(START, 512))
    assert held(node, kit.placement(rules=[shared("buffers")])) == {"buffers": 512 * MIB}


def test_a_heap_that_a_process_maps_three_times_counts_once(node, kit):
    """ZGC before generations: AutoMQ/automq-for-rocketmq#722, chenghanpeng/jdk11u#5."""
    views = (0x40000000000, 0x80000000000, 0x100000000000)
    name = "/memfd:java_heap (deleted)"
    heaps = [segment(at, 256, path=name, inode=9) for at in views]
    node.machine.start(100, "a" * 64, *heaps)
    placement = kit.placement(rules=[shared("heap", "/memfd:java_heap")])
    assert held(node, placement) == {"heap": 256 * MIB}


def test_a_tier_is_not_full_for_memory_that_is_there_once(node, kit):
    """Twelve backends with 512 MiB together, and 4 GiB free."""
    node.machine.set_free(1, 4 << 20)
    for pid in range(100, 112):
        node.machine.start(pid, "a" * 64, segment(START, 512))
    report = node.full(kit.placement(rules=[shared("buffers")]), seconds=60.0)["mp", "p", "c0"]
    assert report.reason != "TierFull"
    assert (report.state, report.rules[0].bytes) == ("Placed", 512 * MIB)
    assert node.metrics.apply_bytes.labels("cxl")._value.get() == 512 * MIB
