# SPDX-License-Identifier: Apache-2.0
"""Nodes and tiers that go while they are read."""

import pytest
from memplace_agent.node.machine import read_machine
from memplace_agent.node.memory import read_rooms
from memplace_agent.sysfs import read_numa_nodes
from memplace_agent.sysfs.numa import parse_cpus


@pytest.mark.parametrize("file", ["cpulist", "meminfo"])
def test_a_node_that_goes_while_it_is_read_is_left_out(machine, file):
    machine.add_node(2, cpus="", tier=6)
    (machine.host.numa_nodes / "node2" / file).unlink()
    assert [node.id for node in read_numa_nodes(machine.host)] == [0, 1]


def test_a_tier_that_goes_is_as_if_it_had_not_been(machine):
    (machine.host.memory_tiers / "memory_tier5/nodelist").unlink()
    assert [node.kernel_tier for node in read_numa_nodes(machine.host)] == [4, None]


def test_what_can_not_be_read_for_another_reason_is_an_error(machine):
    path = machine.host.numa_nodes / "node1/cpulist"
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        read_numa_nodes(machine.host)


@pytest.mark.parametrize("name", ["node1x", "node01", "node1024", "node"])
def test_a_name_that_is_no_number_is_no_node(machine, name):
    (machine.host.numa_nodes / name).mkdir()
    assert [node.id for node in read_numa_nodes(machine.host)] == [0, 1]
    assert read_rooms(machine.host).keys() == {0, 1}


def weights(machine, **found):
    machine.host.interleave_weights.mkdir(parents=True)
    for name, content in found.items():
        (machine.host.interleave_weights / name).write_text(content)
    return machine.host.interleave_weights


def test_a_weight_that_goes_while_it_is_read_costs_no_other(machine):
    folder = weights(machine, node0="3\n", node1="1\n", auto="false\n")
    assert read_machine(machine.host, [], "n").weights == {0: 3, 1: 1}
    (folder / "node1").unlink()
    (folder / "node1").symlink_to("gone")
    assert read_machine(machine.host, [], "n").weights == {0: 3}


def test_weights_that_are_not_understood_are_not_told(machine):
    weights(machine, node0="3\n", node1="many\n")
    assert read_machine(machine.host, [], "n").weights is None


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("\n", set()),
        ("0-2,7\n", {0, 1, 2, 7}),
        ("2-0\n", None),
        (",\n", None),
        ("0-3,2\n", None),
        ("0-123456\n", None),
        ("0-3:1/2\n", None),
    ],
)
def test_a_list_of_cpus(text, cpus):
    assert parse_cpus(text) == cpus
