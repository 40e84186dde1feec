# SPDX-License-Identifier: Apache-2.0
"""Storms of fork() and execve(): no descriptor is lost, nothing is remembered of the dead."""

import os

import pytest

from tests.faults.alone import run_alone
from tests.support.trying import tries

PROCESSES = tries(500, 10_000)


def test_nothing_is_left_of_a_storm_of_processes():
    if os.getuid():
        pytest.skip("only root has cgroups to give")
    said = run_alone("storm", PROCESSES, timeout=120 + PROCESSES / 10).split()
    opened, calls = (int(said[said.index(word) + 1]) for word in ("opened", "calls"))
    # The agent did look at them meanwhile; how often depends on how busy the machine is.
    assert opened > 20
    assert calls > 0
