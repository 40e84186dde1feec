# SPDX-License-Identifier: Apache-2.0
"""Each allocation of a call fails in turn, and of a process with a default; see faults.c.

Only on a kernel with CONFIG_FAULT_INJECTION, which the flavour ``kasan`` of
``make test-kernel-full`` has: `conftest.py` leaves these tests out on any other.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine, boot
from memplace_lab.machines.qemu import Hardware, Node

from tests.kernel.building import Build

from . import tap

MACHINE = Machine(
    Hardware((Node(768, cpus="0-1"), Node(256))),
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
