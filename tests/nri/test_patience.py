# SPDX-License-Identifier: Apache-2.0
"""A hundred pods start while the agent hangs, is killed or is replaced: none fails or waits long.

The agent is a process of its own here, and the runtime's patience containerd's."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from memplace_lab.cluster.nri import VERSIONS

from tests.nri.runtime import Runtime

PROJECT = Path(__file__).parents[2]
FIRST, PODS = 1000, 100
# The runtime's patience, which starts that come at once spend together, and then no more of it.
LONGEST_S = 2.0
SLACK_S = 1.0


class Agent:
    def __init__(self, socket):
        command = [sys.executable, "-m", "tests.nri.other", str(socket), str(FIRST), str(PODS + 1)]
        self.program = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.program.stdout.readline() == "plugged\n"

    def signal(self, number):
        self.program.send_signal(number)

    def ready(self):
        """How many starts it held back until the default was in force."""
        self.program.stdin.write("\n")
        self.program.stdin.flush()
        return int(self.program.stdout.readline())

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            self.program.send_signal(signal.SIGCONT)
        self.program.kill()
        self.program.communicate()


@pytest.fixture(params=VERSIONS)
def runtime(request, tmp_path):
    made = Runtime(request.param, tmp_path / "nri.sock")
    yield made
    made.end()


@pytest.fixture
def agents(tmp_path):
    made = []

    def start():
        made.append(Agent(tmp_path / "nri.sock"))
        return made[-1]

    yield start
    for each in made:
        each.end()


def hang(agent, _start):
    agent.signal(signal.SIGSTOP)


def kill(agent, _start):
    agent.signal(signal.SIGKILL)


def replace(agent, start):
    agent.signal(signal.SIGKILL)
    start()


@pytest.mark.parametrize("harm", [hang, kill, replace])
def test_a_hundred_pods_start_meanwhile(runtime, agents, harm):
    agent = agents()
    runtime.wait_synchronized()
    one = FIRST + PODS
    runtime.start(f"{one:064x}", one)
    assert agent.ready() == 1
    for number in range(FIRST, FIRST + PODS):
        runtime.begin(f"{number:064x}", number)
        if number == FIRST + PODS // 4:
            harm(agent, agents)
    taken = sorted(runtime.started() for _ in range(PODS))
    print(f"FIGURE {runtime.version}, {harm.__name__}: median {taken[PODS // 2]}, {taken[-1]} s")
    assert taken[-1] < LONGEST_S + SLACK_S


def test_one_that_hung_is_asked_again_when_it_goes_on(runtime, agents):
    agent = agents()
    runtime.wait_synchronized()
    agent.signal(signal.SIGSTOP)
    assert runtime.start(f"{FIRST:064x}", FIRST) < LONGEST_S + SLACK_S
    assert runtime.start("f" * 64, os.getpid(), uid="others") < SLACK_S  # nobody is asked any more
    agent.signal(signal.SIGCONT)
    runtime.wait_synchronized()
    before = agent.ready()
    runtime.start(f"{FIRST + 1:064x}", FIRST + 1)
    assert agent.ready() == before + 1
