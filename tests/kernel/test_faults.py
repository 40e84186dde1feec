# SPDX-License-Identifier: Apache-2.0
"""Each allocation of a call fails in turn, and of a process with a default; see faults.c.

Only on a kernel with CONFIG_FAULT_INJECTION, which the flavour ``kasan`` of
``make test-kernel-full`` has: `conftest.py` leaves these tests out on any other.
"""

from __future__ import annotations

import pytest
from memplace_lab.machines.microvm import Machine
from memplace_lab.machines.qemu import Hardware, Node

from tests.kernel.building import Build
from tests.kernel.running import Ran, Run
from tests.support.splats import splats

MACHINE = Machine(
    Hardware((Node(768, cpus="0-1"), Node(256))),
    append="transparent_hugepage=never",
    timeout_s=600,
)


@pytest.fixture(scope="module")
def ran(run_on: Run, build_init: Build) -> Ran:
    return run_on(MACHINE, [build_init("faults", "faults.c", "faults_default.c")])


def test_it_ran_to_its_end(ran: Ran) -> None:
    ran.check_whole()


def test_each_allocation_may_fail(ran: Ran, subtests: pytest.Subtests) -> None:
    ran.check_cases(subtests)


def test_the_kernel_did_not_complain(ran: Ran) -> None:
    # An allocation of fork() that fails tells so, with a trace: that is no complaint
    assert [line for line in splats(ran.console) if "Call Trace:" not in line] == []
