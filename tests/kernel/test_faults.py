# SPDX-License-Identifier: Apache-2.0
"""Each allocation of a call fails in turn, and of a process with a default; see faults.c.

Only on a kernel with CONFIG_FAULT_INJECTION, which the flavour ``kasan`` of
``make test-kernel-full`` has: `conftest.py` leaves these tests out on any other.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine, boot

from . import tap
from .conftest import Build

MACHINE = Machine(
    machine="q35",
    args=(
        *("-m", "1G", "-smp", "2"),
        *("-object", "memory-backend-memfd,id=m0,size=768M"),
        *("-numa", "node,nodeid=0,memdev=m0,cpus=0-1"),
        *("-object", "memory-backend-memfd,id=m1,size=256M", "-numa", "node,nodeid=1,memdev=m1"),
    ),
    append="transparent_hugepage=never",
    timeout_s=600,
)
CASES = (
    *("policy", "interleave", "move", "move_strict", "future", "future_and_ranges"),
    *("default_mmap", "default_brk", "default_fork", "default_execve"),
    "nothing_leaked",
)


@pytest.fixture(scope="module")
def console(kernel: Path, build_init: Build, tmp_path_factory: pytest.TempPathFactory) -> str:
    init = build_init("faults", "faults.c", "faults_default.c")
    return boot(kernel, init, MACHINE, tmp_path_factory.mktemp("vm"))


@pytest.mark.parametrize("case", CASES)
def test_each_allocation_may_fail(console: str, case: str) -> None:
    result = tap.results(console).get(case)
    assert result is not None, console[-3000:]
    assert result.good, "\n".join(result.notes)


def test_the_kernel_did_not_complain(console: str) -> None:
    # An allocation of fork() that fails tells so, with a trace: that is no complaint
    assert [line for line in tap.splats(console) if "Call Trace:" not in line] == []
