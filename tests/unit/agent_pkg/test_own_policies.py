# SPDX-License-Identifier: Apache-2.0
"""Whose policy a mapping has is told right, and the program's own is left to it, whatever
cpusets, mremap(), the kernel's demotion or the program itself do meanwhile."""

from dataclasses import replace

import pytest
from memplace.kinds import Mode, Policy
from memplace.rebind import STATIC
from memplace_agent.procfs.query import Way

from tests.support.agent.machine import CXL
from tests.support.agent.mappings import DEFAULT

OURS = replace(CXL, flags=frozenset({STATIC}))
A = "a" * 64
ONE = ("mp", "p", "c0")


def test_a_process_whose_own_cpuset_is_narrower_settles(node, kit):
    node.machine.add_node(2, cpus="", tier=6)
    node.machine.allowed = frozenset({0, 1, 2})
    rule = kit.rule({"type": "Heap"}, "PreferredMany", "cxl", "dram")
    node.machine.start(100, A, kit.heap(), allowed=frozenset({0, 1}))
    assert node.full(kit.placement(rules=[rule]))[ONE].state == "Placed"
    made = len(node.machine.calls)
    node.run(60)
    assert len(node.machine.calls) == made


def test_a_policy_that_is_set_for_a_move_alone_is_given_back(node, kit):
    node.machine.start(100, A, kit.heap(), task_policy=kit.CXL)
    assert node.full(kit.placement())[ONE].state == "Placed"
    assert node.machine.pages(100, kit.HEAP) == {1: 256}
    node.full()
    assert node.machine.policies(100)["[heap]"] is None


def test_a_wider_cpuset_does_not_take_a_programs_own_policy(node, kit):
    mine = kit.anon(0x30000000, 0x4000, policy=Policy(Mode.BIND, frozenset({0})))
    node.machine.start(100, A, kit.heap(), mine)
    rule = kit.rule({"type": "Heap"}, "Bind", "cxl")
    node.full(kit.placement(rules=[rule]))
    node.machine.add_node(2, cpus="", tier=6)
    node.machine.allowed = frozenset({0, 1, 2})
    node.machine.write(100)
    node.full(kit.placement(rules=[rule]))
    node.full()
    assert node.machine.policies(100) == {"[heap]": None, "0x30000000": kit.BIND}


def test_a_cpuset_that_narrows_and_widens_again_is_followed(node, kit):
    """While it is narrow there is nothing to do; what the kernel made of ours is written down."""
    own = Policy(Mode.PREFERRED_MANY, frozenset({0}))
    node.machine.start(100, A, kit.anon(0x20000000, policy=own))
    rule = kit.rule({"type": "Heap"}, "Bind", "cxl") | {"override": True}
    node.full(kit.placement(rules=[rule]))
    assert node.machine.policies(100)["0x20000000"] == Policy(Mode.BIND, frozenset({1}))
    for allowed in ({0}, {0, 1}):  # mpol_rebind_nodemask(): its node is the first of any
        process = node.machine.processes[100]
        process.vmas = [
            replace(vma, policy=vma.policy and Policy(Mode.BIND, frozenset({0})))
            for vma in process.vmas
        ]
        node.machine.allowed = frozenset(allowed)
        node.machine.write(100)
        node.restart()
        node.full(kit.placement(rules=[rule]), seconds=90)
    assert node.machine.policies(100)["0x20000000"] == Policy(Mode.BIND, frozenset({1}))
    node.full(seconds=30)
    assert node.machine.policies(100)["0x20000000"] == own
    assert not node.claims


def test_what_a_mapping_had_moves_along_with_mremap(node, kit):
    node.machine.start(100, A, kit.anon(0x20000000, policy=kit.BIND))
    node.full(kit.placement(rules=[kit.overriding()]))
    (vma,) = (v for v in node.machine.processes[100].vmas if v.start == 0x20000000)
    node.machine.unmap(100, 0x20000000)
    node.machine.map(100, replace(vma, start=0x70000000, end=0x70100000))
    node.full(kit.placement(rules=[kit.overriding()]))
    node.full()
    assert node.machine.policies(100)["0x70000000"] == kit.BIND


