# SPDX-License-Identifier: Apache-2.0
"""A pod's shim has the default of its containers, and loses it again."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.guest.harness import HEAP, HERE, MIB, ON_CXL, SERVICE, Agent, defaults_of, world
from tests.support.guest.newborn import (
    births,
    only_the_shim,
    pages_on_cxl,
    pods_container,
    until,
    with_container,
    without_container,
    wrong_pages,
)

pytestmark = pytest.mark.guest("patched")

# The first thing it does is to read what it was born with.
PROGRAM = """
status = open("/proc/self/status").read()
import mmap, sys
kept = bytearray(64 << 20)
for at in range(0, len(kept), 4096):
    kept[at] = 7
own = mmap.mmap(-1, 4 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
own[:] = bytes(len(own))
print([line for line in status.splitlines() if line.startswith("Mpol_future")], flush=True)
sys.stdin.read()
""".replace("\n", "\\n")

PAUSE = (
    "import ctypes, time; ctypes.CDLL(None).prctl(15, b'pause'); "
    "print(1, flush=True); time.sleep(600)"
)
# linux kernel/pid.c: RESERVED_PIDS; smaller ones are not given again.
FIRST_AGAIN = 310
JOURNAL = Path("/run/memplace")


class Program:
    """What a shim has started; its first line is out when this is made."""

    def __init__(self, shim, cgroup, program):
        self.cgroup = cgroup
        for name in ("in", "out"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"/run/{name}").unlink()
            os.mkfifo(f"/run/{name}")
        text = program if program is PAUSE else f"exec('{program}')"
        line = f"{cgroup}/cgroup.procs\t/run/in\t/run/out\t{text}"
        shim.process.stdin.write(line + "\n")
        shim.process.stdin.flush()
        # Opening waits for the other end.
        self.input, self.output = Path("/run/in").open("w"), Path("/run/out").open()  # noqa: SIM115
        self.pid = int(shim.process.stdout.readline())
        self.said = self.output.readline().strip()

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.input.close()
        self.output.close()


class Shim:
    """A shim with a sandbox, in the cgroups that a node has."""

    def __init__(self, name="containerd-shim", cgroup=SERVICE, pod=None):
        cgroup.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-S", str(HERE / "shim.py"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = int(self.process.stdout.readline())
        (cgroup / "cgroup.procs").write_text(str(self.pid))
        self.programs = []
        self.sandbox = self.start(pod or pods_container("5"), PAUSE)

    def start(self, cgroup, program=PROGRAM):
        self.programs.append(Program(self, cgroup, program))
        return self.programs[-1]

    def end(self):
        for each in self.programs:
            each.kill()
        self.process.kill()
        self.process.wait()
        # Orphans are process 1's, which is us.
        for each in self.programs:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(each.pid, 0)
        for path in {each.cgroup for each in self.programs}:
            until(lambda path=path: _removed(path))


def _removed(path):
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.exists()


def born(known, letter="b"):
    """The world when the API server has heard of the container."""
    (pod,) = known.pods
    return dataclasses.replace(
        known, pods=(dataclasses.replace(pod, container_ids={"c": letter * 64}),)
    )


def is_clean(*pids):
    assert not any(defaults_of(pid) for pid in pids), [defaults_of(pid) for pid in pids]
    assert not list(JOURNAL.iterdir()), list(JOURNAL.iterdir())


def test_what_a_shim_starts_has_the_default_before_its_first_instruction():
    agent = Agent(shims=True)
    agent.reconciler.take(without_container())
    with births(agent):
        begin = time.monotonic()
        shim = Shim()
        until(lambda: defaults_of(shim.pid))
        print("FIGURE shim: from its start to its default", time.monotonic() - begin)
    # From here on nobody makes a call.
    assert defaults_of(shim.pid) == ON_CXL and not defaults_of(shim.sandbox.pid)
    container = shim.start(pods_container("b"))
    command = shim.start(container.cgroup)  # kubectl exec
    for each in (container, command):
        assert each.said == "['Mpol_future:\\tprefer (many)=static:1 exec']", each.said
        wrong, right = wrong_pages(each.pid), pages_on_cxl(each.pid)
        print("FIGURE shim: pages", {"wrong": sum(wrong.values()), "right": right})
        assert not wrong and right >= 68 * MIB >> 12, (wrong, right)
    # All of it is ours, for an agent that starts anew, too.
    agent = Agent(shims=True)
    found = agent.settle(with_container(container.cgroup.name[-70:-6]))
    assert found.state == "Placed" and found.rules[0].own_regions == 0, found
    assert agent.undo()
    is_clean(shim.pid, container.pid, command.pid)
    assert not wrong_defaults(shim)
    shim.end()


def wrong_defaults(shim):
    """What a program that is started now is born with."""
    return shim.start(shim.programs[1].cgroup).said != "[]"


def test_an_agent_that_is_killed_leaves_no_default_on_a_shim():
    for when in ("before", "after", "long after"):
        shim = Shim()
        Agent.leave()
        runner = subprocess.run(
            [sys.executable, "-m", "tests.support.guest.dying", when], check=False
        )
        assert runner.returncode == -signal.SIGKILL, (when, runner)
        assert bool(defaults_of(shim.pid)) is (when != "before"), when
        assert [path.name[-8:] for path in JOURNAL.iterdir()] == [".v3.json"], when
        container = shim.start(pods_container("b"))
        agent = Agent(shims=True)
        # The placement was deleted meanwhile.
        gone = born(world(placed=False, regions=HEAP))
        assert agent.until(gone, lambda: not tuple(Agent._store)), (when, tuple(Agent._store))
        is_clean(shim.pid, container.pid)
        assert not wrong_defaults(shim)
        shim.end()


def test_a_pod_that_ends_takes_the_default_of_its_shim_along():
    shim = Shim()
    agent = Agent(shims=True)
    assert only_the_shim(agent)
    container = shim.start(pods_container("b"))
    deleted = dataclasses.replace(world(regions=HEAP), pods=())
    assert agent.until(deleted, lambda: not defaults_of(shim.pid))
    assert not wrong_defaults(shim)
    shim.end()
    assert agent.until(deleted, lambda: not tuple(Agent._store))
    is_clean()
    del container


def test_a_new_shim_with_the_id_of_an_old_one_is_another():
    _use_up_ids(FIRST_AGAIN)
    shim = Shim()
    agent = Agent(shims=True)
    assert only_the_shim(agent)
    old = shim.pid
    shim.end()
    Agent.leave()  # what is forked now would hold its ledger
    limit = Path("/proc/sys/kernel/pid_max")
    before = limit.read_text()
    limit.write_text(f"{old + 20}")
    try:
        other = _with_id(old)
    finally:
        limit.write_text(before)
    try:
        from memplace.kinds import Mode, Policy
        from memplace.rebind import STATIC

        # It has set itself just what the agent would.
        kernel = agent.engine.system.kernel
        theirs = Policy(Mode.PREFERRED_MANY, frozenset({1}), frozenset({STATIC}))
        kernel.set_future(kernel.pidfd_open(other), theirs, 3, 0)
        agent = Agent(shims=True)
        assert agent.until(world(placed=False), lambda: not tuple(Agent._store))
        assert defaults_of(other) == ON_CXL
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)


def _use_up_ids(last):
    pid = 0
    while pid < last:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


def _with_id(wanted):
    for _ in range(2000):
        pid = os.fork()
        if pid == 0:
            if os.getpid() == wanted:
                time.sleep(600)
            os._exit(0)
        if pid == wanted:
            return pid
        os.waitpid(pid, 0)
    raise AssertionError(f"nobody got the id {wanted}")


def test_nobody_but_the_shim_of_this_pod_alone_is_touched():
    pod = pods_container("5").parent
    elsewhere = pod.parent / "kubepods-podcafe.slice"
    # In a pod, by the name of a shim, and with what looks like a sandbox.
    inside = Shim(cgroup=elsewhere / f"cri-containerd-{'7' * 64}.scope", pod=pod_of(pod, "5"))
    agent = Agent(shims=True)
    agent.until(without_container(), lambda: False, seconds=3)
    is_clean(inside.pid)
    inside.end()
    # One that serves another pod as well: from the first, and from some time on.
    two = Shim()
    assert only_the_shim(agent)
    second = elsewhere / f"cri-containerd-{'8' * 64}.scope"
    second.mkdir(parents=True)
    other = two.start(second, PAUSE)
    agent = Agent(shims=True)
    assert agent.until(without_container(), lambda: not defaults_of(two.pid))
    agent.until(without_container(), lambda: False, seconds=3)
    assert not defaults_of(two.pid)
    assert agent.undo()
    is_clean(two.pid, two.sandbox.pid)
    del other
    two.end()
    # Where each container has a monitor of its own there is none to have it.
    conmon = Shim("conmon")
    agent.until(without_container(), lambda: False, seconds=3)
    is_clean(conmon.pid)
    conmon.end()


def pod_of(pod, letter):
    return pod / f"cri-containerd-{letter * 64}.scope"
