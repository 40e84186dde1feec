# SPDX-License-Identifier: Apache-2.0
"""Feel whether a container has changed, for a few microseconds: who is in it, how large they are.

A look reads all mappings of a process; done every two seconds on each container it would cost
several percent of a core. Two tiny files tell nearly as much. cgroup.procs has who is there,
and the first numbers of /proc/PID/statm are the size of the address space, which an mmap(), brk()
or munmap() changes, and of what is resident. Neither waits for a lock of the process or walks
its page tables. What they don't show, a mapping in place of one as large, is found by the slow
audit. The files stay open: to find and open one takes three times as long as to read it.

Source: proc_pid_statm(5); linux ``fs/proc/task_mmu.c:task_statm()``, which reads counters.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from memplace_agent.containers.members import known_pids
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.hostfs import HostFs

log = logging.getLogger(__name__)

# How often at most.
BEAT_S = 1.0
# And not before this many times what the last one took: half a percent of a core at most.
_REST = 199.0
# Of a container with more processes only so many are asked for their size, in turns.
_PROCESSES = 32
# And of one that has made cgroups of its own so many are read; all the others pay for its beat.
_CGROUPS = 128
# Files that stay open, and the share of those that the agent may have. A file that was read has
# a page of the kernel's.
_OPEN, _OPEN_SHARE = 4096, 4
# What the agent may have open is raised to this: enough for 500 containers of a process or two.
_RAISED = 4096
# As much as a line of statm has, and the start of a long list of processes.
_LINE, _LIST = 64, 1 << 16


def raise_open_files() -> None:
    """Have as many files open as pulses need, if that is allowed; changes the whole process.

    containerd 2 gives its containers the soft limit of 1,024 that programs with select(2) need.
    None of the agent's threads calls it. See systemd.exec(5), "LimitNOFILE=".
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _RAISED if hard == resource.RLIM_INFINITY else min(_RAISED, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        # A sandbox that forbids it makes beats dearer, and nothing else.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Felt(NamedTuple):
    # Processes, and the size of those that have been asked.
    members: list[bytes]
    sizes: dict[bytes, tuple[bytes, int]]


_NOTHING = _Felt([], {})


class Pulse:
    """What was felt at the last beat. For one thread.

    Args:
        host: Where /proc is.
        clock: Seconds, only forward.
        cost: The same, of what is to be bounded.

    Example:
        >>> pulse = Pulse(HostFs())
        >>> due.changed(pulse.beat({"c0ffee": ref}), now)
    """

    def __init__(
        self,
        host: HostFs,
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._proc = str(host.proc)
        self._clock = clock
        self._cost = cost
        self._files = _Files()
        self._felt: dict[str, _Felt] = {}
        self._turn = 0
        self._next_at = float("-inf")

    def beat(self, containers: Mapping[str, CgroupRef]) -> frozenset[str]:
        """Return which containers are not what they were at the last beat.

        A container that is new here is not among them: somebody is about to look at it anyway.
        Before the next beat is due nothing is read.
        """
        now = self._clock()
        if now < self._next_at:
            return frozenset()
        begin = self._cost()
        before, self._felt = self._felt, {}
        self._turn += 1
        for container_id, ref in containers.items():
            try:
                self._felt[container_id] = self._feel(ref.path, before.get(container_id, _NOTHING))
            except Exception as err:  # whatever it is, the others are felt all the same
                extra = {"container": container_id, "error": repr(err)}
                log.warning("a container can't be felt", extra=extra)
                if container_id in before:
                    self._felt[container_id] = before[container_id]
        self._files.close_unread()
        self._next_at = now + max(BEAT_S, (self._cost() - begin) * _REST)
        return frozenset(
            container_id
            for container_id, felt in self._felt.items()
            if container_id in before and _differs(before[container_id], felt)
        )

    def _feel(self, cgroup: Path, before: _Felt) -> _Felt:
        members = self._files.read(f"{cgroup}/cgroup.procs", _LIST).split()
        if not members:  # crun and systemd make cgroups of their own below
            members = [b"%d" % pid for pid in sorted(known_pids(cgroup, _CGROUPS))]
        if len(members) <= _PROCESSES:
            return _Felt(members, {pid: self._size(pid) for pid in members})
        known = {pid: before.sizes[pid] for pid in members if pid in before.sizes}
        return _Felt(members, known | {pid: self._size(pid) for pid in self._in_turn(members)})

    def _in_turn(self, pids: list[bytes]) -> list[bytes]:
        first = self._turn * _PROCESSES % len(pids)
        return (pids + pids)[first : first + _PROCESSES]

    def _size(self, pid: bytes) -> tuple[bytes, int]:
        return _rounded(self._files.read(f"{self._proc}/{pid.decode()}/statm", _LINE))


def _rounded(statm: bytes) -> tuple[bytes, int]:
    # The size as it is, what is resident to 128 KiB or 1 to 2 %, whichever is more.
    size, resident = (*statm.split(b" ", 2)[:2], b"0", b"0")[:2]
    pages = int(resident)
    return size, pages >> max(5, pages.bit_length() - 7)


def _differs(before: _Felt, now: _Felt) -> bool:
    # Who is asked for the first time has not changed by that.
    if before == now:
        return False
    return before.members != now.members or any(
        before.sizes.get(pid, size) != size for pid, size in now.sizes.items()
    )


class _File:
    # Closed with the last who has it.
    __slots__ = ("_number",)

    def __init__(self, path: str) -> None:
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, length: int) -> bytes:
        return os.pread(self._number, length, 0)

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)


class _Files:
    """Files that are read at each beat; those that were not read at one are closed."""

    def __init__(self) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = min(_OPEN, limit // _OPEN_SHARE) if limit >= 0 else _OPEN
        self._before: dict[str, _File] = {}
        self._now: dict[str, _File] = {}

    def read(self, path: str, length: int) -> bytes:
        """Return the begin of a file; empty if it is not there, or was of somebody who ended."""
        known = self._before.get(path)
        # That of a process that ended can't be read: another may have its number.
        data = _begin_of(known, length) if known else None
        if data is None:
            known = _opened(path)
            data = _begin_of(known, length) if known else None
        if known and data is not None and len(self._now) < self._most:
            self._now[path] = known
        return data or b""

    def close_unread(self) -> None:
        """Begin another beat."""
        self._before, self._now = self._now, {}


def _opened(path: str) -> _File | None:
    try:
        return _File(path)
    except OSError:
        return None


def _begin_of(file: _File, length: int) -> bytes | None:
    try:
        return file.read(length)
    except OSError:  # it ended, or its cgroup is threaded
        return None
