# SPDX-License-Identifier: Apache-2.0
"""Who on the node maps some objects: one read of the mappings of every process.

What counts is a mapping, private ones of a file included. Who has no more than a file
descriptor, or another path to the file, is none.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from memplace.errors import ProcessGone
from memplace.objects import ObjectId

from memplace_agent.containers.names import pod_of
from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.procfs.mapped import object_of
from memplace_agent.procfs.query import ReadVmas, Way
from memplace_agent.procfs.vmas import MAX_VMAS
from memplace_agent.syscalls.views import Ended

Ask = Callable[[Path, Way, float, int], ReadVmas]

# What is said of one process of many; and so many reads of one that executes programs.
_MOST_UNREAD = 8
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Mapper:
    """A process that maps an object, and the names of its cgroup's directories from the root."""

    pid: int
    cgroup: tuple[str, ...]


@dataclass(slots=True)
class Scan:
    """Who maps what.

    Attributes:
        mappers: By object.
        unread: Processes that could not be read, a few of them, each with why.
        is_whole: All processes were come to in time.
        at: The process that is being read, for whoever gives the scan up.
    """

    mappers: dict[ObjectId, list[Mapper]] = field(default_factory=dict)
    unread: list[tuple[int, str]] = field(default_factory=list)
    is_whole: bool = False
    at: int = 0


def scan(
    host: HostFs, ask: Ask, wanted: Collection[ObjectId], until: float, into: Scan | None = None
) -> Scan:
    """Read the mappings of all processes of the node.

    Args:
        host: Where /proc is.
        ask: Reads mappings.
        wanted: The objects that matter.
        until: As of `time.monotonic`; it is not whole if that passes.
        into: What to write the result to, for whoever waits for it.
    """
    found = Scan() if into is None else into
    keys = frozenset(wanted)
    for pid in _pids(host.proc):
        if time.monotonic() >= until:
            return found
        found.at = pid
        try:
            _add(host, ask, pid, keys, until, into=found)
        except ProcessGone:
            continue
        except OSError as err:
            _unread(found, pid, err.strerror or "it can't be read")
    found.is_whole = True
    return found


def pod_in(cgroup: tuple[str, ...], known: Mapping[str, str]) -> str | None:
    """Return the UID of the pod that a cgroup is in; None if it is in none that is known.

    The outermost counts: below its own cgroup a pod may make cgroups of any name.

    Args:
        cgroup: Names of directories from the root.
        known: Whose keys are the UIDs, in the form of `names.normal_uid`.
    """
    for depth, name in enumerate(cgroup):
        # From a cgroup namespace of its own the agent sees no further up than to dots.
        below = any("kubepods" in one or one == ".." for one in cgroup[:depth])
        uid = pod_of(name, below_kubepods=below)
        if uid is not None and uid in known:
            return uid
    return None


def _pids(proc: Path) -> list[int]:
    with os.scandir(proc) as entries:
        return sorted(int(entry.name) for entry in entries if entry.name.isdecimal())


def _add(
    host: HostFs, ask: Ask, pid: int, wanted: frozenset[ObjectId], until: float, *, into: Scan
) -> None:
    why, objects = _objects(host, ask, pid, wanted, until)
    if why:
        _unread(into, pid, why)
    if not objects:
        return
    text = read_proc(host.pid(pid) / "cgroup")
    line = next((ln for ln in text.split("\n") if ln.startswith("0::/")), "")
    mapper = Mapper(pid, tuple(part for part in line.removeprefix("0::/").split("/") if part))
    for one in objects:
        into.mappers.setdefault(one, []).append(mapper)


def _objects(
    host: HostFs, ask: Ask, pid: int, wanted: frozenset[ObjectId], until: float
) -> tuple[str, frozenset[ObjectId]]:
    # Why they can't be told, and those of the wanted ones that are mapped.
    for _ in range(_TRIES):
        own = ask(host.pid(pid), Way.MAPS, until, MAX_VMAS)
        # No address space is ESRCH to some kernels: a first thread that has ended has none.
        if own.ended is Ended.FAILED and own.errno != errno.ESRCH:
            return _why(own.errno), frozenset()
        read = own if len(own.vmas) else _of_other_thread(host, ask, pid, until)
        if read is None:  # a thread of the kernel, or one that ends
            return "", frozenset()
        if read.ended is Ended.COMPLETE:
            mapped = (object_of(one) for one in read.vmas.classes)
            return "", frozenset(one for one in mapped if one in wanted)
    return "its mappings can't be read whole", frozenset()


def _of_other_thread(host: HostFs, ask: Ask, pid: int, until: float) -> ReadVmas | None:
    # Where the first thread has ended, the others show what the process maps.
    try:
        tasks = sorted(int(entry.name) for entry in (host.pid(pid) / "task").iterdir())
    except FileNotFoundError as err:
        raise ProcessGone("the process ended") from err
    for task in tasks:
        if task != pid:
            read = ask(host.pid(pid) / "task" / str(task), Way.MAPS, until, MAX_VMAS)
            if len(read.vmas) or _is_refused(read):
                return read
    return None


def _is_refused(read: ReadVmas) -> bool:
    return read.ended is Ended.FAILED and read.errno not in (errno.ENOENT, errno.ESRCH)


def _why(number: int) -> str:
    error = OSError(number, os.strerror(number))
    if isinstance(error, FileNotFoundError | ProcessLookupError):
        return ""
    return str(error.strerror)


def _unread(found: Scan, pid: int, why: str) -> None:
    if len(found.unread) < _MOST_UNREAD:
        found.unread.append((pid, why))
