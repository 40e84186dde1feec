# SPDX-License-Identifier: Apache-2.0
"""A process whose first thread has ended: it is said, and nothing of it is forgotten."""

import os
import platform

import pytest

from tests.faults.alone import run_alone


def test_what_was_done_in_a_process_without_its_first_thread_stays_known():
    if os.getuid():
        pytest.skip("only root has cgroups to give")
    if platform.machine() != "x86_64":
        pytest.skip("the number of exit(2) is x86_64's")
    run_alone("leaderless", timeout=120)
