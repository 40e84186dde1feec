# SPDX-License-Identifier: Apache-2.0
"""How a kernel tells of the mappings and pages that the machine of text files has."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import replace
from functools import lru_cache

from memplace.rebind import STATIC
from memplace_agent.errors import HoleInRange, TryAgain
from memplace_agent.procfs.numa_maps import format_policy
from memplace_agent.syscalls import MPOL_FUTURE_BRK, MPOL_FUTURE_MMAP, MPOL_MF_PRIVATE_ANON
from memplace_agent.syscalls.views import RawClass

from tests.support.agent.objects import in_object


def page_of(process, address):
    vma = next((v for v in process.vmas if v.start <= address < v.end), None)
    if vma is None or vma.node_at(address) < 0:
        return None
    if vma.inode or vma.perms.endswith("s"):
        return vma.device, vma.inode, vma.offset + address - vma.start
    return vma.origin, address


def anonymous_kib(vma):
    is_file = vma.inode or vma.perms.endswith("s")
    return 0 if is_file else sum(vma.pages.values()) << 2


def charge(machine, container_id):
    """Let a cgroup say what it is charged for, as the kernel does: each page once."""
    cgroup, step = machine.cgroup(container_id), 64 * 4096
    pages = {
        (vma.origin, at): vma.node_at(at)
        for pid in map(int, (cgroup / "cgroup.procs").read_text().split())
        for vma in machine.processes[pid].vmas
        if anonymous_kib(vma)
        for at in range(vma.start, vma.end, step)
    }
    held = Counter(node for node in pages.values() if node >= 0)
    nodes = " ".join(f"N{node}={count * step}" for node, count in sorted(held.items()))
    (cgroup / "memory.numa_stat").write_text(f"anon {nodes}\nfile N0={1 << 30}\n")


def places_of(process, page, address):
    if len(page) == 2:
        return [address]
    return [
        v.start + page[2] - v.offset
        for v in process.vmas
        if (v.device, v.inode) == page[:2] and 0 <= page[2] - v.offset < v.end - v.start
    ]


def shares_of(machine, pid, spans):
    found, whole = {}, [0, 0]
    for index, span in enumerate(spans):
        pages = range(span.start, span.end, 64 * 4096)
        there = [at for at in pages if page_of(machine.processes[pid], at) is not None]
        shared = sum(machine.mappers(pid, at) > 1 for at in there)
        whole = [whole[0] + shared, whole[1] + len(there)]
        found |= {index: shared / len(there)} if there else {}
    return found | {-1: whole[0] / whole[1] if whole[1] else 0.0}


def future_lines(future):
    names = {MPOL_FUTURE_BRK: "brk", MPOL_FUTURE_MMAP: "mmap"}
    shown = {
        name: format_policy(future[kind][0]) + (f" min:{least}" if least else "") + " exec"
        for kind, name in names.items()
        for least in [future[kind][1] if kind in future else 0]
        if kind in future
    }
    if len(shown) == 2 and shown["brk"] == shown["mmap"]:
        return [f"Mpol_future:\t{shown['brk']}"]
    return [f"Mpol_future_{name}:\t{text}" for name, text in shown.items()]


def with_home(policy):
    home = "" if policy.home_node is None else f" home:{policy.home_node}"
    return format_policy(policy) + home


def without_static(policy):
    return replace(policy, flags=policy.flags - {STATIC})


@lru_cache(maxsize=4096)
def class_of(vma, policy, task_policy):
    letters = sum(
        bit for bit, letter in ((1, "r"), (2, "w"), (4, "x"), (8, "s")) if letter in vma.perms
    )
    return RawClass(
        permissions=letters,
        inode=vma.inode,
        device=vma.device,
        page_size=vma.page_size,
        unnamed=False,
        name=vma.path.encode("utf-8", "surrogateescape"),
        policy=with_home(policy or task_policy).encode(),
        source=(2 if in_object(vma) else 1) if policy else 0,
        flags=vma.flags.encode(),
    )


def problem_in(vmas, start, end, flags):
    at = start
    for vma in vmas:
        if vma.start <= at < vma.end:
            if flags & MPOL_MF_PRIVATE_ANON and (vma.inode or vma.perms.endswith("s")):
                return TryAgain(errno.ESTALE, "something else is mapped there")
            at = vma.end
    return HoleInRange(errno.EFAULT, "hole") if at < end else None


def maps_line(vma):
    path = vma.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    place = f"{vma.offset:08x} {vma.device[0]:02x}:{vma.device[1]:02x} {vma.inode}"
    return f"{vma.start:08x}-{vma.end:08x} {vma.perms} {place} {path}\n"
