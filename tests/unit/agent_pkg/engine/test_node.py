# SPDX-License-Identifier: Apache-2.0
"""What is read of the machine: pressure, room, and what the kernel moves by itself."""

import shutil

import pytest
from memplace.pacing import Room
from memplace_agent.node.memory import own_nodes, read_kernel_moves, read_node_state, read_rooms
from memplace_agent.node.psi import cgroup_pressure, node_pressure
from memplace_agent.node.senses import Senses
from memplace_agent.syscalls.features import probe

MIB, GIB = 1 << 20, 1 << 30
PSI = """some avg10={} avg60=0.10 avg300=0.00 total=12345
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
"""
ZONEINFO = """Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 148778
  pages free     3840
        boost    0
        min      10
        low      13
        high     16
        promo    19
        spanned  4095
Node 0, zone   Normal
  pages free     90000
        boost    0
        min      16000
        low      20000
        high     24000
        protection: (0, 0, 0, 0, 0)
      nr_free_pages 90000
              high:  2
Node 1, zone  Movable
  pages free     0
        min      100
        low      200
        high     300
"""


@pytest.fixture
def host(machine):
    return machine.host


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("number", ["0.00", "12.34", "100.00"])
def test_pressure_is_the_average_of_ten_seconds(host, number):
    write(host.proc / "pressure/memory", PSI.format(number))
    write(host.cgroup / "memory.pressure", PSI.format(number))
    assert node_pressure(host) == cgroup_pressure(host.cgroup) == float(number)


@pytest.mark.parametrize("text", [None, "", "nonsense\n", "some avg10=x"])
def test_a_kernel_without_psi_is_no_error(host, text):
    if text is not None:
        write(host.proc / "pressure/memory", text)
    assert node_pressure(host) is None
    assert cgroup_pressure(host.cgroup / "gone") is None


def test_a_file_that_cannot_be_read_is_no_pressure(host):
    """With psi=0 or cgroup.pressure off the file is there, and its read fails."""
    (host.proc / "pressure/memory").mkdir(parents=True)
    assert node_pressure(host) is None


def test_room_has_watermarks_cache_and_pools(host):
    write(host.proc / "zoneinfo", ZONEINFO)
    with (host.numa_nodes / "node0/meminfo").open("a") as file:
        file.write("Node 0 Inactive(file):  2048 kB\nNode 0 Inactive:  4096 kB\n")
    write(host.numa_nodes / "node0/hugepages/hugepages-2048kB/free_hugepages", "3\n")
    write(host.numa_nodes / "node0/hugepages/hugepages-1048576kB/free_hugepages", "0\n")
    rooms = read_rooms(host)
    assert rooms[0] == Room(
        total=16 * GIB,
        free=8 * GIB,
        reclaimable=2 * MIB,
        minimum=16010 * 4096,
        low=20013 * 4096,
        high=24016 * 4096,
        huge={2 * MIB: 6 * MIB, GIB: 0},
    )
    assert rooms[1] == Room(total=16 * GIB, free=8 * GIB, minimum=409600, low=819200, high=1228800)


def test_a_node_that_is_removed_meanwhile_has_no_room(host):
    (host.numa_nodes / "node1/meminfo").unlink()
    write(host.numa_nodes / "node0/hugepages/hugepages-2048kB/free_hugepages", "odd\n")
    assert read_rooms(host) == {}
    shutil.rmtree(host.numa_nodes)
    assert read_rooms(host) == {}


@pytest.mark.parametrize(
    ("status", "nodes"),
    [
        ("Name:\tx\nMems_allowed:\t3\nMems_allowed_list:\t0-1,4\n", frozenset({0, 1, 4})),
        ("Name:\tx\n", None),
        (None, None),
    ],
)
def test_the_agents_own_cpuset_is_read(host, status, nodes):
    if status:
        write(host.proc / "self/status", status)
    assert own_nodes(host) == nodes
    assert read_node_state(host, 5.0).agent_allowed == nodes


@pytest.mark.parametrize(
    ("demotion", "balancing", "modes"),
    [
        (None, None, (False, ())),
        ("false\n", "0\n", (False, ())),
        ("true\n", "2\n", (True, ("MemoryTiering",))),
        ("1\n", "3\n", (True, ("Normal", "MemoryTiering"))),
    ],
)
def test_what_the_kernel_moves_is_read_and_said(host, demotion, balancing, modes):
    if demotion:
        write(host.sysfs / "kernel/mm/numa/demotion_enabled", demotion)
        write(host.proc / "sys/kernel/numa_balancing", balancing)
    moves = read_kernel_moves(host)
    assert (moves.demotion, moves.numa_balancing) == modes
    assert ("demotes cold pages" in moves.message) == modes[0]
    assert ("NUMA balancing" in moves.message) == bool(modes[1])


def test_files_are_read_once_per_second(host):
    senses = Senses(host)
    write(host.cgroup / "memory.pressure", PSI.format("1.00"))
    first, pressure = senses.node(10.0), senses.pressure(host.cgroup, 10.0)
    shutil.rmtree(host.numa_nodes)
    write(host.cgroup / "memory.pressure", PSI.format("9.00"))
    assert senses.node(10.9) is first
    assert senses.pressure(host.cgroup, 10.9) == pressure == 1.0
    assert senses.node(10.9, fresh=True).rooms == {}
    assert senses.node(12.0).rooms == {}
    assert senses.pressure(host.cgroup, 12.0) == 9.0


@pytest.mark.parametrize(
    ("files", "masks"),
    [
        ({"flags": "0xf7\n", "future": "0x3\n"}, (0xF7, 3)),
        ({}, (0b110, 0)),
        ({"flags": "odd\n", "future": ""}, (0b110, 0)),
    ],
)
def test_flags_are_those_that_the_kernel_announces(host, files, masks):
    announced = {"nr": "900\n", "version": "2\n", "args_size": "40\n"}
    for name, text in (announced | files).items():
        write(host.announcement / name, text)
    write(host.proc / "self/status", "CapEff:\t0000000000880000\n")
    answers = iter((22, 7, 22, 14, 9, 0))
    features = probe(host, lambda *_: -next(answers))
    assert (features.nr, features.flags, features.future) == (900, *masks)