def test_the_programs_own_policy_is_respected(node, kit):
    node.machine.start(100, A, kit.anon(0x20000000, policy=kit.BIND))
    report = node.full(kit.placement())[ONE]
    assert not node.machine.calls
    assert report.rules[0].own_regions == 1 and "override" in report.message


HOME = Policy(Mode.BIND, frozenset({0}), home_node=0)


def test_a_home_node_is_given_back(node, kit):
    node.machine.start(100, A, kit.anon(0x20000000, policy=HOME))
    wanted = kit.placement(rules=[kit.overriding()])
    assert node.full(wanted)[ONE].state == "Placed"
    assert node.machine.policies(100)["0x20000000"] == kit.CXL
    node.restart()
    node.full()
    assert node.machine.policies(100)["0x20000000"] == HOME and not node.claims


def test_a_policy_that_a_rule_wants_keeps_its_home_node(node, kit):
    """Nothing is set, and a move, which sets the policy once more, does not take it away."""
    node.machine.start(100, A, kit.anon(0x20000000, policy=HOME).with_runs([(1, 256)]))
    wanted = kit.rule({"type": "Heap"}, "Bind", "dram") | {"override": True}
    assert node.full(kit.placement(rules=[wanted]))[ONE].state == "Placed"
    assert node.machine.pages(100, 0x20000000) == {0: 256}
    assert {policy for _, _, policy, _ in node.machine.calls} == {HOME}
    assert node.machine.policies(100)["0x20000000"] == HOME
    node.full()
    assert node.machine.policies(100)["0x20000000"] == HOME


def test_ours_with_a_home_node_of_the_programs_is_ours_still(node, kit):
    node.machine.start(100, A, kit.anon(0x20000000))
    node.full(kit.placement())
    again(node, "0x20000000", policy=replace(OURS, home_node=0), runs=[(1, 256)])
    assert node.full(kit.placement())[ONE].state == "Placed"
    node.full()
    assert node.machine.policies(100)["0x20000000"] is None


def executes(node, kit):
    def execute():
        node.machine.on_call = None
        node.machine.execute(100, kit.anon(0x20000000))

    return execute


@pytest.mark.parametrize("undo", [False, True])
@pytest.mark.parametrize("way", [Way.POLICY, Way.MAPS])
def test_what_was_executed_between_look_and_call_is_given_back(node, kit, way, undo):
    """For the new program nothing is written down: what it got is taken away at once."""
    node.way = way
    node.start()
    wanted = kit.placement(rules=[kit.overriding()])
    node.machine.start(100, A, kit.anon(0x20000000, policy=kit.BIND))
    if undo:
        node.full(wanted)
    node.machine.calls.clear()
    node.machine.on_call = executes(node, kit)
    report = node.full(*([] if undo else [wanted]))
    assert [call[2] for call in node.machine.calls[:2]] == [kit.BIND if undo else CXL, DEFAULT]
    if not undo:
        assert (report[ONE].state, report[ONE].rules[0].own_regions) == ("Placed", 0)
        assert node.machine.policies(100)["0x20000000"] == kit.CXL
        node.restart()
        node.full()
    assert node.machine.policies(100)["0x20000000"] is None and not node.claims


def test_a_program_that_is_executed_right_before_the_call_gets_nothing(node, kit):
    node.machine.start(100, A, kit.anon(0x20000000, policy=kit.BIND))
    put = node.store.put

    def written(claim):
        put(claim)
        if not node.machine.calls:
            node.machine.execute(100)
            node.store.put = put

    node.store.put = written
    node.full(kit.placement(rules=[kit.overriding()]))
    assert node.machine.calls == []


@pytest.mark.parametrize("way", [Way.POLICY, Way.MAPS])
def test_what_was_executed_right_after_the_call_keeps_its_own(node, kit, way):
    """Nothing of the call is left there."""
    node.way = way
    node.start()
    node.machine.start(100, A, kit.anon(0x20000000))
    real = node.machine.process_mbind

    def call(*args):
        done = real(*args)
        node.machine.process_mbind = real
        node.machine.execute(100, kit.anon(0x20000000, policy=kit.BIND))
        return done

    node.machine.process_mbind = call
    assert node.full(kit.placement())[ONE].rules[0].own_regions == 1
    assert len(node.machine.calls) == 1
    assert node.machine.policies(100)["0x20000000"] == kit.BIND


