# SPDX-License-Identifier: Apache-2.0
"""Storms of fork() and execve(): no descriptor is lost, nothing is remembered of the dead."""

import os

import pytest

from tests.faults.alone import run_alone
from tests.support.trying import tries

PROCESSES = tries(1500, 10_000)


def test_nothing_is_left_of_a_storm_of_processes():
    if os.getuid():
        pytest.skip("only root has cgroups to give")
    said = run_alone("storm", PROCESSES, timeout=120 + PROCESSES / 10).split()
    opened, calls, most, last = (
        int(said[said.index(word) + at])
        for word, at in (("opened", 1), ("calls", 1), ("images", 1), ("images", 2))
    )
    # The agent did look at them meanwhile; how often depends on how busy the machine is.
    assert opened > 20
    assert calls > 0
    # Twice what lived at the last census, and 64: fifteen children, and what these forked.
    assert 1 < last <= 64 + 2 * 31
    # Two looks at as many can add to that until it is seen twice that others ended.
    assert most <= 64 + 4 * 31
