# SPDX-License-Identifier: Apache-2.0
"""Undo: everything a placement did is given back, whatever the process does meanwhile."""

import pytest
from memplace_agent.containers import processes
from memplace_agent.hostfs import read_proc
from memplace_agent.journal import Key

A = "a" * 64
ONE = ("mp", "p", "c0")


def test_deleting_the_placement_gives_everything_back_and_leaves_pages(node, kit):
    node.machine.start(100, A, kit.heap(policy=kit.BIND), kit.anon())
    node.full(kit.placement(rules=[kit.overriding()]))
    assert set(node.machine.policies(100).values()) == {kit.CXL}
    node.full()
    assert node.machine.policies(100) == {"[heap]": kit.BIND, "0x20000000": None}
    assert node.machine.pages(100, kit.HEAP) == {1: 256}
    assert not list(node.journal.directory.iterdir())


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
    assert Key(101, 1000) in [entry.key for entry in started.journal]
    assert Key(100, 1000) not in [entry.key for entry in started.journal]
    started.full()
    assert set(started.machine.policies(101).values()) == {None}


def test_a_child_that_no_pass_has_seen_is_undone_with_its_parent(started, kit):
    started.full(kit.placement())
    started.machine.fork(100, 101, A)
    started.full()
    assert set(started.machine.policies(101).values()) == {None}
    assert not tuple(started.journal)


def fork_once(started, child, parent=100):
    """Fork just before the kernel acts on a call."""
    if child not in started.machine.processes:
        started.machine.fork(parent, child, A)


def test_a_child_forked_while_its_parent_is_undone_is_undone_too(started, kit):
    started.full(kit.placement())
    started.machine.on_call = lambda: fork_once(started, 101)
    started.full()
    assert set(started.machine.policies(101).values()) == {None}
    assert not tuple(started.journal)


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
    assert not tuple(started.journal)


def test_a_process_that_never_stops_forking_does_not_hold_the_agent_up(started, kit):
    started.full(kit.placement())
    machine = started.machine
    machine.on_call = lambda: machine.fork(max(machine.processes), max(machine.processes) + 1, A)
    started.full()
    assert tuple(started.journal)
    machine.on_call = None
    started.full()
    assert not tuple(started.journal)
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
    started.scan()
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
    assert not tuple(started.journal)


def test_a_heap_that_grows_while_it_is_read_does_not_lose_its_record(started, kit, monkeypatch):
    started.full(kit.placement())
    started.full(kit.placement(rules=[kit.interleave()]))
    reads = iter(range(100))

    def growing(path):
        # The second look at maps, once: the heap is longer than it was a moment ago.
        if path.name == "maps" and next(reads) == 1:
            return read_proc(path).replace(f"-{kit.HEAP + kit.MIB:08x}", f"-{kit.HEAP * 2:08x}")
        return read_proc(path)

    monkeypatch.setattr(processes, "read_proc", growing)
    started.full(kit.placement(rules=[kit.interleave()]))
    started.full()
    assert set(started.machine.policies(100).values()) == {None}


def test_moved_and_grown_mappings_are_given_back_too(started, kit):
    started.full(kit.placement())
    started.machine.unmap(100, 0x20000000)
    # mremap() takes the policy along; here to another place and twice the size.
    started.machine.map(100, kit.anon(0x70000000, 2 * kit.MIB, policy=kit.CXL, pages={1: 512}))
    started.scan()
    started.full()
    assert set(started.machine.policies(100).values()) == {None}


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
    (entry,) = started.reconciler.reports.placements()
    assert (entry.name, entry.reason) == ("mp", "Undoing")
    started.machine.on_call = None
    started.full()
    assert not started.reconciler.reports.placements()


def test_undo_all_returns_whether_everything_is_back(started, kit):
    started.full(kit.placement())
    assert started.reconciler.undo_all()
    assert set(started.machine.policies(100).values()) == {None}
