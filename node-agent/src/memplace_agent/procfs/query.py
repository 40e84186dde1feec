# SPDX-License-Identifier: Apache-2.0
"""Read the mappings of a process the best way this kernel has; no way walks page tables."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from memplace_agent.procfs.vmas import EMPTY, MAX_VMAS, Vmas, vmas_of
from memplace_agent.syscalls.views import Ended, query_maps, read_maps

# sizeof(struct procmap_query) with the members for policy and flags.
_SIZE_WITH_POLICY = 136
_FAR = float("inf")


class Way(StrEnum):
    """How mappings are read."""

    POLICY = "ProcmapQueryWithPolicy"  # with policy, VmFlags and page size
    QUERY = "ProcmapQuery"  # with page size
    MAPS = "Maps"  # the text


@dataclass(frozen=True, slots=True)
class ReadVmas:
    """What a read gave.

    Attributes:
        vmas: The mappings; not all of them unless ``ended`` is COMPLETE.
        ended: How it ended.
        errno: If it FAILED; of opening the file, too.
    """

    vmas: Vmas
    ended: Ended
    errno: int = 0


def best_way(procmap_query_size: int, own: Path = Path("/proc/self")) -> Way:
    """Find out how this kernel lets mappings be read, by doing it to ourselves.

    Args:
        procmap_query_size: What the kernel announces in sysfs, 0 if it announces nothing. To
            ask a kernel that announces less would do no harm (E2BIG); to ask one that gave
            the members another meaning would.
        own: Our directory of /proc.
    """
    ways = [Way.QUERY]
    if procmap_query_size >= _SIZE_WITH_POLICY:
        ways.insert(0, Way.POLICY)
    usable = (way for way in ways if read_vmas(own, way, _FAR).ended is Ended.COMPLETE)
    return next(usable, Way.MAPS)


def read_vmas(directory: Path, way: Way, deadline: float, limit: int = MAX_VMAS) -> ReadVmas:
    """Read the mappings of a process.

    Args:
        directory: Its directory of /proc.
        way: What `best_way` found.
        deadline: As of `time.monotonic`. It ends the read between two parts of it; the kernel
            may keep one part waiting for as long as a thread of the process holds its
            mmap_lock: see `memplace_agent.engine.pool`.
        limit: How many mappings at most.

    Returns:
        Nothing and COMPLETE for a process without an address space, if the way is MAPS;
        FAILED and ESRCH with the others.
    """
    try:
        fd = os.open(directory / "maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        return ReadVmas(EMPTY, Ended.FAILED, err.errno or errno.EIO)
    try:
        if way is Way.MAPS:
            view = read_maps(fd, limit, deadline)
        else:
            view = query_maps(fd, limit, deadline, policy=way is Way.POLICY)
    finally:
        os.close(fd)
    return ReadVmas(vmas_of(view), view.ended, view.errno)
