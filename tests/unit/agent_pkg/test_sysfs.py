# SPDX-License-Identifier: Apache-2.0
"""Nodes and tiers that go while they are read."""

import pytest
from memplace_agent.sysfs import read_numa_nodes


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
