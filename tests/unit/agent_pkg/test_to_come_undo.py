# SPDX-License-Identifier: Apache-2.0
"""Undo takes the default for mappings to come away, and the policy of what was born under it."""

import pytest
from memplace_agent.procfs.query import Way

from tests.support.agent.build import rule
from tests.support.agent.mappings import DEFAULT
from tests.unit.agent_pkg.test_to_come import LATER, A, future, placed


def crash():
    raise KeyboardInterrupt


@pytest.mark.parametrize("after", [False, True])
def test_an_agent_that_ends_at_the_call_is_undone_by_the_next(started, kit, after):
    machine, kernel = started.machine, started.machine.set_future

    def end(*args):
        if after:
            kernel(*args)
        crash()

    machine.set_future = end
    with pytest.raises(KeyboardInterrupt):
        placed(started, kit)
    machine.set_future = kernel
    machine.born(100, kit.anon(LATER))
    assert (machine.policies(100)[hex(LATER)] == kit.CXL) is after
    started.restart()
    started.full()
    assert not future(started) and not started.claims
    assert set(machine.policies(100).values()) == {None}


def test_a_child_forked_while_its_parent_is_undone_loses_it_too(started, kit):
    placed(started, kit)

    def fork():
        if 101 not in started.machine.processes:
            started.machine.fork(100, 101, A)

    started.machine.on_future = fork
    started.full()
    assert not future(started, 100) and not future(started, 101)
    started.machine.born(101, kit.anon(LATER))
    assert set(started.machine.policies(101).values()) == {None}
    assert not started.claims


def test_the_same_if_there_is_nothing_but_the_default(node, kit):
    node.machine.start(100, A)
    placed(node, kit)

    def fork():
        if 101 not in node.machine.processes:
            node.machine.fork(100, 101, A)

    node.machine.on_future = fork
    node.full()
    assert not future(node, 100) and not future(node, 101)


def test_what_is_born_just_before_it_is_taken_away_is_given_back(started, kit):
    placed(started, kit)
    started.machine.on_future = lambda: started.machine.born(100, kit.anon(LATER))
    started.full()
    assert set(started.machine.policies(100).values()) == {None}


def executes(started, kit):
    def execute():
        started.machine.execute(100)
        started.machine.born(100, kit.anon(LATER))
        started.machine.on_future = None

    return execute


def test_a_program_that_is_executed_just_before_it_is_taken_away_is_undone(started, kit):
    placed(started, kit)
    started.machine.on_future = executes(started, kit)
    started.full()
    assert not future(started) and not started.claims
    assert started.machine.policies(100) == {hex(LATER): None}


def test_a_program_that_is_executed_just_before_it_is_set_has_it_and_loses_it(started, kit):
    started.machine.on_future = executes(started, kit)
    placed(started, kit)
    assert future(started)
    started.machine.born(100, kit.heap())
    started.restart()
    started.full()
    assert not future(started) and not started.claims
    assert set(started.machine.policies(100).values()) == {None}


def test_the_same_when_rules_take_it_away(started, kit):
    placed(started, kit)
    started.machine.on_future = executes(started, kit)
    placed(started, kit, rule({"type": "Stack"}))
    assert not future(started)
    assert started.machine.policies(100) == {hex(LATER): None}


def test_an_undo_that_was_cut_off_at_the_call_finds_what_was_born_under_it(started, kit):
    placed(started, kit)
    started.machine.execute(100)
    started.machine.born(100, kit.anon(LATER))
    kernel = started.machine.set_future

    def end(*args):
        kernel(*args)
        crash()

    started.machine.set_future = end
    with pytest.raises(KeyboardInterrupt):
        started.full()
    assert not future(started)
    started.machine.set_future = kernel
    started.restart()
    started.full()
    assert started.machine.policies(100) == {hex(LATER): None} and not started.claims


def test_an_undo_that_was_cut_off_behind_it_finds_what_was_born_under_it(started, kit):
    placed(started, kit)
    started.machine.execute(100)
    started.machine.born(100, kit.anon(LATER))
    started.machine.on_call = crash
    with pytest.raises(KeyboardInterrupt):
        started.full()
    assert not future(started)
    started.machine.on_call = None
    started.restart()
    started.full()
    assert started.machine.policies(100) == {hex(LATER): None} and not started.claims


def test_an_undo_that_fails_shows_until_it_succeeds(started, kit):
    placed(started, kit)

    def refuse():
        raise kit.CallFailed(1, "no room")

    started.machine.on_future = refuse
    started.full()
    assert started.said["mp"].reason == "Undoing" and "no room" in started.said["mp"].message
    started.machine.on_future = None
    started.run(120)
    assert not started.said and not future(started)


def test_a_pod_that_is_not_selected_any_more_loses_it(started, kit):
    placed(started, kit)
    other = kit.placement(selector={"matchLabels": {"app": "another"}})
    started.full(other, seconds=60)
    assert not future(started) and set(started.machine.policies(100).values()) == {None}


def test_retiring_takes_it_away(started, kit):
    placed(started, kit)
    assert started.reconciler.undo_all() == (True, "")
    assert not future(started)


@pytest.mark.parametrize("way", [Way.MAPS, Way.QUERY])
def test_it_is_undone_where_policies_are_read_from_numa_maps(started, kit, way):
    started.way = way
    started.start()
    placed(started, kit)
    started.machine.born(100, kit.anon(LATER))
    started.full()
    assert not future(started) and not started.claims
    assert set(started.machine.policies(100).values()) == {None}


def test_a_default_of_another_home_node_is_not_ours(started, kit):
    placed(started, kit)
    status = started.machine.host.pid(100) / "status"
    status.write_text(status.read_text().replace(" exec", " home:1 exec"))
    started.full()
    assert not [policy for _, policy, _, _ in started.machine.futures if policy == DEFAULT]
