# SPDX-License-Identifier: Apache-2.0
"""What the series' own selftests do not have; see process_mbind_test.c.

On a machine with three NUMA nodes, HMAT, and a node that is nearer to another than the rest.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine, boot
from memplace_lab.machines.qemu import Hardware, Node

from tests.kernel.building import Build

from . import tap

CASES = ("sysfs_announcement", "later_numbers_enosys", "signature", "nearest_node_no_escape")

_GIB = 1 << 10
MACHINE = Machine(
    Hardware(
        (
            Node(512, cpus="0-1", latency_ns=80, bandwidth_mbs=100 * _GIB),
            Node(256, latency_ns=250, bandwidth_mbs=25 * _GIB, distance=20),
            Node(64, latency_ns=400, bandwidth_mbs=10 * _GIB, distance=30),
        ),
        # Node 2 falls back to node 1 first: the way out that nearest_node_no_escape closes
        distances={(1, 2): 15},
    )
)


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
