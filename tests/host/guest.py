# SPDX-License-Identifier: Apache-2.0
"""Process 1 of a guest with two NUMA nodes and a kernel that has process_mbind().

Runs the agent's passes on real processes in a real cgroup. Each step prints one line,
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
    pods = Path("/sys/fs/cgroup/kubepods.slice")
    pods.mkdir()
    for directory in (pods.parent, pods):
        (directory / "cgroup.subtree_control").write_text("+cpuset")
    scope().mkdir()


def scope():
    return Path(f"/sys/fs/cgroup/kubepods.slice/cri-containerd-{CONTAINER}.scope")


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


def agent():
    """A fresh agent on the journal of the last one."""
    from memplace_agent.hostfs import HostFs
    from memplace_agent.journal import Journal
    from memplace_agent.metrics import Metrics
    from memplace_agent.place import Placer
    from memplace_agent.reconcile import Reconciler
    from memplace_agent.syscalls import RunningKernel
    from memplace_agent.syscalls.features import probe

    host = HostFs()
    features = probe(host)
    assert features.error is None, features.message
    kernel, journal, metrics = (
        RunningKernel(features.nr, features.version),
        Journal(host.journal),
        Metrics(),
    )
    journal.open(host.journal)
    return Reconciler(
        node_name="guest",
        host=host,
        kernel=kernel,
        journal=journal,
        placer=Placer(host, kernel, journal, metrics),
        metrics=metrics,
        unsupported=None,
    )


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


def report(reconciler):
    return reconciler.reports.placements()[0].pods[0].containers[0]


def settle(reconciler, wanted, tries=10):
    reconciler.full_pass(wanted)
    for _ in range(tries):
        if report(reconciler).state == "Placed":
            return report(reconciler)
        reconciler.partial_pass(wanted, reconciler.scan())
    return report(reconciler)


# --- the steps, in order; each leaves the guest as it found it ----------------------------


def probe_finds_the_call():
    agent()


def memory_moves_and_comes_back():
    target = Target()
    start, bound = target.hello["anon"], target.hello["bound"]
    assert set(pages_of(target.pid, start)) == {0}, line_of(target.pid, start)
    reconciler = agent()
    found = settle(reconciler, world())
    assert found.state == "Placed", found
    for address in (start, bound, target.hello["heap"]):
        line = line_of(target.pid, address)
        assert "prefer (many):1" in line, line
        assert set(pages_of(target.pid, address)) == {1}, line
    measured = {node.id: node.bytes for node in found.rules[0].numa_nodes}
    assert set(measured) == {1} and measured[1] >= 8 * MIB, measured
    assert target.do("check")["intact"]
    assert "prefer" not in line_of(target.pid, target.hello["small"])
    reconciler.full_pass(world(placed=False))
    assert line_of(target.pid, start).split()[1] == "default", line_of(target.pid, start)
    assert line_of(target.pid, bound).split()[1] == "bind:0", line_of(target.pid, bound)
    assert set(pages_of(target.pid, start)) == {1}
    assert not list(Path("/run/memplace").iterdir())
    target.end()


def new_mappings_and_children_are_placed_by_the_scan():
    target = Target()
    reconciler = agent()
    settle(reconciler, world())
    assert not reconciler.scan()
    later = target.do("map")["start"]
    child = target.do("fork")["pid"]
    reconciler.partial_pass(world(), reconciler.scan())
    assert set(pages_of(target.pid, later)) == {1}, line_of(target.pid, later)
    own = target.do("child-map")["start"]
    reconciler.partial_pass(world(), reconciler.scan())
    assert set(pages_of(child, own)) == {1}, line_of(child, own)
    assert set(pages_of(child, target.hello["anon"])) == {1}
    reconciler.full_pass(world(placed=False))
    for pid, address in ((target.pid, later), (child, own), (child, target.hello["anon"])):
        assert line_of(pid, address).split()[1] == "default", line_of(pid, address)
    target.end()


def a_child_that_no_pass_has_seen_is_undone_too():
    target = Target()
    start = target.hello["anon"]
    reconciler = agent()
    settle(reconciler, world())
    child = target.do("fork")["pid"]
    assert line_of(child, start).split()[1] == "prefer", line_of(child, start)
    reconciler.full_pass(world(placed=False))
    for pid, address in itertools.product((target.pid, child), (start, target.hello["heap"])):
        assert line_of(pid, address).split()[1] == "default", line_of(pid, address)
    assert line_of(child, target.hello["bound"]).split()[1] == "bind:0"
    assert not list(Path("/run/memplace").iterdir())
    target.end()


def a_killed_agent_is_continued():
    target = Target()
    start = target.hello["anon"]
    runner = subprocess.Popen([sys.executable, str(HERE / "guest.py"), "once"])
    while not list(Path("/run/memplace").glob("*.json")) and runner.poll() is None:
        time.sleep(0.001)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert list(Path("/run/memplace").glob("*.json"))
    assert settle(agent(), world()).state == "Placed"
    assert set(pages_of(target.pid, start)) == {1}
    agent().full_pass(world(placed=False))
    assert line_of(target.pid, start).split()[1] == "default"
    assert line_of(target.pid, target.hello["bound"]).split()[1] == "bind:0"
    assert target.do("check")["intact"]
    target.end()


def the_cpuset_of_the_container_bounds_the_plan():
    target = Target()
    (scope() / "cpuset.mems").write_text("0")
    try:
        found = settle(agent(), world(), tries=0)
        assert (found.state, found.reason) == ("Failed", "NotAllowedByCpuset"), found
        assert line_of(target.pid, target.hello["anon"]).split()[1] == "default"
    finally:
        (scope() / "cpuset.mems").write_text("0-1")
    target.end()


def a_changed_cpuset_does_not_hide_our_policy_from_undo():
    target = Target()
    reconciler = agent()
    assert settle(reconciler, world(mode="Bind")).state == "Placed"
    (scope() / "cpuset.mems").write_text("0")
    try:
        # The kernel has remapped our policy to node 0 by now.
        line = line_of(target.pid, target.hello["anon"])
        assert line.split()[1] == "bind:0", line
        reconciler.full_pass(world(placed=False))
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
    reconciler = agent()
    settle(reconciler, world())
    host = HostFs(seccomp=Path("/run/kubelet/seccomp/memplace"))
    install(host.seccomp)
    assert reconciler.undo_all()
    remove_host_files(host)
    assert not host.journal.exists() and not host.seccomp.exists()
    assert host.seccomp.parent.is_dir()
    target.end()


STEPS = (
    probe_finds_the_call,
    memory_moves_and_comes_back,
    new_mappings_and_children_are_placed_by_the_scan,
    a_child_that_no_pass_has_seen_is_undone_too,
    a_killed_agent_is_continued,
    the_cpuset_of_the_container_bounds_the_plan,
    a_changed_cpuset_does_not_hide_our_policy_from_undo,
    retiring_leaves_nothing_on_the_host,
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
        agent().full_pass(world())
    else:
        main()
