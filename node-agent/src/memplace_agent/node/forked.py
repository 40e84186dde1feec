# SPDX-License-Identifier: Apache-2.0
"""How much of a container's anonymous memory fork() left to several of its processes.

Which pages they are tells /proc/PID/pagemap, its owner's alone, and /proc/PID/smaps, by a walk
of page tables. Without either the kernel's accounts tell how much it is: a cgroup is charged
for a page once, and each process that maps it counts it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import cache, partial
from pathlib import Path

from memplace.errors import ProcessGone

from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.node.numa_stat import read_numa_stat

_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)
# The accounts are of different moments, and the cgroup's is up to two seconds old.
_NOISE = 0.05


# Tells that share, of processes that have others beside them.
Others = Callable[[], float]


def others_in(host: HostFs, cgroup: Path, pids: Collection[int]) -> Others | None:
    """Return what tells `forked_share` of them, once; None for a process that is alone."""
    return cache(partial(forked_share, host, cgroup, pids)) if len(pids) > 1 else None


def forked_share(host: HostFs, cgroup: Path, pids: Iterable[int]) -> float:
    """Return the share of what each process has that another one has as well, on average.

    That is what it is for the children of one process that wrote to as much each. Who was
    placed in the cgroup with memory that another one is charged for counts as a child.

    Args:
        host: Where /proc is.
        cgroup: The container's, whose account has all of its processes.
        pids: These.

    Returns:
        From 0 to 1; 0 if it can't be told.

    Source: proc_pid_status(5), RssAnon; linux ``mm/memcontrol.c:memory_numa_stat_show()``.
    """
    charged = read_numa_stat(cgroup, frozenset({"anon"}))
    if charged is None:
        return 0.0
    held = [_anonymous(host, pid) for pid in pids]
    mapped, most = sum(held), max(held, default=0)
    over = mapped - max(most, sum(charged.values()))
    if over <= _NOISE * mapped or mapped == most:
        return 0.0
    return min(1.0, over / (mapped - most))


def _anonymous(host: HostFs, pid: int) -> int:
    try:
        found = _ANONYMOUS.search(read_proc(host.pid(pid) / "status"))
    except (ProcessGone, OSError):
        return 0
    return int(found[1]) << 10 if found else 0
