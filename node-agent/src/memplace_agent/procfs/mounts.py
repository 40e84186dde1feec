# SPDX-License-Identifier: Apache-2.0
"""Which file systems keep a policy in the file: tmpfs, and what the kernel mounts for itself.

Of all that can be mapped only shmem has a policy of its own for parts of an object, in force
for everybody who maps it (``set_policy`` of ``mm/shmem.c``). hugetlbfs has none since Linux 6.7
and no use for one before; files of others are page cache, which no policy of a mapping reaches.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from memplace_agent.procfs.query import Way, read_vmas

_FAR = float("inf")
# devtmpfs is tmpfs by another name.
_SHMEM = frozenset({"tmpfs", "devtmpfs"})
_MOST_MOUNTS = 100_000


def internal_device(own: Path = Path("/proc/self")) -> tuple[int, int] | None:
    """Return the device of memfds, System V segments and shared anonymous memory.

    It is mounted nowhere, and the same for all; found by making such memory. None if that
    fails.
    """
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:  # MAP_SHARED
        memory[0] = 0
        found = read_vmas(own, Way.MAPS, _FAR).vmas
        devices = {
            one.device for one in found.classes if one.shared and one.path.startswith("/dev/zero")
        }
    return devices.pop() if len(devices) == 1 else None


def tmpfs_devices(directory: Path) -> frozenset[tuple[int, int]]:
    """Return the devices of all tmpfs that a process sees mounted.

    Args:
        directory: Of the process, below /proc.

    Returns:
        Nothing if that can't be read.

    Source: proc_pid_mountinfo(5).
    """
    try:
        with (directory / "mountinfo").open(encoding="utf-8", errors="surrogateescape") as file:
            lines = [line for line, _ in zip(file, range(_MOST_MOUNTS), strict=False)]
    except OSError:
        return frozenset()
    found = set()
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ", 1)[0]
        if kind in _SHMEM and len(fields) > 2:
            major, _, minor = fields[2].partition(":")
            if major.isdecimal() and minor.isdecimal():
                found.add((int(major), int(minor)))
    return frozenset(found)
