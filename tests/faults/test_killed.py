# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of the agent at random points: the next one converges, and undo gives all back.

Meanwhile the processes fork, execute programs and map memory, which is born under whatever
default for mappings to come they have at that moment.
"""

import functools
import itertools
import random
import tempfile
import time
from pathlib import Path

import pytest
from memplace_agent.syscalls import MPOL_FUTURE_BRK, MPOL_FUTURE_MMAP

from tests.faults.remote import Kill, Seat
from tests.faults.trying import tries
from tests.unit.agent_pkg.conftest import anon, heap, interleave, overriding, placement, pod
from tests.unit.agent_pkg.machine import BIND, CXL, MIB, Machine
from tests.unit.agent_pkg.mappings import PAGE

A, B = "a" * 64, "b" * 64
KILLS = tries(1_000, 10_000)
BETWEEN_CHECKS = 20
NAMED = [{"type": "Heap", "maxSize": "1Ti"}]
BEFORE = {"[heap]": BIND, "0x20000000": None}
# Of these the first implies a default for brk() and one for mmap(), the second one for brk(),
# the last none.
GOALS = {
    "cxl": [placement(rules=[overriding()])],
    "interleaved": [placement(rules=[interleave()])],
    "another": [placement("other", rules=[overriding()])],
    "selected": [placement(rules=[overriding() | {"regions": NAMED}])],
    "nothing": [],
}


@pytest.fixture
def machine():
    # On a tmpfs like /run, where fsync() costs nothing.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        machine = Machine(Path(path) / "machine")
        for pid, container in ((100, A), (200, B)):
            machine.start(pid, container, heap(policy=BIND), anon())
        yield machine


def work(name, node):
    node.full(*GOALS[name], pods=[pod(ids=("a", "b"))], seconds=60)


def goal(name):
    return functools.partial(work, name)


def policies(machine):
    return [machine.policies(pid) for pid in machine.processes]


def futures(machine):
    return [process.future for process in machine.processes.values()]


def records(machine):
    return sorted(machine.host.journal.iterdir())


def check(machine, seat):
    """An agent that nobody kills gets to where it should, and so does one that undoes it."""
    assert not seat.agent(goal("cxl"))
    assert {policy for found in policies(machine) for policy in found.values()} == {CXL}
    assert all(set(found) == {MPOL_FUTURE_BRK, MPOL_FUTURE_MMAP} for found in futures(machine))
    assert not seat.agent(goal("nothing"))
    assert not any(futures(machine))
    for found in policies(machine):
        assert all(policy == BEFORE.get(path) for path, policy in found.items()), found
    assert not records(machine)


def churn(machine, chance):
    """While no agent runs, processes fork and end."""
    parent = chance.choice([100, 200])
    for pid in [pid for pid in machine.processes if pid not in (100, 200)]:
        if chance.random() < 0.5:
            machine.end(pid)
    if len(machine.processes) < 5:
        free = next(pid for pid in range(1000, 1010) if pid not in machine.processes)
        machine.fork(parent, free, A if parent == 100 else B)
        if chance.random() < 0.5:
            machine.execute(free, anon(), privileged=chance.random() < 0.2)
    pid = chance.choice([*machine.processes])
    address = 0x50000000 + (next(NUMBERS) << 24)
    machine.born(pid, anon(address, chance.choice([PAGE, MIB])))


NUMBERS = itertools.count()


def test_agents_that_are_killed_at_random_leave_nothing_that_is_not_undone(machine):
    seed = random.randrange(1 << 32)
    print("seed", seed)  # shown if it fails
    chance = random.Random(seed)
    seat = Seat(machine)
    begin = time.monotonic()
    check(machine, seat)
    longest = (time.monotonic() - begin) / 2
    killed = amid = written = 0
    wanted = "nothing"
    while killed < KILLS:
        kill = chance.choice(
            [
                Kill(chance.uniform(0, longest)),
                Kill(call=chance.randint(1, 5), before=chance.random() < 0.5),
                Kill(step=chance.randint(1, 20)),
            ]
        )
        # One that has been reached gives an agent little to do.
        wanted = chance.choice([name for name in GOALS if name != wanted])
        killed += seat.agent(goal(wanted), kill)
        amid += seat.calls > 0
        written += seat.steps > 0
        if chance.random() < 0.2:
            churn(machine, chance)
        if killed % BETWEEN_CHECKS == 0:
            check(machine, seat)
    check(machine, seat)
    # Most were at work, and not only about to begin.
    assert amid > KILLS / 3
    assert written > KILLS / 3
