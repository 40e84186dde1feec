# SPDX-License-Identifier: Apache-2.0
"""Where the agent is, in real cgroups and a cgroup namespace of its own."""

import os

import pytest

from tests.faults.alone import run_alone


def test_an_agent_in_a_container_finds_itself_and_its_neighbours():
    if os.getuid():
        pytest.skip("only root has cgroups to give")
    assert run_alone("place", timeout=60) == "found\n"
