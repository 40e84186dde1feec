# SPDX-License-Identifier: Apache-2.0
"""An agent that comes after one which kept a file per process."""

import json

import pytest

A = "a" * 64
SET = "prefer (many):1"
ONE = ("mp", "p", "c0")


@pytest.fixture
def left(node, kit):
    """A process as the older agent left it: its policies, and its file of them."""
    heap = kit.heap(policy=kit.CXL)
    mine = kit.anon(0x30000000, 0x4000, policy=kit.BIND)
    node.machine.start(100, A, heap, kit.anon(policy=kit.CXL), mine)
    write(node, kit)
    return node


def write(node, kit, pid=100, start=1000, **changes):
    records = [
        {
            "start": kit.HEAP,
            "end": kit.HEAP + kit.MIB,
            "previous": "bind:0",
            "applied": ["prefer (many):1"],
        },
        {
            "start": 0x20000000,
            "end": 0x20100000,
            "previous": "default",
            "applied": ["prefer (many):1"],
        },
    ]
    entry = {
        "key": [pid, start],
        "container_id": A,
        "placement": ["uid-mp", "ns", "mp"],
        "allowed": "0-1",
        "foreign": [],
        "records": records,
    }
    file = node.machine.host.journal / f"{pid}-{start}.json"
    file.write_text(json.dumps(entry | changes))
    return file


def test_what_an_older_agent_set_is_kept_and_given_back_as_it_was(left, kit):
    left.restart()
    assert [claim.container for claim in left.claims] == [A]
    assert left.full(kit.placement())[ONE].state == "Placed"
    assert left.machine.policies(100)["[heap]"] == kit.CXL
    assert [path.name for path in left.machine.host.journal.iterdir()] == [f"{A}.v2.json"]
    left.full()
    assert left.machine.policies(100) == {
        "[heap]": kit.BIND,
        "0x20000000": None,
        "0x30000000": kit.BIND,
    }
    assert not left.claims


def test_a_placement_that_is_gone_by_the_upgrade_is_undone(left, kit):
    left.restart()
    left.full()
    assert left.machine.policies(100)["[heap]"] == kit.BIND
    assert not left.claims and not list(left.machine.host.journal.iterdir())


def test_children_that_the_older_agent_knew_are_given_everything_back(left, kit):
    left.machine.fork(100, 101, A)
    write(left, kit, pid=101)
    left.restart()
    left.full()
    assert left.machine.policies(101)["[heap]"] == kit.BIND
    assert left.machine.policies(101)["0x20000000"] is None


def test_what_the_program_had_set_like_the_older_agent_stays(node, kit):
    mine = kit.anon(0x30000000, 0x4000, policy=kit.CXL)
    node.machine.start(100, A, kit.heap(policy=kit.CXL), mine)
    write(node, kit, foreign=[SET])
    node.restart()
    node.full()
    assert node.machine.policies(100) == {"[heap]": kit.BIND, "0x30000000": kit.CXL}


def test_the_file_of_a_process_that_ended_is_void(left, kit):
    left.machine.end(100)
    left.machine.start(100, A, kit.heap(policy=kit.CXL), start_time=2000)
    left.restart()
    left.full()
    assert left.machine.policies(100)["[heap]"] == kit.CXL
    assert not list(left.machine.host.journal.iterdir())


@pytest.mark.parametrize("text", ["", "{}", '{"key": [100, 1000], "records": 7}'])
def test_a_file_that_nobody_understands_stays_and_is_named(left, text):
    file = left.machine.host.journal / "100-1000.json"
    file.write_text(text)
    left.restart()
    assert file.exists() and [unread.file for unread in left.store.unread] == [file.name]


def test_a_file_nested_without_end_stays_and_the_others_are_taken_over(left, kit):
    file = left.machine.host.journal / "99-1000.json"
    file.write_text('{"x":' + "[" * 100_000)
    left.restart()
    assert file.exists() and [unread.file for unread in left.store.unread] == [file.name]
    assert [claim.container for claim in left.claims] == [A]
