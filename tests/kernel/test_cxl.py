# SPDX-License-Identifier: Apache-2.0
"""A CXL Type-3 device brought up as on real hardware, and memory of processes placed on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine
from memplace_lab.machines.qemu import ONLINE_MOVABLE, Hardware, Node

from tests.kernel.building import Build
from tests.kernel.running import Ran, Run

# Every access to the device leaves the emulated processor: a page takes milliseconds
MACHINE = Machine(
    Hardware((Node(512, cpus="0-1", latency_ns=80, bandwidth_mbs=100 << 10),), cxl_device_mib=256),
    append=ONLINE_MOVABLE,
    timeout_s=420.0,
)


# All that the selftests do with plain memory, but for what moves hundreds of MiB
SELFTEST = ("process_mbind_memory", "-T", "large_move")
THREE_NODES = {
    "memory.remote_interleave_move",
    "memory.remote_weighted_interleave_move",
    "memory.vector_interleaves_by_index",
}


@pytest.fixture(scope="module")
def ran(run_on: Run, build_init: Build, selftests: list[Path]) -> Ran:
    device = build_init("cxl", "cxl_test.c", "cxl_region.c")
    return run_on(MACHINE, [device, *selftests], ("cxl",), SELFTEST)


def test_it_ran_to_its_end(ran: Ran) -> None:
    ran.check_whole()


def test_no_case_failed(ran: Ran, subtests: pytest.Subtests) -> None:
    ran.check_cases(subtests)


def test_only_what_needs_a_third_node_was_skipped(ran: Ran) -> None:
    assert {name for name, case in ran.cases.items() if case.skipped} == THREE_NODES


def test_the_kernel_did_not_complain(ran: Ran) -> None:
    ran.check_console()
