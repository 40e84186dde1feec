# SPDX-License-Identifier: Apache-2.0
"""What the agent reads of processes, on a kernel with the series.

What is expected is set with plain calls here, or read from numa_maps and smaps by code that is
not the agent's.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import mmap
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.guest.harness import start_as_user

pytestmark = pytest.mark.guest("patched")

LIBC = ctypes.CDLL(None, use_errno=True)
MIB = 1 << 20
# x86_64
SYS_MBIND, SYS_SET_MEMPOLICY, SYS_HOME_NODE = 237, 238, 450
PREFERRED, BIND, INTERLEAVE, PREFERRED_MANY = 1, 2, 3, 5
STATIC = 1 << 15
MPOL_MF_FUTURE, MPOL_MF_FUTURE_EXEC = 1 << 5, 1 << 6


def call(number, *arguments):
    done = LIBC.syscall(ctypes.c_long(number), *(ctypes.c_ulong(one) for one in arguments))
    if done < 0:
        raise OSError(ctypes.get_errno(), f"syscall {number}")


def mask(nodes):
    words = (ctypes.c_ulong * 16)()
    for node in nodes:
        words[node // 64] |= 1 << node % 64
    return words


def mbind(area, mode, nodes):
    kept = mask(nodes)
    call(SYS_MBIND, address(area), len(area), mode, ctypes.addressof(kept), 1024, 0)


def address(area):
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


def kernel():
    from memplace_agent.hostfs import HostFs
    from memplace_agent.syscalls import RunningKernel
    from memplace_agent.syscalls.features import probe

    features = probe(HostFs())
    return RunningKernel(features.nr, features.version), features


def reader():
    from memplace_agent.hostfs import HostFs
    from memplace_agent.procfs.process import Reader
    from memplace_agent.procfs.query import Way, best_way

    running, features = kernel()
    way = best_way(features.procmap_query_size)
    assert way is Way.POLICY, (way, features)
    return Reader(HostFs(), running, way)


def soon():
    return time.monotonic() + 60


@contextlib.contextmanager
def view_of(pid):
    from memplace_agent.procfs.process import Request

    reads = reader()
    pidfd = reads.kernel.pidfd_open(pid)
    try:
        yield reads.read(pid, pidfd, soon(), Request())
    finally:
        os.close(pidfd)


def shown(pid, where):
    """What the agent reads of the mapping that holds an address."""
    from memplace_agent.procfs.numa_maps import format_policy

    with view_of(pid) as view:
        assert view.incomplete is None, view.incomplete
        vma = view.vmas[view.vmas.at(where)]
        return format_policy(vma.of.policy), vma.of.source.name, vma.of.home_node


@contextlib.contextmanager
def target():
    """The program of target.py, which belongs to another user."""
    process = start_as_user("target.py")
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()


def anonymous(size=MIB, flags=mmap.MAP_PRIVATE):
    return mmap.mmap(-1, size, flags=flags | mmap.MAP_ANONYMOUS)


# --- the steps ----------------------------------------------------------------------------


def test_policies_are_read_back_with_their_source():
    me = os.getpid()
    with target() as (process, hello):
        assert shown(process.pid, hello["anon"]) == ("default", "TASK", None)
        assert shown(process.pid, hello["bound"]) == ("bind:0", "VMA", None)
    own, shared = anonymous(), anonymous(flags=mmap.MAP_SHARED)
    mbind(own, BIND | STATIC, [0, 1])
    call(SYS_HOME_NODE, address(own), len(own), 1, 0)
    mbind(shared, INTERLEAVE, [0, 1])
    assert shown(me, address(own)) == ("bind=static:0-1", "VMA", 1)
    assert shown(me, address(shared)) == ("interleave:0-1", "SHARED", None)
    second = mask([1])
    call(SYS_SET_MEMPOLICY, PREFERRED, ctypes.addressof(second), 1024)
    try:
        plain = anonymous()
        assert shown(me, address(plain)) == ("prefer:1", "TASK", None)
        assert shown(me, address(own)) == ("bind=static:0-1", "VMA", 1)
    finally:
        call(SYS_SET_MEMPOLICY, 0, 0, 0)


def test_policies_of_many_mappings_are_those_of_numa_maps():
    """All in one read, so that each answer is seen not to depend on the one before."""
    from memplace_agent.procfs.numa_maps import format_policy
    from memplace_agent.procfs.query import Way, read_vmas

    areas = [anonymous(64 * 1024) for _ in range(300)]
    modes = (BIND, INTERLEAVE, PREFERRED_MANY)
    for number, area in enumerate(areas):
        mbind(area, modes[number % 3], [0, 1] if number % 2 else [number // 2 % 2])
    texts = Path("/proc/self/numa_maps").read_text().splitlines()
    expected = {int(line.split()[0], 16): line for line in texts}
    found = read_vmas(Path("/proc/self"), Way.POLICY, soon())
    same = 0
    for vma in found.vmas:
        if vma.start in expected:
            assert vma.of.policy is not None, vma
            text = format_policy(vma.of.policy)
            assert expected[vma.start].split(" ", 1)[1].startswith(text), (text, vma)
            same += 1
    assert same > 300, same


def test_a_process_is_read_in_one_go():
    from memplace.kinds import RegionKind
    from memplace_agent.procfs.mapped import regions_of, task_policy_of

    with target() as (process, hello), view_of(process.pid) as view:
        assert view.incomplete is None
        assert view.status.allowed == {0, 1}, view.status
        regions = {region.start: region for region in regions_of(view)}
        bound = regions[hello["bound"]]
        assert (bound.own, bound.kind, bound.permissions) == (True, RegionKind.ANONYMOUS, "rw-")
        assert not regions[hello["anon"]].own
        assert task_policy_of(view).mode == "Default"
        smaps = Path(f"/proc/{process.pid}/smaps").read_text()
        flags = re.findall(r"^([0-9a-f]+)-.*\n(?:[A-Z].*\n)*?VmFlags: (.*?) ?$", smaps, re.M)
        known = {int(start, 16): text for start, text in flags}
        assert len(known) >= len(view.vmas)
        # VM_SOFTDIRTY comes and goes.
        wrong = [
            (vma, known[vma.start])
            for vma in view.vmas
            if vma.flags.replace(" sd", "") != known[vma.start].replace(" sd", "")
        ]
        assert not wrong, wrong
        names = {vma.path for vma in view.vmas}
        assert {"[stack]", "[heap]", "[vdso]"} <= names, names
    ready, end = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (ready.set(), end.wait()))
    thread.start()
    ready.wait()
    with view_of(os.getpid()) as view:
        end.set()
        assert view.stacks, [vma for vma in view.vmas if not vma.path]


def test_sampling_finds_the_pages_where_they_are():
    from memplace.kinds import Mode, Policy
    from memplace.residency import Span
    from memplace_agent.procfs.sample import sample
    from memplace_agent.syscalls import MPOL_MF_MOVE

    running, _features = kernel()
    with target() as (process, hello):
        start, end = hello["anon"], hello["anon"] + 4 * MIB
        pidfd = running.pidfd_open(process.pid)

        def look(first=start):
            alive = functools.partial(running.is_alive, pidfd)
            return sample(process.pid, [Span(first, end)], soon(), is_alive=alive)

        assert look().pages == {0: 4 * MIB}
        half = [(start, start + 2 * MIB)]
        running.process_mbind(
            pidfd, half, Policy(Mode.PREFERRED_MANY, frozenset({1})), MPOL_MF_MOVE
        )
        found = look()
        line = next(
            text
            for text in Path(f"/proc/{process.pid}/numa_maps").read_text().splitlines()
            if int(text.split()[0], 16) == start
        )
        assert "N1=512" in line, line
        assert found.pages == {0: 2 * MIB, 1: 2 * MIB}, found
        assert found.exact
        # An address space of which next to nothing is resident: less than the error stated.
        wide = look(start - (64 << 20))
        assert not wide.exact
        assert abs(wide.resident - 4 * MIB) <= wide.resident_error + 8 * MIB, wide
        os.close(pidfd)


def test_a_default_for_mappings_to_come_is_read_back():
    from memplace.kinds import Mode, Policy
    from memplace_agent.procfs.status import parse_status

    running, _features = kernel()
    cxl = Policy(Mode.PREFERRED_MANY, frozenset({1}))
    with target() as (process, _hello):
        pidfd = running.pidfd_open(process.pid)
        file = Path(f"/proc/{process.pid}/status")
        assert parse_status(file.read_text()).future_mmap is None
        running.process_mbind(pidfd, [], cxl, MPOL_MF_FUTURE | MPOL_MF_FUTURE_EXEC)
        found = parse_status(file.read_text())
        os.close(pidfd)
    assert found.future_brk == found.future_mmap
    assert (found.future_mmap.policy, found.future_mmap.kept_across_exec) == (cxl, True)


def test_identities_of_processes_are_unique():
    from memplace_agent.containers.identity import probe_identities
    from memplace_agent.hostfs import HostFs

    running, _features = kernel()
    host = HostFs()
    identities = probe_identities(host, running)
    assert identities.unique_inodes
    seen = set()
    for _ in range(20):
        child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
        names = set()
        for _ in range(2):
            pidfd = running.pidfd_open(child.pid)
            names.add(identities.of(host, pidfd, child.pid, running))
            os.close(pidfd)
        child.communicate(b"\n")
        assert len(names) == 1
        assert not seen & names
        seen |= names
