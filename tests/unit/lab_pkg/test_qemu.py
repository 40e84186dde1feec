# SPDX-License-Identifier: Apache-2.0
"""Machines are data; QEMU takes what is made of it, and has the memory that was meant."""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from memplace_lab.machines import qemu
from memplace_lab.machines.qemu import Hardware, Node
from memplace_lab.machines.topology import TOPOLOGIES

ROOT = Path(__file__).parents[3]
CXL = Hardware((Node(512, cpus="0-1", latency_ns=80, bandwidth_mbs=1000),), cxl_device_mib=256)
PLUGGED = Hardware((Node(512, cpus="0-1"), Node(256, plugged=True)))
MEMORYLESS = Hardware((Node(512, cpus="0"), Node(0, cpus="1"), Node(256)), smp="2,sockets=2")
NEAR = Hardware(
    (Node(512, cpus="0-1"), Node(128, distance=20), Node(64, distance=30)), distances={(1, 2): 15}
)
WORKERS = {
    f"{name}-{worker.name}": worker.hardware
    for name, workers in TOPOLOGIES.items()
    for worker in workers
}


def values(hardware: Hardware, option: str) -> list[str]:
    words = [*hardware.arguments(), *hardware.devices()]
    return [value for word, value in pairwise(words) if word == option]


def test_memory_comes_to_what_its_nodes_have() -> None:
    assert values(NEAR, "-m") == ["704M"]
    assert values(PLUGGED, "-m") == ["512M,slots=1,maxmem=4G"]
    assert values(CXL, "-m") == ["512M"]


def test_hmat_is_on_where_there_is_something_to_say() -> None:
    assert values(NEAR, "-machine") == ["q35"]
    (board,) = values(CXL, "-machine")
    assert board.startswith("q35,hmat=on,cxl=on,")
    slow = Hardware((Node(512, "0-1", 80, 20_000), Node(256, latency_ns=250, bandwidth_mbs=8000)))
    numa = values(slow, "-numa")
    assert "node,nodeid=1,memdev=m1,initiator=0" in numa
    told = "hmat-lb,initiator=0,target=1,hierarchy=memory,data-type=access"
    assert numa[-2:] == [f"{told}-latency,latency=250", f"{told}-bandwidth,bandwidth=8000M"]


def test_a_cxl_device_needs_a_processor_that_is_not_virtual() -> None:
    assert CXL.processor("max") == "max,hypervisor=off"
    assert NEAR.processor("host") == "host"


@pytest.mark.needs_installed(qemu.PROGRAM)
@pytest.mark.parametrize(
    "hardware",
    [
        *(pytest.param(hardware, id=name) for name, hardware in WORKERS.items()),
        *(CXL, PLUGGED, MEMORYLESS, NEAR),
    ],
)
def test_qemu_has_the_nodes(hardware: Hardware) -> None:
    """The machine is not started: QEMU makes it, tells of its memory, and ends."""
    command = [qemu.PROGRAM, *hardware.arguments(), "-accel", "tcg", "-S", "-nodefaults"]
    command += ["-display", "none", "-monitor", "stdio", *hardware.devices()]
    done = subprocess.run(
        command, input="info numa\nquit\n", capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^node (\d+) cpus:([ \d]*)\r?\nnode \1 size: (\d+) MB", done.stdout, re.M)
    assert [int(size) for _, _, size in found] == [node.mib for node in hardware.nodes]
    with_cpus = {int(number) for number, cpus, _ in found if cpus.strip()}
    assert with_cpus == {number for number, node in enumerate(hardware.nodes) if node.cpus}


def test_nobody_else_tells_qemu_of_memory() -> None:
    told = re.compile(r"memory-backend-|hmat-lb|pxb-cxl|node,nodeid=")
    files = (
        path
        for folder in ("lab/src", "bench", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if path != Path(__file__)
    )
    telling = [path for path in files if told.search(path.read_text())]
    assert [path.name for path in telling] == ["qemu.py"]
