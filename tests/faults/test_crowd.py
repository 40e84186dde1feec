# SPDX-License-Identifier: Apache-2.0
"""As many mappings as there may be, with odd names: all are read, and nobody else waits."""

import os

import pytest

from tests.faults.alone import run_alone


def test_a_process_of_65530_mappings_is_read_whole_and_its_neighbours_are_placed():
    if os.getuid():
        pytest.skip("only root has cgroups to give")
    run_alone("crowd", timeout=120)
