# SPDX-License-Identifier: Apache-2.0
"""What a careful admin would write without memplace: a loop that moves pages once they are there.

    python3 move_pages_loop.py NODE SECONDS PROGRAM

Runs on the worker with what it has. Every SECONDS it asks move_pages(2), 2 MiB a call, to take
all private anonymous memory of the containers' processes of one name to a NUMA node.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
BATCH = (2 << 20) // PAGE
# man 2 syscall, x86-64; man 2 move_pages.
MOVE_PAGES, MPOL_MF_MOVE = 279, 2
LIBC = ctypes.CDLL(None, use_errno=True)
CONTAINERS = Path("/sys/fs/cgroup/kubepods.slice")


def processes(program: str) -> Iterator[int]:
    """Return the processes of containers that execute a program of this name."""
    for procs in CONTAINERS.rglob("cri-containerd-*.scope/cgroup.procs"):
        for pid in procs.read_text().split():
            if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                yield int(pid)


def ranges(pid: int) -> Iterator[range]:
    """Return the pages of private anonymous memory that can be written to, without stacks."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        where, permissions, _, _, inode, *name = line.split(maxsplit=5)
        if permissions == "rw-p" and inode == "0" and name[:1] != ["[stack]"]:
            start, end = (int(part, 16) for part in where.split("-"))
            yield range(start, end, PAGE)


def move(pid: int, pages: range, node: int) -> None:
    """Move these pages; those that are not there yet, or can't be moved, are left out."""
    for first in range(0, len(pages), BATCH):
        some = pages[first : first + BATCH]
        addresses = (ctypes.c_void_p * len(some))(*some)
        nodes = (ctypes.c_int * len(some))(*[node] * len(some))
        states = (ctypes.c_int * len(some))()
        LIBC.syscall(MOVE_PAGES, pid, len(some), addresses, nodes, states, MPOL_MF_MOVE)


def main() -> None:
    """Go on until killed."""
    node, pause, program = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    while True:
        try:
            for pid in processes(program):
                for pages in ranges(pid):
                    move(pid, pages, node)
        except OSError:
            pass  # a process that has ended meanwhile
        time.sleep(pause)


if __name__ == "__main__":
    main()
