# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of the agent at random points: the next one converges, and undo gives all back.

Meanwhile the processes fork, execute programs and map memory, which is born under whatever
default for mappings to come they have at that moment; and containers are made, which an agent
reaches before anybody looks at them, or does not.
"""

import functools
import itertools
import random
import shutil
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from memplace_agent.syscalls import MPOL_FUTURE_BRK, MPOL_FUTURE_MMAP
from memplace_agent.world import World

from tests.faults.remote import Kill, Seat
from tests.support.agent.machine import BIND, CXL, MIB, Machine
from tests.support.agent.mappings import PAGE
from tests.support.agent.node import anon, heap, interleave, overriding, placement, pod
from tests.support.trying import tries

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
# The same as the first, while one more container of the pod is made.
BIRTH = "birth"


@pytest.fixture
def machine():
    # On a tmpfs like /run, where fsync() costs nothing.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        machine = Machine(Path(path) / "machine")
        for pid, container in ((100, A), (200, B)):
            machine.start(pid, container, heap(policy=BIND), anon())
        yield machine


def work(name, extra, node):
    if name == BIRTH:
        give_birth(node)
    else:
        node.full(*GOALS[name], pods=[the_pod(*extra)], seconds=60)


def give_birth(node):
    """The thread of births works here until a container that is made has its default."""
    pod_of_old = the_pod()
    declared = (*pod_of_old.container_ids, "new")
    pods = (replace(pod_of_old, declared=declared),)
    births, calls = node.engine.births, Turns(node)
    node.reconciler.take(World(placements=tuple(GOALS["cxl"]), pods=pods))
    calls.take(2)
    node.machine.make_container()
    calls.take(200)
    assert births.is_watching
    births.close()


class Turns:
    """Rounds of the thread of births, a millisecond each, with the calls that others make."""

    def __init__(self, node):
        self.node = node

    def take(self, count):
        births = self.node.engine.births
        for _ in range(count):
            births.step(0.0)
            while births._callers and any(c.ended is None for c in births._callers._calls):
                threading.Event().wait(0.0005)
            self.node.clock.now += 0.001


def the_pod(*extra):
    """The pod as the API server has it: with the container that was made, or not yet."""
    known = pod(ids=("a", "b"))
    ids = {**known.container_ids, **dict(zip(("new",), extra, strict=False))}
    return replace(known, ref=replace(known.ref, containers=tuple(ids)), container_ids=ids)


def goal(name, *extra):
    return functools.partial(work, name, extra)


class Cot:
    """Where the container is that was made last: there is one at a time, with a new id each."""

    PID = 500

    def __init__(self, machine):
        self.machine, self.ids = machine, []

    def make(self):
        self.clear()
        container = f"{next(NUMBERS):064x}"
        self.machine.start(self.PID, container, anon())
        self.ids.append(container)

    def clear(self):
        """Its process ends, and the runtime removes its cgroup."""
        for container in self.ids:
            self.machine.end(self.PID)
            shutil.rmtree(self.machine.cgroup(container))
        self.ids.clear()


def policies(machine):
    return [machine.policies(pid) for pid in machine.processes]


def futures(machine):
    return [process.future for process in machine.processes.values()]


def records(machine):
    return sorted(machine.host.journal.iterdir())


def check(machine, seat, cot):
    """An agent that nobody kills gets to where it should, and so does one that undoes it."""
    assert not seat.agent(goal("cxl", *cot.ids))
    assert {policy for found in policies(machine) for policy in found.values()} == {CXL}
    assert all(set(found) == {MPOL_FUTURE_BRK, MPOL_FUTURE_MMAP} for found in futures(machine))
    assert not seat.agent(goal("nothing", *cot.ids))
    assert not any(futures(machine))
    for found in policies(machine):
        assert all(policy == BEFORE.get(path) for path, policy in found.items()), found
    assert not records(machine)


def churn(machine, chance):
    """While no agent runs, processes fork and end."""
    parent = chance.choice([100, 200])
    for pid in [pid for pid in machine.processes if pid not in (100, 200, Cot.PID)]:
        if chance.random() < 0.5:
            machine.end(pid)
    if len(machine.processes) < 6:
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
    cot = Cot(machine)
    seat = Seat(machine, cot.make)
    begin = time.monotonic()
    check(machine, seat, cot)
    longest = (time.monotonic() - begin) / 2
    killed = amid = written = born = 0
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
        wanted = chance.choice([name for name in (*GOALS, BIRTH) if name != wanted])
        if chance.random() < 0.3:
            cot.clear()
        # Whether the API server knows it by then is another matter.
        extra = cot.ids if chance.random() < 0.5 else ()
        was_killed = seat.agent(goal(wanted, *extra), kill)
        killed += was_killed
        born += was_killed and wanted == BIRTH and seat.calls + seat.steps > 0
        amid += seat.calls > 0
        written += seat.steps > 0
        if chance.random() < 0.2:
            churn(machine, chance)
        if killed % BETWEEN_CHECKS == 0:
            check(machine, seat, cot)
    check(machine, seat, cot)
    # Most were at work, and not only about to begin.
    assert amid > KILLS / 3
    assert written > KILLS / 3
    assert born > KILLS / 30
