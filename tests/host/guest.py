# SPDX-License-Identifier: Apache-2.0
"""Process 1 of a guest with two NUMA nodes and a kernel that has process_mbind().

Runs the agent on real processes in a real cgroup. Each step prints one line,
``STEP <name> ok`` or ``STEP <name> failed`` after a traceback; test_guest.py reads them.
Where bytes are is read from /proc here, by code that is not the agent's.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from reading import (
    a_default_for_mappings_to_come_is_read_back,
    a_process_is_read_in_one_go,
    identities_of_processes_are_unique,
    policies_are_read_back_with_their_source,
    policies_of_many_mappings_are_those_of_numa_maps,
    sampling_finds_the_pages_where_they_are,
)

CONTAINER = "a" * 64
MIB = 1 << 20
# linux include/uapi/linux/capability.h: SYS_PTRACE and SYS_NICE, as the chart gives; KILL,
# SETGID, SETUID and SYS_BOOT for what this file does besides.
AGENT, HARNESS = (19, 23), (5, 6, 7, 22)
HERE = Path(__file__).resolve().parent


def mount(kind, target):
    libc = ctypes.CDLL(None, use_errno=True)
    Path(target).mkdir(parents=True, exist_ok=True)
    if libc.mount(b"none", target.encode(), kind.encode(), 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {kind} on {target}")


def keep_capabilities(*numbers):
    """Have these effective and no others, as the chart gives the agent SYS_NICE and SYS_PTRACE.

    Source: capset(2), version 3.
    """
    mask = sum(1 << number for number in numbers)
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    if libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    data[0], data[3] = mask & 0xFFFFFFFF, mask >> 32
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def prepare():
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")):
        mount(kind, target)
    mount("cgroup2", "/sys/fs/cgroup")
    pod = scope().parent
    pod.mkdir(parents=True)
    for directory in (pod.parent.parent, pod.parent, pod):
        (directory / "cgroup.subtree_control").write_text("+cpuset")
    scope().mkdir()


def scope():
    pod = Path("/sys/fs/cgroup/kubepods.slice/kubepods-podpu.slice")
    return pod / f"cri-containerd-{CONTAINER}.scope"


class Target:
    """A program nobody prepared, told over a pipe what to do."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-S", str(HERE / "target.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=1000,
            group=1000,
            extra_groups=[],
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.commands, self.answers = self.process.stdin, self.process.stdout
        self.hello = json.loads(self.answers.readline())
        (scope() / "cgroup.procs").write_text(str(self.process.pid))

    @property
    def pid(self):
        return self.process.pid

    def do(self, *words):
        print(*words, file=self.commands, flush=True)
        return json.loads(self.answers.readline())

    def end(self):
        self.commands.close()
        self.process.wait()


def line_of(pid, start):
    """The numa_maps line of the mapping that holds an address."""
    text = Path(f"/proc/{pid}/numa_maps").read_text()
    below = [line for line in text.splitlines() if int(line.split()[0], 16) <= start]
    return below[-1]


def pages_of(pid, start):
    return {int(n): int(p) for n, p in re.findall(r" N(\d+)=(\d+)", line_of(pid, start))}


class Agent:
    """An agent on the ledger of the last one."""

    _store: Any = None

    def __init__(self):
        from memplace_agent.engine.build import Engine, open_ledger, running_system
        from memplace_agent.hostfs import HostFs
        from memplace_agent.metrics import Metrics
        from memplace_agent.settings import Settings
        from memplace_agent.syscalls import RunningKernel
        from memplace_agent.syscalls.features import probe

        host = HostFs()
        features = probe(host)
        assert features.error is None, features.message
        system = running_system(host, RunningKernel(features.nr, features.version), features)
        settings = Settings(node_name="guest", host=host, move_bandwidth=1 << 40)
        self.leave()
        Agent._store = open_ledger(host)
        self.engine = Engine(settings, system, features, Metrics())
        self.reconciler = self.engine.reconciler(Agent._store)
        self.way = system.reader.way

    @staticmethod
    def leave():
        """End the last one: its ledger is free for another process."""
        if Agent._store is not None:
            Agent._store.close()
        Agent._store = None

    def until(self, wanted, done, seconds=30):
        """Work on a world until something is so."""
        self.reconciler.take(wanted)
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            if not self.reconciler.step() and self.engine.mover.step():
                time.sleep(0.01)
        return done()

    @property
    def report(self):
        return self.reconciler.reports.placements()[0].pods[0].containers[0]

    def settle(self, wanted):
        self.until(wanted, lambda: self.report.state == "Placed")
        return self.report

    def undo(self):
        """Work on a world without the placement until nothing of it is left."""
        return self.until(world(placed=False), lambda: not tuple(Agent._store))


def world(*, placed=True, mode="PreferredMany"):
    from memplace.api.objects import parse_placement, parse_tier
    from memplace.assignment import PodRef
    from memplace.pods import PodState
    from memplace_agent.world import World

    meta = {"uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    tier = parse_tier({"metadata": {**meta, "name": "cxl"}, "spec": {"numaNodes": [1]}})
    rule = {
        "name": "r",
        "regions": [{"type": "Brk"}, {"type": "Anonymous", "minSize": "2Mi"}],
        "policy": {"mode": mode, "tiers": ["cxl"]},
        "override": True,
    }
    placement = parse_placement(
        {
            "metadata": {**meta, "name": "mp", "namespace": "ns"},
            "spec": {"selector": {}, "rules": [rule]},
        }
    )
    pod = PodRef(namespace="ns", name="p", uid="pu", containers=("c",))
    return World(
        placements=(placement,) if placed else (),
        tiers=(tier,),
        pods=(PodState(pod, {"c": CONTAINER}),),
    )


def is_on_cxl(line):
    return re.search(r" prefer \(many\)(=static)?:1 ", line) is not None


# --- the steps, in order; each leaves the guest as it found it ----------------------------


def probe_finds_the_call():
    from memplace_agent.procfs.query import Way

    assert Agent().way is Way.POLICY


def memory_moves_and_comes_back():
    target = Target()
    start, bound = target.hello["anon"], target.hello["bound"]
    assert set(pages_of(target.pid, start)) == {0}, line_of(target.pid, start)
    agent = Agent()
    found = agent.settle(world())
    assert found.state == "Placed", found
    for address in (start, bound, target.hello["heap"]):
        line = line_of(target.pid, address)
        assert is_on_cxl(line), line
        assert set(pages_of(target.pid, address)) == {1}, line
    measured = {node.id: node.bytes for node in found.rules[0].numa_nodes}
    assert set(measured) == {1} and measured[1] >= 8 * MIB, measured
    assert target.do("check")["intact"]
    assert "prefer" not in line_of(target.pid, target.hello["small"])
    assert agent.undo()
    assert line_of(target.pid, start).split()[1] == "default", line_of(target.pid, start)
    assert line_of(target.pid, bound).split()[1] == "bind:0", line_of(target.pid, bound)
    assert set(pages_of(target.pid, start)) == {1}
    assert not list(Path("/run/memplace").iterdir())
    target.end()


def new_mappings_and_children_are_placed_without_an_event():
    target = Target()
    agent = Agent()
    agent.settle(world())
    later = target.do("map")["start"]
    child = target.do("fork")["pid"]
    moved = agent.until(world(), lambda: set(pages_of(target.pid, later)) == {1})
    assert moved, line_of(target.pid, later)
    own = target.do("child-map")["start"]
    moved = agent.until(world(), lambda: set(pages_of(child, own)) == {1})
    assert moved, line_of(child, own)
    assert set(pages_of(child, target.hello["anon"])) == {1}
    assert agent.undo()
    for pid, address in ((target.pid, later), (child, own), (child, target.hello["anon"])):
        assert line_of(pid, address).split()[1] == "default", line_of(pid, address)
    target.end()


def a_child_that_no_look_has_seen_is_undone_too():
    target = Target()
    start = target.hello["anon"]
    agent = Agent()
    agent.settle(world())
    child = target.do("fork")["pid"]
    assert line_of(child, start).split()[1] == "prefer", line_of(child, start)
    assert agent.undo()
    for pid, address in itertools.product((target.pid, child), (start, target.hello["heap"])):
        assert line_of(pid, address).split()[1] == "default", line_of(pid, address)
    assert line_of(child, target.hello["bound"]).split()[1] == "bind:0"
    assert not list(Path("/run/memplace").iterdir())
    target.end()


def a_killed_agent_is_continued():
    target = Target()
    start = target.hello["anon"]
    Agent.leave()
    runner = subprocess.Popen([sys.executable, str(HERE / "guest.py"), "once"])
    while not list(Path("/run/memplace").glob("*.json")) and runner.poll() is None:
        time.sleep(0.001)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert list(Path("/run/memplace").glob("*.json"))
    assert Agent().settle(world()).state == "Placed"
    assert set(pages_of(target.pid, start)) == {1}
    assert Agent().undo()
    assert line_of(target.pid, start).split()[1] == "default"
    assert line_of(target.pid, target.hello["bound"]).split()[1] == "bind:0"
    assert target.do("check")["intact"]
    target.end()


def the_cpuset_of_the_container_bounds_the_plan():
    target = Target()
    (scope() / "cpuset.mems").write_text("0")
    try:
        agent = Agent()
        agent.until(world(), lambda: agent.report.state == "Failed")
        found = agent.report
        assert (found.state, found.reason) == ("Failed", "NotAllowedByCpuset"), found
        assert line_of(target.pid, target.hello["anon"]).split()[1] == "default"
    finally:
        (scope() / "cpuset.mems").write_text("0-1")
    target.end()


def a_changed_cpuset_does_not_hide_our_policy_from_undo():
    target = Target()
    agent = Agent()
    assert agent.settle(world(mode="Bind")).state == "Placed"
    (scope() / "cpuset.mems").write_text("0")
    try:
        # The kernel has remapped our policy to node 0 by now.
        line = line_of(target.pid, target.hello["anon"])
        assert line.split()[1] == "bind=static:0", line
        assert agent.undo()
        line = line_of(target.pid, target.hello["anon"])
        assert line.split()[1] == "default", line
    finally:
        (scope() / "cpuset.mems").write_text("0-1")
    target.end()


def retiring_leaves_nothing_on_the_host():
    from memplace_agent.hostfs import HostFs
    from memplace_agent.retire import remove_host_files
    from memplace_agent.seccomp import install

    target = Target()
    agent = Agent()
    agent.settle(world())
    host = HostFs(seccomp=Path("/run/kubelet/seccomp/memplace"))
    install(host.seccomp)
    assert agent.reconciler.undo_all() == (True, "")
    remove_host_files(host)
    assert not host.journal.exists() and not host.seccomp.exists()
    assert host.seccomp.parent.is_dir()
    target.end()


STEPS = (
    probe_finds_the_call,
    memory_moves_and_comes_back,
    new_mappings_and_children_are_placed_without_an_event,
    a_child_that_no_look_has_seen_is_undone_too,
    a_killed_agent_is_continued,
    the_cpuset_of_the_container_bounds_the_plan,
    a_changed_cpuset_does_not_hide_our_policy_from_undo,
    retiring_leaves_nothing_on_the_host,
    policies_are_read_back_with_their_source,
    policies_of_many_mappings_are_those_of_numa_maps,
    a_process_is_read_in_one_go,
    sampling_finds_the_pages_where_they_are,
    a_default_for_mappings_to_come_is_read_back,
    identities_of_processes_are_unique,
)


def main():
    prepare()
    for step in STEPS:
        try:
            # The program to place belongs to another user, and nothing helps against modes.
            keep_capabilities(*HARNESS, *AGENT)
            step()
        except BaseException:
            traceback.print_exc(file=sys.stdout)
            print("STEP", step.__name__, "failed", flush=True)
        else:
            print("STEP", step.__name__, "ok", flush=True)
        for pid in (scope() / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
    print("STEPS done", flush=True)
    # QEMU runs with -no-reboot: this ends it.
    ctypes.CDLL(None).reboot(ctypes.c_int(0x01234567))


if __name__ == "__main__":
    if sys.argv[1:] == ["once"]:
        keep_capabilities(*AGENT)
        Agent().settle(world())
    else:
        main()
