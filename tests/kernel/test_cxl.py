# SPDX-License-Identifier: Apache-2.0
"""A CXL Type-3 device brought up as on real hardware, and 4 MiB of a process placed on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine, boot

from . import tap
from .conftest import Build

CASES = (
    "region_becomes_node",
    "node_has_its_own_slower_tier",
    "four_mebibytes_move_there_and_back",
    "future_pages_are_born_there",
)

_HMAT = "hmat-lb,initiator=0,target=0,hierarchy=memory,data-type=access"
_DEVICES = (
    *("-object", "memory-backend-ram,id=m0,size=512M"),
    *("-numa", "node,nodeid=0,memdev=m0,cpus=0-1"),
    *("-numa", f"{_HMAT}-latency,latency=80"),
    *("-numa", f"{_HMAT}-bandwidth,bandwidth=100G"),
    *("-object", "memory-backend-ram,id=cxl-mem,share=on,size=256M"),
    *("-device", "pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.1"),
    *("-device", "cxl-rp,port=0,bus=cxl.1,id=rp0,chassis=0,slot=2"),
    *("-device", "cxl-type3,bus=rp0,volatile-memdev=cxl-mem,id=cxl0,sn=0x1"),
)
# Every access to the device leaves the emulated processor: a page takes milliseconds
MACHINE = Machine(
    machine="q35,hmat=on,cxl=on,cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.size=1G",
    cpu="max,hypervisor=off",
    append="memhp_default_state=online_movable",
    args=("-m", "512M", "-smp", "2", *_DEVICES),
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
