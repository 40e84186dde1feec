# SPDX-License-Identifier: Apache-2.0
"""Which processes a container has, and whether one is still its.

The list of a cgroup is read once per look, for all its processes. Whether one of them is
still in the container is then asked of the process, not of the list: one line of its own
/proc/PID/cgroup, so that a look at P processes reads P lines and not P lists of P.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from memplace_agent.containers.refs import CgroupRef
from memplace_agent.hostfs import HostFs, read_proc


def read_members(ref: CgroupRef) -> frozenset[int]:
    """Return the processes in a container's cgroup and all below it; empty when it is gone.

    They may end, and their ids be taken by others, as soon as this has returned.

    Raises:
        OSError: The tree can't be read.
    """
    return read_pids(ref.path)


def read_pids(cgroup: Path) -> frozenset[int]:
    """Do as `read_members`, for any cgroup."""
    return frozenset(pid for top, _, _ in os.walk(cgroup) for pid in _procs(Path(top)))


def is_populated(cgroup: Path) -> bool:
    """Return whether a process lives in a cgroup or below it; False when it is gone.

    Reads one file, however many processes there are. Where that is not there (the root has
    none) the lists are read.

    Source: linux ``Documentation/admin-guide/cgroup-v2.rst``, "[Un]populated Notification".
    """
    try:
        text = (cgroup / "cgroup.events").read_text()
    except OSError:
        return bool(read_pids(cgroup))
    return "populated 0" not in text.splitlines()


def member_test(host: HostFs, ref: CgroupRef) -> Callable[[int], bool]:
    """Return a function that tells whether a pid is in a container now.

    Call it between opening a pidfd and asking whether that is alive: only then does the
    answer belong to the process of the pidfd, and not to a later owner of its number.
    The function raises ProcessGone when no process has the number.

    Example:
        >>> is_member = member_test(host, ref)
        >>> with pin(host, kernel, pid, expected_start=start, is_member=is_member): ...
    """
    parts = ref.parts

    def is_member(pid: int) -> bool:
        return is_below(parts, read_proc(host.pid(pid) / "cgroup"))

    return is_member


def is_below(container: Sequence[str], proc_cgroup: str) -> bool:
    """Return whether a /proc/PID/cgroup names a container's cgroup or one below it; pure.

    The kernel writes the path as seen from the cgroup namespace of the reader. An agent in
    one of its own reads ``/../../kubepods-podX.slice/cri-…scope`` of its neighbours: the
    directories it has in common with them are not shown. So what follows the dots has to go
    on from some directory of the container's path, and to its end. That can't be made up from
    another pod: what it shows begins at that pod's own cgroup or above.

    Args:
        container: Names of the directories from the root of the tree to the container.
        proc_cgroup: The file's text; only the line of v2, ``0::PATH``, counts.

    Source: cgroups(7), "/proc/pid/cgroup"; linux ``fs/kernfs/dir.c:kernfs_path_from_node()``.
    """
    line = next((ln for ln in proc_cgroup.split("\n") if ln.startswith("0::/")), None)
    if line is None:
        return False
    shown = line.removeprefix("0::/").split("/")
    while shown and shown[0] == "..":
        shown.pop(0)
    return any(
        tuple(shown[: len(container) - hidden]) == tuple(container[hidden:])
        for hidden in range(len(container))
    )


def _procs(directory: Path) -> list[int]:
    try:
        text = (directory / "cgroup.procs").read_text()
    except OSError as err:
        # EOPNOTSUPP: a threaded cgroup, its processes show in the one above.
        if err.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return []
        raise
    # 0 stands for a process that this pid namespace does not have.
    return [int(pid) for pid in text.split() if pid != "0"]
