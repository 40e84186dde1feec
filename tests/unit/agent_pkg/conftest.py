# SPDX-License-Identifier: Apache-2.0
"""A machine of text files: /proc, /sys and cgroups below a directory, and a kernel that
does to them what process_mbind() does to a process. Only the system calls are not real."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field, replace

import pytest
from memplace.api.objects import parse_placement
from memplace.assignment import PodRef
from memplace.calls import actions
from memplace.kinds import Mode, Policy
from memplace.matching import Matcher
from memplace.pods import PodState
from memplace.policy import plan
from memplace_agent.containers.processes import Pinned, read_address_space
from memplace_agent.errors import CallFailed, HoleInRange, ProcessGone
from memplace_agent.hostfs import HostFs
from memplace_agent.journal import Journal
from memplace_agent.metrics import Metrics
from memplace_agent.place import Placer
from memplace_agent.procfs.numa_maps import format_policy
from memplace_agent.reconcile import Reconciler
from memplace_agent.syscalls import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL
from memplace_agent.world import World

MIB = 1 << 20
HEAP, VDSO = 0x10000000, 0x7F0000000000
CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}))
BIND = Policy(Mode.BIND, frozenset({0}))
DEFAULT = Policy(Mode.DEFAULT)


@dataclass(frozen=True)
class Vma:
    """One mapping; ``pages`` are 4 KiB pages per NUMA node, ``stuck`` of them do not move."""

    start: int
    end: int
    path: str = ""
    perms: str = "rw-p"
    inode: int = 0
    policy: Policy | None = None
    pages: dict[int, int] = field(default_factory=dict)
    stuck: bool = False

    def part(self, start, end):
        share = (end - start) / (self.end - self.start)
        return replace(
            self, start=start, end=end, pages={n: int(p * share) for n, p in self.pages.items()}
        )


@dataclass
class Process:
    vmas: list[Vma]
    start_time: int = 1000
    ppid: int = 1
    task_policy: Policy = DEFAULT


class Machine:
    """The files, and the calls on them. ``calls`` has every process_mbind()."""

    def __init__(self, root):
        self.host = HostFs(
            proc=root / "proc",
            sysfs=root / "sys",
            cgroup=root / "cgroup",
            journal=root / "journal",
            own_cgroup=root / "own-cgroup",
        )
        self.version = 2
        self.processes = {}
        self.calls = []
        self.on_call = None
        self._pidfds = {}
        self.add_node(0, cpus="0-1", tier=4)
        self.add_node(1, cpus="", tier=5)
        self.host.cgroup.mkdir(parents=True)
        self.host.own_cgroup.mkdir()
        (self.host.cgroup / "cpuset.mems.effective").write_text("0-1\n")

    def add_node(self, number, *, cpus, tier, free_kb=8 << 20):
        node = self.host.numa_nodes / f"node{number}"
        node.mkdir(parents=True)
        (node / "cpulist").write_text(f"{cpus}\n")
        self.set_free(number, free_kb)
        tiers = self.host.memory_tiers / f"memory_tier{tier}"
        tiers.mkdir(parents=True)
        (tiers / "nodelist").write_text(f"{number}\n")

    def set_free(self, number, free_kb):
        (self.host.numa_nodes / f"node{number}/meminfo").write_text(
            f"Node {number} MemTotal: 16777216 kB\nNode {number} MemFree: {free_kb} kB\n"
        )

    def cgroup(self, container_id):
        name = f"cri-containerd-{container_id}.scope"
        path = self.host.cgroup / "kubepods.slice/kubepods-podx.slice" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, pid, container_id, *vmas, **kwargs):
        vdso = Vma(VDSO, VDSO + 0x2000, "[vdso]", "r-xp")
        self.processes[pid] = Process([*vmas, vdso], **kwargs)
        self._write(pid)
        self._members(container_id, pid)

    def fork(self, pid, child, container_id, **kwargs):
        parent = self.processes[pid]
        self.processes[child] = Process(
            list(parent.vmas), ppid=pid, task_policy=parent.task_policy, **kwargs
        )
        self._write(child)
        self._members(container_id, child)

    def _members(self, container_id, pid):
        procs = self.cgroup(container_id) / "cgroup.procs"
        with procs.open("a") as file:
            file.write(f"{pid}\n")

    def end(self, pid):
        del self.processes[pid]
        shutil.rmtree(self.host.pid(pid))
        for procs in self.host.cgroup.rglob("cgroup.procs"):
            procs.write_text(procs.read_text().replace(f"{pid}\n", ""))

    def map(self, pid, vma):
        process = self.processes[pid]
        process.vmas = sorted([*process.vmas, vma], key=lambda v: v.start)
        self._write(pid)

    def unmap(self, pid, start):
        process = self.processes[pid]
        process.vmas = [v for v in process.vmas if v.start != start]
        self._write(pid)

    def policies(self, pid):
        return {
            vma.path or hex(vma.start): vma.policy
            for vma in self.processes[pid].vmas
            if vma.path != "[vdso]"
        }

    def pages(self, pid, start):
        return next(v.pages for v in self.processes[pid].vmas if v.start == start)

    def _write(self, pid):
        process, directory = self.processes[pid], self.host.pid(pid)
        directory.mkdir(parents=True, exist_ok=True)
        fields = ["S", str(process.ppid), *["0"] * 17, str(process.start_time), "0"]
        if not (directory / "comm").exists():
            (directory / "comm").write_text("a b) c\n")
        (directory / "stat").write_text(f"{pid} (a b) c) {' '.join(fields)}\n")
        (directory / "maps").write_text("".join(map(_maps_line, process.vmas)))
        (directory / "numa_maps").write_text(
            "".join(_numa_line(v, process.task_policy) for v in process.vmas)
        )

    # --- the Kernel protocol ---

    def pidfd_open(self, pid):
        if pid not in self.processes:
            raise ProcessGone(3, "gone")
        pidfd = os.open(os.devnull, os.O_RDONLY)
        self._pidfds[pidfd] = (pid, self.processes[pid])
        return pidfd

    def is_alive(self, pidfd):
        pid, process = self._pidfds[pidfd]
        return self.processes.get(pid) is process

    def process_mbind(self, pidfd, ranges, policy, flags):
        if self.on_call:
            self.on_call()
        if not self.is_alive(pidfd):
            raise ProcessGone(3, "gone")
        pid, process = self._pidfds[pidfd]
        self.calls.append((pid, tuple(ranges), policy, flags))
        done = 0
        for start, end in ranges:
            if not _covered(process.vmas, start, end):
                if done:
                    break
                raise HoleInRange(14, "hole")
            process.vmas = [
                new for v in process.vmas for new in _bind(v, start, end, policy, flags)
            ]
            done += end - start
        self._write(pid)
        return done


def _covered(vmas, start, end):
    for vma in vmas:
        if vma.start <= start < vma.end:
            start = vma.end
    return start >= end


def _bind(vma, start, end, policy, flags):
    low, high = max(vma.start, start), min(vma.end, end)
    if low >= high:
        return [vma]
    middle = replace(vma.part(low, high), policy=None if policy == DEFAULT else policy)
    if flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) and not vma.stuck:
        middle = replace(middle, pages={min(policy.nodes): sum(middle.pages.values())})
    parts = [vma.part(vma.start, low), middle, vma.part(high, vma.end)]
    return [part for part in parts if part.start < part.end]


def _maps_line(vma):
    return f"{vma.start:08x}-{vma.end:08x} {vma.perms} 00000000 00:00 {vma.inode} {vma.path}\n"


def _numa_line(vma, task_policy):
    words = [f"{vma.start:08x}", format_policy(vma.policy or task_policy)]
    words += [f"N{node}={pages}" for node, pages in vma.pages.items() if pages]
    return " ".join([*words, "kernelpagesize_kB=4"] if any(vma.pages.values()) else words) + "\n"


def placement(name="mp", *, rules=None, uid=None, created="2026-01-01T00:00:00Z", **spec):
    rule = {
        "name": "heap",
        "regions": [{"type": "Brk"}, {"type": "Anonymous", "minSize": "1Mi"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    return parse_placement(
        {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "uid": uid or f"uid-{name}",
                "generation": 1,
                "creationTimestamp": created,
            },
            "spec": {"selector": {"matchLabels": {"app": "x"}}, "rules": rules or [rule], **spec},
        }
    )


def pod(name="p", ids=("a",)):
    names = {f"c{i}": letter * 64 for i, letter in enumerate(ids)}
    ref = PodRef(
        namespace="ns", name=name, uid=f"uid-{name}", labels={"app": "x"}, containers=tuple(names)
    )
    return PodState(ref, names)


def heap(pages=256, **kwargs):
    return Vma(HEAP, HEAP + MIB, "[heap]", pages={0: pages}, **kwargs)


def anon(start=0x20000000, size=MIB, **kwargs):
    return Vma(start, start + size, **({"pages": {0: size >> 12}} | kwargs))


def overriding():
    return {
        "name": "heap",
        "regions": [{"type": "Heap"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
        "override": True,
    }


def interleave():
    return {
        "name": "i",
        "regions": [{"type": "Brk"}],
        "policy": {"mode": "Interleave", "tiers": ["cxl", "dram"]},
    }


class Node:
    """A machine with an agent on it; `restart` starts another agent on the same journal."""

    def __init__(self, root):
        self.machine = Machine(root)
        self.unsupported = None
        self.restart()

    def restart(self):
        self.metrics = Metrics()
        self.journal = Journal(self.machine.host.journal)
        self.journal.open(self.machine.host.journal)
        self.placer = Placer(self.machine.host, self.machine, self.journal, self.metrics)
        self.reconciler = Reconciler(
            node_name="n1",
            host=self.machine.host,
            kernel=self.machine,
            journal=self.journal,
            placer=self.placer,
            metrics=self.metrics,
            unsupported=self.unsupported,
        )

    def full(self, *placements, pods=None):
        self.world = World(placements=placements, pods=tuple(pods or [pod()]))
        return self.reports(self.reconciler.full_pass(self.world))

    def actions(self, pid, wanted):
        """What a placement wants done to a process."""
        host, pidfd = self.machine.host, self.machine.pidfd_open(pid)
        space = read_address_space(host, self.machine, Pinned(pid, 1000, 1, pidfd))
        return actions(
            plan(
                Matcher(wanted.rules),
                tiers=wanted.tiers,
                allowed=wanted.allowed,
                regions=space.regions,
            )
        )

    def scan(self):
        """What the worker does between full passes."""
        found = self.reconciler.scan()
        if found:
            self.reconciler.partial_pass(self.world, found)
        return found

    @staticmethod
    def reports(reports):
        return {
            (placement.name, pod.name, container.name): container
            for placement in reports.placements()
            for pod in placement.pods
            for container in pod.containers
        }


class Kit:
    """What the tests of this folder build things with."""

    Vma, MIB, HEAP, CXL, BIND = Vma, MIB, HEAP, CXL, BIND
    CallFailed = CallFailed
    placement = staticmethod(placement)
    pod = staticmethod(pod)
    heap = staticmethod(heap)
    anon = staticmethod(anon)
    interleave = staticmethod(interleave)
    overriding = staticmethod(overriding)


@pytest.fixture
def kit():
    return Kit


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


@pytest.fixture
def machine(node):
    return node.machine


@pytest.fixture
def started(node, kit):
    node.machine.start(100, "a" * 64, kit.heap(), kit.anon())
    return node
