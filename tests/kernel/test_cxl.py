# SPDX-License-Identifier: Apache-2.0
"""A CXL Type-3 device brought up as on real hardware, and 4 MiB of a process placed on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine, boot
from memplace_lab.machines.qemu import ONLINE_MOVABLE, Hardware, Node

from tests.kernel.building import Build

from . import tap

CASES = (
    "region_becomes_node",
    "node_has_its_own_slower_tier",
    "four_mebibytes_move_there_and_back",
    "future_pages_are_born_there",
)

# Every access to the device leaves the emulated processor: a page takes milliseconds
MACHINE = Machine(
    Hardware((Node(512, cpus="0-1", latency_ns=80, bandwidth_mbs=100 << 10),), cxl_device_mib=256),
    append=ONLINE_MOVABLE,
    timeout_s=420.0,
)


@pytest.fixture(scope="module")
def console(kernel: Path, build_init: Build, tmp_path_factory: pytest.TempPathFactory) -> str:
    init = build_init("cxl_test", "cxl_test.c", "cxl_region.c")
    return boot(kernel, init, MACHINE, tmp_path_factory.mktemp("vm"))


@pytest.mark.parametrize("case", CASES)
def test_case(console: str, case: str) -> None:
    result = tap.results(console).get(case)
    assert result is not None, f"{case} did not run; the console ends with:\n{console[-2000:]}"
    assert result.good, "\n".join(result.notes) or "no explanation"


def test_the_kernel_did_not_complain(console: str) -> None:
    assert tap.splats(console) == []
