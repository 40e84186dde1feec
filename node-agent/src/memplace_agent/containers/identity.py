# SPDX-License-Identifier: Apache-2.0
"""A name for a process that no other process of this boot ever has.

From Linux 6.9 on, a pidfd is a file of pidfs, whose inode number is given once per boot. Before
that, all pidfds share one inode; then pid and start time together name a process, as well as
they can: the clock ticks every 10 ms, and a pid would have to come back within that.

Source: Linux kernel commit cb12fd8e0dab ("pidfd: add pidfs") (in v6.9).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from memplace.errors import ProcessGone

from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.procfs.stat import parse_stat
from memplace_agent.syscalls import Kernel, PidFd

# linux include/linux/threads.h: PID_MAX_LIMIT is 1 << 22.
_PID_BITS = 22


@dataclass(frozen=True, slots=True)
class Identities:
    """How processes are named on this node, until it boots again.

    Attributes:
        unique_inodes: Pidfds of different processes have different inodes.
    """

    unique_inodes: bool

    def of(self, host: HostFs, pidfd: PidFd, pid: int, kernel: Kernel) -> int:
        """Return the name of a process; the same one each time, as long as the process lives.

        Raises:
            ProcessGone: It ended; only where the start time has to be read.
        """
        if self.unique_inodes:
            return os.fstat(pidfd).st_ino
        start = parse_stat(read_proc(host.pid(pid) / "stat")).start_time
        if not kernel.is_alive(pidfd):
            raise ProcessGone("the process ended while its start time was read")
        return start << _PID_BITS | pid


def probe_identities(host: HostFs, kernel: Kernel) -> Identities:
    """Find out whether inodes of pidfds name processes here, from our own and another's.

    Also says no if there is no other process, or it ends too soon.
    """
    own = os.getpid()
    other = next((pid for pid in _pids(host) if pid != own), None)
    if other is None:
        return Identities(unique_inodes=False)
    with contextlib.ExitStack() as stack:
        try:
            inodes = [_inode(stack, kernel, pid) for pid in (own, own, other)]
        except ProcessGone:
            return Identities(unique_inodes=False)
    return Identities(inodes[0] == inodes[1] != inodes[2])


def _inode(stack: contextlib.ExitStack, kernel: Kernel, pid: int) -> int:
    pidfd = kernel.pidfd_open(pid)
    stack.callback(os.close, pidfd)
    return os.fstat(pidfd).st_ino


def _pids(host: HostFs) -> list[int]:
    # The lowest first: process 1 does not end before us.
    return sorted(int(entry.name) for entry in host.proc.iterdir() if entry.name.isdecimal())
