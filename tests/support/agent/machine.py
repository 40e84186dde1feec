# SPDX-License-Identifier: Apache-2.0
"""A machine of text files: /proc, /sys and cgroups below a directory, and a kernel that does
to them what process_mbind(), PROCMAP_QUERY and move_pages() do. Only the system calls are not
real."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from array import array
from dataclasses import dataclass, field, replace

from memplace.errors import ProcessGone
from memplace.kinds import Mode, Policy
from memplace.nodes import format_nodes
from memplace_agent.errors import TryAgain
from memplace_agent.hostfs import HostFs
from memplace_agent.procfs.numa_maps import format_policy
from memplace_agent.procfs.query import ReadVmas, Way, read_vmas
from memplace_agent.procfs.vmas import vmas_of
from memplace_agent.syscalls import (
    MPOL_FUTURE_BRK,
    MPOL_FUTURE_MMAP,
    MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL,
)
from memplace_agent.syscalls.views import Ended, RawView

from tests.support.agent.mappings import DEFAULT, Vma, bind, joined, moved, node_at, span
from tests.support.agent.objects import SharedPolicies, in_object, is_same_object, moved_part
from tests.support.agent.shown import (
    anonymous_kib,
    class_of,
    future_lines,
    maps_line,
    page_of,
    places_of,
    problem_in,
    shares_of,
    without_static,
)

MIB = 1 << 20
HEAP, VDSO = 0x10000000, 0x7F0000000000
CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}))
BIND = Policy(Mode.BIND, frozenset({0}))

_NUMBERS = itertools.count(1)


@dataclass(eq=False)
class Process:
    vmas: list[Vma]
    start_time: int = 1000
    ppid: int = 1
    task_policy: Policy = DEFAULT
    image: int = 1
    comm: str = "a b) c"
    exe: str = "/bin/program"
    allowed: frozenset[int] | None = None
    state: str = "S"
    threads: int = 1
    pidfd_file: str = ""
    # By MPOL_FUTURE_*: the policy, and the smallest size.
    future: dict[int, tuple[Policy, int]] = field(default_factory=dict)
    uid: int = 0
    namespaces: int = 1
    borrows: bool = False  # the memory of its parent, as after vfork()


class Machine:
    """The files, and the calls on them. ``calls`` has every process_mbind() with ranges,
    ``futures`` every one that is about mappings to come, ``moves`` every move_pages() with nodes:
    the pid, addresses, nodes and whether pages of others move along."""

    def __init__(self, root):
        self.root = root
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
        self.futures = []
        self.moves = []
        self.on_move = None
        self.hides_pagemaps = False  # as of programs of other users
        self.on_call = None
        self.on_future = None
        self.on_read = None
        self.allowed = frozenset({0, 1})
        self.cut_policies = False
        self.by_inode = {}
        self.objects = SharedPolicies()
        (root / "pidfds").mkdir(parents=True)
        self.add_node(0, cpus="0-1", tier=4)
        self.add_node(1, cpus="", tier=5)
        self.host.cgroup.mkdir(parents=True)
        self.host.own_cgroup.mkdir()
        self.host.boot_id.parent.mkdir(parents=True)
        self.host.boot_id.write_text("7c0e9a52-0000-4000-8000-000000000000\n")

    def add_node(self, number, *, cpus, tier, free_kb=8 << 20):
        node = self.host.numa_nodes / f"node{number}"
        node.mkdir(parents=True)
        (node / "cpulist").write_text(f"{cpus}\n")
        self.set_free(number, free_kb)
        tiers = self.host.memory_tiers / f"memory_tier{tier}"
        tiers.mkdir(parents=True)
        (tiers / "nodelist").write_text(f"{number}\n")

    def set_free(self, number, free_kb, *, cache_kb=0):
        lines = (("MemTotal", 16777216), ("MemFree", free_kb), ("Inactive(file)", cache_kb))
        text = "".join(f"Node {number} {name}: {kb} kB\n" for name, kb in lines)
        (self.host.numa_nodes / f"node{number}/meminfo").write_text(text)

    def set_total(self, number, total_kb):
        """Make a node so small."""
        file = self.host.numa_nodes / f"node{number}/meminfo"
        file.write_text(file.read_text().replace("MemTotal: 16777216", f"MemTotal: {total_kb}"))

    def cgroup(self, container_id, pod="uid_p"):
        name = f"cri-containerd-{container_id}.scope"
        path = self.host.cgroup / f"kubepods.slice/kubepods-pod{pod}.slice" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, pid, container_id, *vmas, pod="uid_p", **kwargs):
        vdso = Vma(VDSO, VDSO + 0x2000, "[vdso]", "r-xp")
        kwargs = {"image": next(_NUMBERS)} | kwargs
        self._add(pid, Process([*vmas, vdso], **kwargs), self.cgroup(container_id, pod))

    def daemon(self, pid, unit="containerd", **kwargs):
        """Start a process of the node's own."""
        cgroup = self.host.cgroup / f"system.slice/{unit}.service"
        cgroup.mkdir(parents=True, exist_ok=True)
        self._add(pid, Process([Vma(VDSO, VDSO + 0x2000, "[vdso]", "r-xp")], **kwargs), cgroup)

    def fork(self, pid, child, container_id, *, pod="uid_p", **kwargs):
        parent = self.processes[pid]
        copy = replace(parent, vmas=list(parent.vmas), ppid=pid, **kwargs)
        self._add(child, copy, self.cgroup(container_id, pod))

    def _add(self, pid, process, cgroup):
        process.pidfd_file = self.root / "pidfds" / f"{pid}-{next(_NUMBERS)}"
        process.pidfd_file.touch()
        self.by_inode[process.pidfd_file.stat().st_ino] = (pid, process)
        self.processes[pid] = process
        directory = self.host.pid(pid)
        (directory / f"task/{pid}").mkdir(parents=True, exist_ok=True)
        (directory / f"task/{pid}/syscall").write_text("running\n")
        (directory / "cgroup").write_text(f"0::/{cgroup.relative_to(self.host.cgroup)}\n")
        self.write(pid)
        with (cgroup / "cgroup.procs").open("a") as file:
            file.write(f"{pid}\n")

    def end(self, pid):
        del self.processes[pid]
        shutil.rmtree(self.host.pid(pid))
        for procs in self.host.cgroup.rglob("cgroup.procs"):
            text = procs.read_text().splitlines(keepends=True)
            procs.write_text("".join(line for line in text if line != f"{pid}\n"))

    def execute(self, pid, *vmas, privileged=False):
        """Run another program in the process: nothing of the old mappings is left, and of the
        default for those to come only if the program gains no privileges."""
        process = self.processes[pid]
        process.vmas, process.image = list(vmas), next(_NUMBERS)
        process.borrows = False
        if privileged:
            process.future = {}
        self.write(pid)

    def born(self, pid, vma):
        """Have the process map private anonymous memory, or grow its heap."""
        kind = MPOL_FUTURE_BRK if vma.path == "[heap]" else MPOL_FUTURE_MMAP
        policy, least = self.processes[pid].future.get(kind, (None, 0))
        given = policy if vma.end - vma.start >= least and "x" not in vma.perms else None
        runs = [(min(given.nodes), n) for _, n in vma.runs] if given else vma.runs
        self.map(pid, replace(vma, policy=given).with_runs(runs))

    def map(self, pid, vma):
        process = self.processes[pid]
        process.vmas = sorted([*process.vmas, vma], key=lambda v: v.start)
        self.write(pid)

    def unmap(self, pid, start):
        process = self.processes[pid]
        process.vmas = [v for v in process.vmas if v.start != start]
        self.write(pid)

    def policies(self, pid):
        """Return policies by path or first address, without the flag that marks memplace's."""
        return {
            vma.path or hex(vma.start): self.shown(vma) and without_static(self.shown(vma))
            for vma in self.processes[pid].vmas
            if vma.path != "[vdso]"
        }

    def pages(self, pid, start):
        vmas = [v for v in self.processes[pid].vmas if v.start >= start]
        return next(v.pages for v in vmas if v.start == start)

    def write(self, pid):
        process, directory = self.processes[pid], self.host.pid(pid)
        image = str((process.image << 12) + 0x1000)
        (directory / ".exe").symlink_to(process.exe)
        (directory / ".exe").rename(directory / "exe")
        fields = [process.state, str(process.ppid), *["0"] * 17, str(process.start_time)]
        fields += ["0"] * 3 + [image, "0", image, *["0"] * 18, image]
        (directory / "comm").write_text(f"{process.comm}\n")
        (directory / ".stat").write_text(f"{pid} ({process.comm}) {' '.join(fields)}\n")
        (directory / ".stat").rename(directory / "stat")
        allowed = self.allowed if process.allowed is None else process.allowed
        lines = [
            f"Name:\t{process.comm}",
            f"State:\t{process.state} (sleeping)",
            f"NSpid:\t{chr(9).join([str(pid)] * process.namespaces)}",
            f"Uid:\t{chr(9).join([str(process.uid)] * 4)}",
            f"VmSize:\t{sum(v.end - v.start for v in process.vmas) >> 10} kB",
            f"VmRSS:\t{sum(sum(v.pages.values()) for v in process.vmas) << 2} kB",
            f"RssAnon:\t{sum(map(anonymous_kib, process.vmas))} kB",
            f"VmPTE:\t1024 kB\nThreads:\t{process.threads}",
            f"Mems_allowed_list:\t{format_nodes(allowed)}",
        ]
        lines += future_lines(process.future)
        # Whole, as the kernel's: another thread may read it meanwhile.
        (directory / ".status").write_text("\n".join([*lines, ""]))
        (directory / ".status").rename(directory / "status")
        (directory / "maps").write_text("".join(map(maps_line, process.vmas)))
        text = "".join(self._numa_line(v, process.task_policy) for v in process.vmas)
        (directory / "numa_maps").write_text(text)

    def _numa_line(self, vma, task_policy):
        shown = format_policy(self.shown(vma) or task_policy)
        words = [f"{vma.start:08x}", shown[:63] if self.cut_policies else shown]
        words += [f"N{node}={pages}" for node, pages in vma.pages.items() if pages]
        last = ["kernelpagesize_kB=4"] if any(vma.pages.values()) else []
        return " ".join([*words, *last]) + "\n"

    # --- the calls ---

    def pidfd_open(self, pid):
        if pid not in self.processes:
            raise ProcessGone(errno.ESRCH, "gone")
        return os.open(self.processes[pid].pidfd_file, os.O_RDONLY)

    def _of(self, pidfd):
        return self.by_inode[os.fstat(pidfd).st_ino]

    def is_alive(self, pidfd):
        pid, process = self._of(pidfd)
        return self.processes.get(pid) is process

    def process_mbind(self, pidfd, ranges, policy, flags):
        if self.on_call:
            self.on_call()
        if not self.is_alive(pidfd):
            raise ProcessGone(errno.ESRCH, "gone")
        pid, process = self._of(pidfd)
        self.calls.append((pid, tuple(ranges), policy, flags))
        done = 0
        for start, end in ranges:
            first, last = span(process.vmas, start, end)
            touched = process.vmas[first:last]
            problem = problem_in(touched, start, end, flags)
            if problem and done:
                break
            if problem:
                raise problem
            allowed = self.allowed if process.allowed is None else process.allowed
            clipped = replace(policy, nodes=policy.nodes & allowed) if policy.nodes else policy
            for vma in touched:
                self._bind_object(vma, start, end, clipped, flags)
            bound = [new for v in touched for new in bind(v, start, end, clipped, flags)]
            first, last = max(0, first - 1), min(len(process.vmas), last + 1)
            around = process.vmas[first:last]
            low = [v for v in around if v.end <= start and v not in touched]
            high = [v for v in around if v.start >= end and v not in touched]
            process.vmas[first:last] = joined([*low, *bound, *high])
            done += end - start
        self.write(pid)
        return done

    def _bind_object(self, vma, start, end, policy, flags):
        # What a mapping was given before is not given to the object again.
        if not in_object(vma):
            return
        low, high = max(vma.start, start), min(vma.end, end)
        given = None if policy == DEFAULT else policy
        first, last = (at - vma.start + vma.offset for at in (low, high))
        if vma.policy != given:
            self.objects.set((vma.device, vma.inode), first, last, given)
        if flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) and not vma.stuck:
            self._move_object(vma, first, last, min(policy.nodes))

    def _move_object(self, vma, first, last, node):
        for pid, process in self.processes.items():
            found = [i for i, v in enumerate(process.vmas) if is_same_object(v, vma)]
            for index in found:
                other = process.vmas[index]
                low = max(other.start, other.start + first - other.offset)
                high = min(other.end, other.start + last - other.offset)
                if low < high:
                    process.vmas[index] = moved_part(other, low, high, node)
            if found:
                self.write(pid)

    def shown(self, vma):
        """Return the policy of a mapping, or None: of an object that of the first page."""
        if not in_object(vma):
            return vma.policy
        return self.objects.at((vma.device, vma.inode), vma.offset)

    def set_future(self, pidfd, policy, future, least):
        if self.on_future:
            self.on_future()
        if not self.is_alive(pidfd):
            raise ProcessGone(errno.ESRCH, "gone")
        pid, process = self._of(pidfd)
        if process.borrows:
            raise TryAgain(errno.EBUSY, "it uses the memory of its parent")
        self.futures.append((pid, policy, future, least))
        kinds = [kind for kind in (MPOL_FUTURE_BRK, MPOL_FUTURE_MMAP) if future & kind]
        others = {k: v for k, v in process.future.items() if k not in kinds}
        set_ = {k: (policy, least if k == MPOL_FUTURE_MMAP else 0) for k in kinds}
        process.future = others if policy == DEFAULT else others | set_
        self.write(pid)

    def read_vmas(self, directory, way, deadline, limit):
        if self.on_read:
            self.on_read(directory)
        text = read_vmas(directory, Way.MAPS, deadline, limit)
        if way is not Way.POLICY or not len(text.vmas):
            return text
        process = self.processes[int(directory.name)]
        vmas = process.vmas
        view = RawView(
            ended=Ended.COMPLETE,
            errno=0,
            starts=array("Q", [v.start for v in vmas]),
            ends=array("Q", [v.end for v in vmas]),
            class_of=array("I", range(len(vmas))),
            classes=tuple(class_of(v, self.shown(v), process.task_policy) for v in vmas),
            offsets=array("Q", [v.offset for v in vmas]),
        )
        return ReadVmas(vmas_of(view), Ended.COMPLETE)

    def page_nodes(self, pid, addresses):
        if pid not in self.processes:
            raise OSError(errno.ESRCH, "gone")
        vmas = self.processes[pid].vmas
        return array("i", [node_at(vmas, address) for address in addresses])

    def move_pages(self, pid, addresses, nodes, *, move_all):
        if self.on_move:
            self.on_move()
        if pid not in self.processes:
            raise OSError(errno.ESRCH, "gone")
        process = self.processes[pid]
        allowed = self.allowed if process.allowed is None else process.allowed
        if not allowed.issuperset(nodes):
            raise OSError(errno.EACCES, "not in the cpuset of the process")
        self.moves.append((pid, tuple(addresses), tuple(nodes), move_all))
        wanted = dict(zip(addresses, nodes, strict=True))
        process.vmas = [moved(vma, wanted) for vma in process.vmas]
        self.write(pid)
        return self.page_nodes(pid, addresses)

    def exclusive(self, directory, addresses):
        pid = int(directory.name)
        if self.hides_pagemaps:
            return None
        return [self.mappers(pid, address) == 1 for address in addresses]

    def shares(self, directory, spans):
        return shares_of(self, int(directory.name), spans)

    def mappers(self, pid, address):
        # Of a page: what fork() copied is the same page until somebody writes to it.
        page = page_of(self.processes[pid], address)
        return sum(
            page in (page_of(other, at) for at in places_of(other, page, address))
            for other in self.processes.values()
        )

    def present(self, directory, ranges):
        vmas = self.processes[int(directory.name)].vmas
        return [
            part
            for start, end in ranges
            for vma in vmas[slice(*span(vmas, start, end))]
            for part in vma.present(max(start, vma.start), min(end, vma.end))
        ]
