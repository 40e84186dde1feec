# SPDX-License-Identifier: Apache-2.0
"""What the agent says of a container whose programs wait for memory."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.support.guest.harness import Agent, Target, count_memory, scope, world

pytestmark = pytest.mark.guest("stock")

# It needs 8 MiB again and again where 1 MiB may be: without swap all it can do is wait.
_GREEDY = """
echo $$ > "$1/cgroup.procs"
while :; do dd if=/dev/zero of=/dev/null bs=8M count=4 2> /dev/null; done
"""
# The figure is of ten seconds, and so is the wait for a higher word; the guest is slow.
_TOLD_S = 120


def _limit():
    count_memory()
    (scope() / "memory.high").write_text("1M")


def test_memory_pressure_is_told_in_a_word():
    target = Target()
    agent = Agent(stock=True)
    wanted = world(unsupported="BestEffort")
    agent.settle(wanted)
    assert agent.report.memory_pressure == "Low", agent.report
    _limit()
    command = ["sh", "-c", _GREEDY, "greedy", str(scope())]
    greedy = subprocess.Popen(command, start_new_session=True)
    try:
        agent.until(wanted, lambda: agent.report.memory_pressure == "High", _TOLD_S)
        told = (scope() / "memory.pressure").read_text()
        assert agent.report.memory_pressure == "High", (agent.report, told)
    finally:
        (scope() / "memory.high").write_text("max")
        os.killpg(greedy.pid, signal.SIGKILL)
        greedy.wait()
    target.end()
