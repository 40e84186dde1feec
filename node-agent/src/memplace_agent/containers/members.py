# SPDX-License-Identifier: Apache-2.0
"""Which processes a container has, and whether one is still its.

The list of a cgroup is read once per look, for all its processes. Whether one of them is
still in the container is then asked of the process, not of the list: one line of its own
/proc/PID/cgroup, so that a look at P processes reads P lines and not P lists of P.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from memplace.errors import MemplaceError

from memplace_agent.containers.refs import CgroupRef
from memplace_agent.hostfs import HostFs, read_file, read_proc

# A container may be a node of its own, with some hundred pods.
MAX_CGROUPS = 4096

_GONE = (errno.ENOENT, errno.ENODEV)


class Unlisted(MemplaceError, OSError):  # noqa: N818  says what happened
    """Not all processes of a cgroup are known.

    Who may make cgroups in a container can make any number, and take from the agent, which may
    not read all that root may, the right to list their processes.

    Attributes:
        found: Those that are.
    """

    HELP = (
        "A program in the container made these cgroups: have it make fewer, and leave their "
        "directories and cgroup.procs readable."
    )

    def __init__(self, why: str, found: frozenset[int]) -> None:
        super().__init__(f"not all processes of the container are known: {why}")
        self.found = found


def read_members(ref: CgroupRef) -> frozenset[int]:
    """Return the processes in a container's cgroup and all below it; empty when it is gone.

    They may end, and their ids be taken by others, as soon as this has returned.

    Raises:
        Unlisted: There may be more, see `Unlisted.found`.
    """
    return read_pids(ref.path)


def read_pids(cgroup: Path, at_most: int = MAX_CGROUPS) -> frozenset[int]:
    """Do as `read_members`, for any cgroup; reads that many cgroups at most."""
    found: set[int] = set()
    why = ""
    todo, known = deque([str(cgroup)]), 1
    while todo:
        here = todo.popleft()
        try:
            found.update(_procs(here))
            for below in _below(here):
                if known == at_most:
                    why = why or f"it has more than {at_most} cgroups"
                    break
                known += 1
                todo.append(below)
        except OSError as err:
            if err.errno not in _GONE:
                why = why or f"{here}: {err.strerror}"
    if why:
        raise Unlisted(why, frozenset(found))
    return frozenset(found)


def known_pids(cgroup: Path, at_most: int = MAX_CGROUPS) -> frozenset[int]:
    """Do as `read_pids`, and leave out what can't be listed."""
    try:
        return read_pids(cgroup, at_most)
    except Unlisted as err:
        return err.found


def is_populated(cgroup: Path) -> bool:
    """Return whether a process lives in a cgroup or below it; False when it is gone.

    Reads one file, however many processes there are. Where that is not there (the root has
    none) the lists are read; in those that can't be read there may be one.

    Source: linux ``Documentation/admin-guide/cgroup-v2.rst``, "[Un]populated Notification".
    """
    try:
        text = read_file(f"{cgroup}/cgroup.events")
    except OSError:
        try:
            return bool(read_pids(cgroup))
        except Unlisted:
            return True
    return b"populated 0" not in text.splitlines()


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


def _procs(directory: str) -> list[int]:
    try:
        text = read_file(f"{directory}/cgroup.procs")
    except OSError as err:
        # EOPNOTSUPP: a threaded cgroup, its processes show in the one above.
        if err.errno in (*_GONE, errno.EOPNOTSUPP):
            return []
        raise
    # 0 stands for a process that this pid namespace does not have.
    return [int(pid) for pid in text.split() if pid != b"0"]


def _below(directory: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for each in entries:
            if each.is_dir(follow_symlinks=False):
                yield each.path
