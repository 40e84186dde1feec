# SPDX-License-Identifier: Apache-2.0
"""How a program finds the call, on a machine with two NUMA nodes; see announcement_test.c."""

from __future__ import annotations

import pytest
from memplace_lab.machines.microvm import Machine
from memplace_lab.machines.qemu import Hardware, Node

from tests.kernel.building import Build
from tests.kernel.running import Ran, Run

MACHINE = Machine(Hardware((Node(512, cpus="0-1"), Node(256))))


@pytest.fixture(scope="module")
def ran(run_on: Run, build_init: Build) -> Ran:
    return run_on(MACHINE, [build_init("announcement", "announcement_test.c")])


def test_it_ran_to_its_end(ran: Ran) -> None:
    ran.check_whole()


def test_no_case_failed(ran: Ran, subtests: pytest.Subtests) -> None:
    ran.check_cases(subtests)


def test_the_kernel_did_not_complain(ran: Ran) -> None:
    ran.check_console()