def test_mappings_of_one_program_are_not_taken_for_those_of_the_next(node, kit):
    """Else what the old one had would be given back to the new one."""
    node.machine.start(100, A, kit.anon(0x20000000, policy=kit.BIND))
    real = node.machine.read_vmas

    def read(*asked):
        found = real(*asked)
        if node.machine.processes[100].vmas[0].policy == kit.BIND:
            node.machine.execute(100, kit.anon(0x20000000))
        return found

    node.machine.read_vmas = read
    node.start()
    wanted = kit.placement(rules=[kit.overriding()])
    assert node.full(wanted)[ONE].state == "Placed"
    node.machine.read_vmas = real
    node.start()
    node.full()
    assert node.machine.policies(100)["0x20000000"] is None and not node.claims


def again(node, path, **changes):
    process = node.machine.processes[100]
    process.vmas = [
        v.with_runs(changes["runs"], policy=changes.get("policy", v.policy))
        if path in (v.path, hex(v.start))
        else v
        for v in process.vmas
    ]
    node.machine.write(100)


def test_a_program_that_binds_again_is_not_fought_even_if_told_to(node, kit):
    node.machine.start(100, A, kit.anon(0x20000000, policy=kit.BIND))
    wanted = kit.placement(rules=[kit.overriding()])
    for _ in range(40):
        node.full(wanted)
        again(node, "0x20000000", policy=kit.BIND, runs=[(0, 256)])
    assert node.full(wanted)[ONE].reason == "Contended"
    assert len(node.machine.calls) <= 16


def test_demotion_and_agent_do_not_take_turns(node, kit):
    node.machine.start(100, A, kit.anon(0x20000000, 8 * kit.MIB))
    wanted = kit.placement(rules=[kit.rule({"type": "Heap"}, "PreferredMany", "dram")])
    for _ in range(40):
        node.full(wanted, seconds=65)
        again(node, "0x20000000", runs=[(0, 1024), (1, 1024)])
    report = node.full(wanted, seconds=65)[ONE]
    assert report.reason == "Contended" and "demotion" in report.message
    assert len([call for call in node.machine.calls if call[3] & 6]) <= 24


def test_policies_are_known_without_procmap_query_too(node, kit):
    node.way = Way.MAPS
    node.start()
    node.machine.start(100, A, kit.heap(policy=kit.BIND), kit.anon())
    wanted = kit.placement(rules=[kit.overriding()])
    assert node.full(wanted)[ONE].state == "Placed"
    made = len(node.machine.calls)
    node.machine.map(100, kit.anon(0x60000000))
    node.full(wanted)
    assert node.machine.policies(100)["0x60000000"] == kit.CXL
    node.run(60)
    assert len(node.machine.calls) <= made + 3
    node.full()
    assert node.machine.policies(100) == {
        "[heap]": kit.BIND,
        "0x20000000": None,
        "0x60000000": None,
    }


def test_a_policy_whose_text_is_cut_off_is_given_back(node, kit):
    nodes = list(range(1, 60, 2))
    for number in nodes[1:]:
        directory = node.machine.host.numa_nodes / f"node{number}"
        directory.mkdir(parents=True)
        (directory / "cpulist").write_text("\n")
        node.machine.set_free(number, 1 << 20)
    tier = node.machine.host.memory_tiers / "memory_tier5/nodelist"
    tier.write_text(",".join(map(str, nodes)) + "\n")
    node.machine.allowed = frozenset(range(61))
    node.machine.cut_policies = True
    node.way = Way.MAPS
    node.start()
    node.machine.start(100, A, kit.heap())
    report = node.full(kit.placement())[ONE]
    assert (report.state, report.rules[0].regions) == ("Placed", 1)
    node.restart()
    assert node.full(kit.placement())[ONE].state == "Placed"
    node.full()
    assert node.machine.policies(100)["[heap]"] is None
