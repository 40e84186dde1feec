# SPDX-License-Identifier: Apache-2.0
"""Pids that are given to others on purpose, between any two steps of pinning one."""

import os

import pytest
from memplace_agent.containers.identity import probe_identities
from memplace_agent.hostfs import HostFs
from memplace_agent.syscalls import RunningKernel

from tests.faults.alone import run_alone
from tests.support.trying import tries

TRIES = tries(2_000, 100_000)


def test_a_pid_that_another_process_has_by_now_is_never_taken_for_the_first():
    if os.getuid():
        pytest.skip("only root can choose pids")
    if not probe_identities(HostFs(), RunningKernel(None)).unique_inodes:
        pytest.skip("two processes of one pid can't be told within a hundredth of a second here")
    said = run_alone("reuse", TRIES, timeout=60 + TRIES / 20)
    words = said.split()
    swapped, pinned = (int(words[words.index(word) + 1]) for word in ("swapped", "pinned"))
    assert swapped > TRIES / 2
    assert TRIES / 8 < pinned < TRIES * 3 / 4
