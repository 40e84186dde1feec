# SPDX-License-Identifier: Apache-2.0
"""What the tests in a guest work with: a program to place, an agent, and what they did.

Where bytes are is read from /proc here, by code that is not the agent's.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CONTAINER = "a" * 64
MIB = 1 << 20
# linux include/uapi/linux/capability.h: SYS_PTRACE and SYS_NICE, as the chart gives; KILL,
# SETGID, SETUID and SYS_BOOT for what this file does besides.
AGENT, HARNESS = (19, 23), (5, 6, 7, 22)
HERE = Path(__file__).resolve().parent
HEAP = [{"type": "Heap"}]
LARGE_ON_CXL = """\
apiVersion: memplace.dev/v1alpha1
kind: MemoryPlacement
metadata: {name: large-on-cxl}
spec:
  selector: {}
  rules:
  - name: large
    regions: [{type: Anonymous, minSize: 2Mi}]
    policy: {mode: PreferredMany, tiers: [cxl]}
"""
ON_CXL = {"Mpol_future": "prefer (many)=static:1 exec"}
# Where a node has its runtime.
SERVICE = Path("/sys/fs/cgroup/system.slice/containerd.service")


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
    SERVICE.mkdir(parents=True)


def leave_nothing():
    """End what a test that failed has left, so that the next one does not fail of it.

    We are process 1: all others are what tests have started.
    """
    Agent.leave()
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    kept = {scope(), *scope().parents, SERVICE}
    root = Path("/sys/fs/cgroup")
    for path in sorted(root.rglob("*/"), key=lambda path: -len(path.parts)):
        if path not in kept:
            with contextlib.suppress(OSError):
                path.rmdir()
    for path in Path("/run/memplace").glob("*"):
        path.unlink()


def scope():
    pod = Path("/sys/fs/cgroup/kubepods.slice/kubepods-podpu.slice")
    return pod / f"cri-containerd-{CONTAINER}.scope"


def count_memory():
    """Have cgroups count bytes from now on; most steps are about policies and need none."""
    pod = scope().parent
    for directory in (pod.parent.parent, pod.parent, pod):
        (directory / "cgroup.subtree_control").write_text("+memory")


@contextlib.contextmanager
def joining():
    """Let programs of users enter the container themselves: a move takes no charge along."""
    doors = [root / "cgroup.procs" for root in (Path("/sys/fs/cgroup"), scope())]
    for door in doors:
        door.chmod(0o666)
    try:
        yield lambda: (scope() / "cgroup.procs").write_text("0")
    finally:
        for door in doors:
            door.chmod(0o644)


def start_as_user(program, *args, before=None):
    """Start a program of this folder that belongs to another user, with pipes to and from it.

    What is called `before` runs in the child.
    """
    return subprocess.Popen(
        [sys.executable, "-S", str(HERE / program), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=1000,
        group=1000,
        extra_groups=[],
        preexec_fn=before,
    )


class Target:
    """A program nobody prepared, told over a pipe what to do."""

    def __init__(self, before=None):
        self.process = start_as_user("target.py", before=before)
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

    def __init__(self, *, stock=False, shims=False, bandwidth=1 << 40):
        from memplace_agent.engine.build import Engine, open_ledger, running_system
        from memplace_agent.hostfs import HostFs
        from memplace_agent.metrics import Metrics
        from memplace_agent.settings import Settings
        from memplace_agent.syscalls import RunningKernel
        from memplace_agent.syscalls.features import probe

        host = HostFs()
        features = probe(host)
        assert stock or features.error is None, features.message
        system = running_system(host, RunningKernel(features.nr, features.version), features)
        settings = Settings(
            node_name="guest", host=host, move_bandwidth=bandwidth, shim_default=shims
        )
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
                self.reconciler.audit()  # feel who has changed
                time.sleep(0.01)
        return done()

    @property
    def report(self):
        return self.reconciler.reports.placements()[0].pods[0].containers[0]

    def settle(self, wanted, seconds=30):
        states = ("Placed", "PlacedBestEffort")
        self.until(wanted, lambda: self.report.state in states, seconds)
        return self.report

    def undo(self, seconds=30):
        """Work on a world without the placement until nothing of it is left."""
        return self.until(world(placed=False), lambda: not tuple(Agent._store), seconds)


def world(*, placed=True, mode="PreferredMany", regions=None, unsupported=None):
    from memplace.api.objects import parse_placement, parse_tier
    from memplace.assignment import PodRef
    from memplace.pods import PodState
    from memplace_agent.world import World

    meta = {"uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    tier = parse_tier({"metadata": {**meta, "name": "cxl"}, "spec": {"numaNodes": [1]}})
    rule = {
        "name": "r",
        "regions": regions or [{"type": "Brk"}, {"type": "Anonymous", "minSize": "2Mi"}],
        "policy": {"mode": mode, "tiers": ["cxl"]},
        "override": True,
    }
    asked = {"onUnsupported": unsupported} if unsupported else {}
    placement = parse_placement(
        {
            "metadata": {**meta, "name": "mp", "namespace": "ns"},
            "spec": {"selector": {}, "rules": [rule], **asked},
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


def defaults_of(pid):
    """What /proc/PID/status says of mappings to come, by its key."""
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(re.findall(r"^(Mpol_future\w*):\t(.*)$", text, re.M))


def policies_of(pid):
    text = Path(f"/proc/{pid}/numa_maps").read_text()
    return {line.split()[1] for line in text.splitlines()}


def inspected(pid, *args, status=0):
    """What `inspect` prints of a process as JSON."""
    command = [sys.executable, "-m", "memplace_agent", "inspect", "--pid", str(pid), "-o", "json"]
    done = subprocess.run([*command, *args], capture_output=True, text=True, check=False)
    assert done.returncode == status, (done.returncode, done.stdout[-2000:], done.stderr)
    return json.loads(done.stdout) if done.stdout else None
