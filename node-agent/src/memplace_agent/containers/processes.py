# SPDX-License-Identifier: Apache-2.0
"""Pin a process of a container, and read its address space while it is pinned.

A pid from cgroup.procs names whatever process has it now. So a pidfd is opened first;
then the cgroup and the start time are read again. If both are still what they were, the
pidfd is the process of the container, and stays that however pids are used later.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memplace_agent.errors import ProcessGone
from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.procfs.regions import AddressSpace, join, layout_of
from memplace_agent.procfs.stat import Stat, parse_stat
from memplace_agent.syscalls import Kernel, PidFd

__all__ = ["Pinned", "may_move_all", "pin", "read_address_space", "read_layout", "read_stat"]


@dataclass(frozen=True, slots=True)
class Pinned:
    """A process that can't be mistaken for another: its pid, start time, parent and pidfd."""

    pid: int
    start_time: int
    ppid: int
    pidfd: PidFd


def read_stat(host: HostFs, pid: int) -> Stat:
    """Read a process's stat; raises ProcessGone."""
    return parse_stat(read_proc(host.pid(pid) / "stat"))


def read_layout(host: HostFs, pid: int) -> int:
    """Return a number that changes when the process maps or unmaps something.

    Cheap: it reads maps, which walks no page tables. Raises ProcessGone.
    """
    return layout_of(read_proc(host.pid(pid) / "maps"))


@contextlib.contextmanager
def pin(
    host: HostFs,
    kernel: Kernel,
    pid: int,
    *,
    expected_start: int,
    is_member: Callable[[int], bool],
) -> Iterator[Pinned]:
    """Pin a process for the length of the context.

    Args:
        host: Where /proc is.
        kernel: Opens the pidfd.
        pid: The process's id.
        expected_start: Its start time as read when it was found in the container.
        is_member: Reads again whether the pid is in the container's cgroup.

    Raises:
        ProcessGone: It ended, its id belongs to another process now, or it left the cgroup.
    """
    pidfd = kernel.pidfd_open(pid)
    try:
        stat = read_stat(host, pid)
        if stat.start_time != expected_start or not is_member(pid) or not kernel.is_alive(pidfd):
            raise ProcessGone("the pid belongs to another process by now")
        yield Pinned(pid, stat.start_time, stat.ppid, pidfd)
    finally:
        os.close(pidfd)


def read_address_space(host: HostFs, kernel: Kernel, process: Pinned) -> AddressSpace:
    """Read the regions of a pinned process.

    /proc/PID is reached by number, which a pidfd does not reserve; so whether the process
    still lives is asked once more after the last file was read.

    Raises:
        ProcessGone: It ended meanwhile.
    """
    directory = host.pid(process.pid)
    texts = [read_proc(directory / name) for name in ("maps", "numa_maps", "maps")]
    if not kernel.is_alive(process.pidfd):
        raise ProcessGone("the process ended while its mappings were read")
    return join(*texts)


def may_move_all(host: HostFs, process: Pinned) -> bool:
    """Return whether pages that others map as well may be moved along.

    Pages shared through fork belong to the container; pages that KSM merged may be those of
    any process of the node. A process that can't be asked has to be taken for merged.

    Source: linux ``Documentation/admin-guide/mm/ksm.rst``, pages_sharing; proc_pid_smaps(5).
    /proc/PID/ksm_merging_pages says it for less, but only to the process's own user.
    """
    if not _ksm_is_in_use(host):
        return True
    try:
        rollup = read_proc(host.pid(process.pid) / "smaps_rollup")
    except ProcessGone:
        return True
    merged = re.search(r"^KSM: +(\d+) kB$", rollup, re.MULTILINE)
    return merged is not None and merged[1] == "0"


def _ksm_is_in_use(host: HostFs) -> bool:
    try:
        return int((host.ksm / "pages_sharing").read_text()) > 0
    except FileNotFoundError:
        return False  # a kernel without KSM
