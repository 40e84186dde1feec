# SPDX-License-Identifier: Apache-2.0
"""What the series' own selftests do not have; see process_mbind_test.c.

On a machine with three NUMA nodes, HMAT, and a node that is nearer to another than the rest.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine, boot

from . import tap
from .conftest import Build

CASES = ("sysfs_announcement", "later_numbers_enosys", "signature", "nearest_node_no_escape")

# node -> (size, "cpus" or "initiator", distance from node 0, latency in ns, bandwidth)
_NODES = (
    ("512M", "cpus=0-1", 10, 80, "100G"),
    ("256M", "initiator=0", 20, 250, "25G"),
    ("64M", "initiator=0", 30, 400, "10G"),
)


def _numa_args() -> list[str]:
    # QEMU wants all nodes first, then distances, then HMAT
    nodes: list[str] = []
    distances: list[str] = []
    hmat: list[str] = []
    for node, (size, role, distance, latency, bandwidth) in enumerate(_NODES):
        nodes += ["-object", f"memory-backend-memfd,id=m{node},size={size}"]
        nodes += ["-numa", f"node,nodeid={node},memdev=m{node},{role}"]
        if node:
            distances += ["-numa", f"dist,src=0,dst={node},val={distance}"]
        lb = f"hmat-lb,initiator=0,target={node},hierarchy=memory,data-type=access"
        hmat += ["-numa", f"{lb}-latency,latency={latency}"]
        hmat += ["-numa", f"{lb}-bandwidth,bandwidth={bandwidth}"]
    # Node 2 falls back to node 1 first: the way out that nearest_node_no_escape closes
    return [*nodes, *distances, "-numa", "dist,src=1,dst=2,val=15", *hmat]


MACHINE = Machine(args=("-m", "832M", "-smp", "2", *_numa_args()))


@pytest.fixture(scope="module")
def console(kernel: Path, build_init: Build, tmp_path_factory: pytest.TempPathFactory) -> str:
    init = build_init("process_mbind_test", "process_mbind_test.c")
    return boot(kernel, init, MACHINE, tmp_path_factory.mktemp("vm"))


@pytest.mark.parametrize("case", CASES)
def test_case(console: str, case: str) -> None:
    result = tap.results(console).get(case)
    assert result is not None, f"{case} did not run; the console ends with:\n{console[-2000:]}"
    assert result.good, "\n".join(result.notes) or "no explanation"


def test_the_list_above_is_the_list_that_ran(console: str) -> None:
    assert tuple(tap.results(console)) == CASES


def test_the_kernel_did_not_complain(console: str) -> None:
    assert tap.splats(console) == []
