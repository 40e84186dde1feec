# SPDX-License-Identifier: Apache-2.0
"""Undo: everything a placement did is given back, whatever the process does meanwhile."""

from dataclasses import replace

import pytest
from memplace.rebind import STATIC

from tests.support.agent.machine import CXL

A = "a" * 64
OURS = replace(CXL, flags=frozenset({STATIC}))
ONE = ("mp", "p", "c0")


def test_deleting_the_placement_gives_everything_back_and_leaves_pages(node, kit):
    node.machine.start(100, A, kit.heap(policy=kit.BIND), kit.anon())
    node.full(kit.placement(rules=[kit.overriding()]))
    assert set(node.machine.policies(100).values()) == {kit.CXL}
    node.full()
    assert node.machine.policies(100) == {"[heap]": kit.BIND, "0x20000000": None}
    assert node.machine.pages(100, kit.HEAP) == {1: 256}
    assert not list(node.machine.host.journal.iterdir())


def test_a_rule_that_is_gone_gives_its_regions_back(started, kit):
    started.full(kit.placement())
    started.full(kit.placement(rules=[kit.interleave()]))
    policies = started.machine.policies(100)
    assert policies["[heap]"].mode == "Interleave"
    assert policies["0x20000000"] is None


def test_a_forked_child_inherits_what_its_parent_had_before(started, kit):
    started.full(kit.placement())
    started.machine.fork(100, 101, A)
    started.machine.end(100)
    started.full(kit.placement())
    started.full()
    assert set(started.machine.policies(101).values()) == {None}


def test_an_exception_is_given_back_in_a_forked_child_too(node, kit):
    node.machine.start(100, A, kit.heap(policy=kit.BIND), kit.anon())
    node.full(kit.placement(rules=[kit.overriding()]))
    node.machine.fork(100, 101, A)
    node.machine.end(100)
    node.full()
    assert node.machine.policies(101) == {"[heap]": kit.BIND, "0x20000000": None}


def test_a_child_that_no_pass_has_seen_is_undone_with_its_parent(started, kit):
    started.full(kit.placement())
    started.machine.fork(100, 101, A)
    started.full()
    assert set(started.machine.policies(101).values()) == {None}
    assert not started.claims


def fork_once(started, child, parent=100):
    """Fork just before the kernel acts on a call."""
    if child not in started.machine.processes:
        started.machine.fork(parent, child, A)


def test_a_child_forked_while_its_parent_is_undone_is_undone_too(started, kit):
    started.full(kit.placement())
    started.machine.on_call = lambda: fork_once(started, 101)
    started.full()
    assert set(started.machine.policies(101).values()) == {None}
    assert not started.claims


def test_an_agent_killed_between_parent_and_child_still_undoes_the_child(started, kit):
    started.full(kit.placement())
    made = len(started.machine.calls)

    def crash():
        fork_once(started, 101)
        if len(started.machine.calls) > made:
            raise KeyboardInterrupt

    started.machine.on_call = crash
    with pytest.raises(KeyboardInterrupt):
        started.full()
    started.machine.on_call = None
    started.restart()
    started.full()
    for pid in (100, 101):
        assert set(started.machine.policies(pid).values()) == {None}
    assert not started.claims


def test_a_process_that_never_stops_forking_does_not_hold_the_agent_up(started, kit):
    started.full(kit.placement())
    machine = started.machine
    machine.on_call = lambda: machine.fork(max(machine.processes), max(machine.processes) + 1, A)
    started.full()
    assert started.claims
    machine.on_call = None
    started.run(60)
    assert not started.claims
    assert all(set(machine.policies(pid).values()) == {None} for pid in machine.processes)


def test_a_child_forked_while_a_rule_is_withdrawn_gives_its_regions_back(started, kit):
    # Nothing else of the process has the policy that is withdrawn.
    large = {
        "name": "large",
        "regions": [{"type": "Anonymous", "minSize": "1Mi"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    started.full(kit.placement(rules=[kit.interleave(), large]))
    started.machine.on_call = lambda: fork_once(started, 101)
    started.full(kit.placement(rules=[kit.interleave()]))
    started.machine.on_call = None
    started.run(15)
    assert started.machine.policies(101)["0x20000000"] is None


def test_a_parent_that_forks_and_ends_within_a_pass_is_still_learned_from(started, kit):
    started.full(kit.placement())

    def fork_and_end():
        if 100 in started.machine.processes:
            started.machine.fork(100, 101, A)
            started.machine.end(100)

    started.machine.on_call = fork_and_end
    started.full(kit.placement(rules=[kit.interleave()]))
    started.machine.on_call = None
    started.full(kit.placement(rules=[kit.interleave()]))
    started.full()
    assert set(started.machine.policies(101).values()) == {None}
    assert not started.claims


def test_what_grows_before_each_call_is_given_back(started, kit):
    started.full(kit.placement())
    where = [0x70000000]

    def grow():
        started.machine.map(100, kit.anon(where[0], policy=kit.CXL))
        where[0] += 1 << 24

    started.machine.on_call = lambda: len(started.machine.calls) < 20 and grow()
    started.full()
    assert {started.machine.policies(100)[key] for key in ("[heap]", "0x20000000")} == {None}


def test_moved_and_grown_mappings_are_given_back_too(started, kit):
    started.full(kit.placement())
    started.machine.unmap(100, 0x20000000)
    # mremap() takes the policy along; here to another place and twice the size.
    started.machine.map(100, kit.anon(0x70000000, 2 * kit.MIB, policy=OURS, pages={1: 512}))
    started.run(5)
    started.full()
    assert set(started.machine.policies(100).values()) == {None}


def test_what_moves_away_under_the_call_that_gives_it_back_is_found(started, kit):
    started.full(kit.placement())
    moved = kit.anon(0x70000000, policy=OURS)

    def move():
        if 0x20000000 in {v.start for v in started.machine.processes[100].vmas}:
            started.machine.unmap(100, 0x20000000)
            started.machine.map(100, moved)

    started.machine.on_call = move
    started.full()
    started.run(60)
    assert set(started.machine.policies(100).values()) == {None}
    assert not started.claims


def test_a_policy_that_the_program_set_itself_stays(node, kit):
    mine = kit.anon(0x30000000, 0x4000, policy=kit.CXL)
    node.machine.start(100, A, kit.heap(), mine)
    node.full(kit.placement())
    node.full()
    assert node.machine.policies(100) == {"[heap]": None, "0x30000000": kit.CXL}


def test_a_policy_the_program_changed_meanwhile_stays(started, kit):
    started.full(kit.placement())
    started.machine.unmap(100, kit.HEAP)
    started.machine.map(100, kit.heap(policy=kit.BIND))
    started.full()
    assert started.machine.policies(100)["[heap]"] == kit.BIND


def test_undo_that_fails_shows_until_it_succeeds(started, kit):
    started.full(kit.placement())

    def refuse():
        raise kit.CallFailed(12, "no memory")

    started.machine.on_call = refuse
    started.full()
    assert started.said["mp"].reason == "Undoing" and "no memory" in started.said["mp"].message
    started.machine.on_call = None
    started.run(120)
    assert not started.said
    assert set(started.machine.policies(100).values()) == {None}


def test_undo_all_returns_whether_everything_is_back(started, kit):
    started.full(kit.placement())
    assert started.reconciler.undo_all() == (True, "")
    assert set(started.machine.policies(100).values()) == {None}
