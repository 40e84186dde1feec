# SPDX-License-Identifier: Apache-2.0
"""The process of the runtime that starts a pod's programs, told by whose parent it is.

containerd has one shim per pod: it is the parent of the pod's sandbox (pause), of the first
program of each container and of each that `kubectl exec` runs. So whose child the sandbox is
tells it; its name does no more than say that it is no other kind of program. It lives among the
node's daemons, in no pod's cgroup, belongs to root, and is in no pid namespace of its own. It
is left alone if it has a child that is neither in the pod nor where it is itself: it serves
somebody else as well.

CRI-O has a monitor (conmon) for each container, which starts nothing later, and no process that
starts the programs of one pod only.

Source: containerd 1.7 ``runtime/v2/runc/manager/manager_linux.go``, groupLabels, and
``runtime/v2/shim/shim_linux.go:subreaper()``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from memplace.errors import ProcessGone

from memplace_agent.containers.members import is_below, is_populated, read_pids
from memplace_agent.containers.names import (
    container_with_pod_of,
    id_of,
    names_container,
    pod_of,
)
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.containers.sandbox import Guard, at_once, sandbox_program
from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.procfs.stat import Stat, parse_stat

# comm, of which the kernel keeps 15 bytes: containerd-shim-runc-v2 and all others of its kind.
_NAME = "containerd-shim"
_MONITOR = "conmon"

_ENDED = frozenset("ZXx")

# runc has three for each program that it makes.
_MAX_HELPERS = 256

# A sandbox makes none of its own.
_CGROUPS = 64


@dataclass(frozen=True, slots=True)
class Shim:
    """A pod's shim: `started` in clock ticks from boot, as in /proc/PID/stat."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True)
class NoShim:
    """Why there is none, for people.

    Attributes:
        why: What is in the way.
        is_final: There will be none, and not only not yet.
        is_unknown: There may be one: who it is can't be read.
    """

    why: str
    is_final: bool = False
    is_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Relative:
    """What a process says of itself.

    Attributes:
        pid: Its id.
        name: comm.
        uid: The real user.
        namespaces: In how many pid namespaces it has an id, from the one of this /proc on.
        cgroup: The text of /proc/PID/cgroup.
    """

    pid: int
    name: str
    uid: int
    namespaces: int
    cgroup: str


def siblings(ref: CgroupRef) -> list[CgroupRef]:
    """Return the cgroups of all containers of a pod, the oldest first.

    Args:
        ref: Of any of them, gone or not.
    """
    is_whole_pod = container_with_pod_of(ref.path.name) is not None
    found: list[tuple[int, CgroupRef]] = []
    try:
        with os.scandir(ref.path.parent) as entries:
            named = [(each.inode(), each.name) for each in entries if not each.is_file()]
    except OSError:  # the pod is gone
        return []
    for inode, name in named:
        id_ = id_of(name)
        if id_ is None or not names_container(name, id_):
            continue
        if is_whole_pod and pod_of(name, below_kubepods=True) != ref.pod_uid:
            continue
        found.append((inode, CgroupRef(ref.root, ref.path.parent / name, ref.pod_uid)))
    return [each for _, each in sorted(found, key=lambda pair: pair[0])]


def find_shim(
    host: HostFs, containers: Sequence[CgroupRef], group: str = "", guard: Guard = at_once
) -> Shim | NoShim:
    """Find the shim of a pod.

    Args:
        host: Where /proc is.
        containers: The pod's, as `siblings` gives them; the oldest that lives is the sandbox.
        group: The pod's namespace.
        guard: See `sandbox_program`.

    Raises:
        OSError: The processes of the sandbox can't be listed.
    """
    sandbox = next((ref for ref in containers if is_populated(ref.path)), None)
    if sandbox is None:
        return NoShim("the pod has no process yet")
    pids = read_pids(sandbox.path, _CGROUPS)
    parents = {stat.ppid for pid in pids if (stat := _stat(host, pid))} - pids
    if len(parents) != 1:
        return NoShim(f"its first container has {len(parents)} parents")
    (pid,) = parents
    try:
        started = parse_stat(read_proc(host.pid(pid) / "stat")).start_time
        parent, pod = _relative(host, pid), [ref.parts for ref in containers]
        why = why_not(parent, (), pod)  # mostly known from this, and much less to read
        if not why:
            living = (_living(host, child) for child in _children(host, pid))
            why = why_not(parent, [each for each in living if each], pod)
    except ProcessGone:
        return NoShim("the parent of its first container has ended")
    if not why:
        program = sandbox_program(host, [pid, *pids], group, guard)
        if program is None:
            return NoShim("what its first container runs can't be read", is_unknown=True)
        why = f"it runs {program}" if program else ""
    return NoShim(why, parent.name == _MONITOR) if why else Shim(pid, started)


def why_not(
    parent: Relative, children: Collection[Relative], pod: Collection[Sequence[str]]
) -> str:
    """Say why the parent of a sandbox is no shim that serves this pod alone; "" if it is. Pure.

    Args:
        parent: The process.
        children: All of its children that live.
        pod: The cgroups of the pod's containers, by the names of directories from the root.
    """
    who = f"the parent of its first container ({parent.pid}, {parent.name!r})"
    if parent.pid <= 1 or not parent.name.startswith(_NAME):
        return f"{who} is no shim of containerd's"
    if parent.uid != 0:
        return f"{who} is not root's"
    if parent.namespaces > 1:
        return f"{who} is in a pid namespace of its own"
    if _is_in_a_pod(parent.cgroup):
        return f"{who} is in a pod"
    own = parent.cgroup.split("\n")
    for child in children:
        # On the way into the pod a program is where the shim is.
        is_own = child.cgroup.split("\n") == own
        if not is_own and not any(is_below(parts, child.cgroup) for parts in pod):
            return f"{who} has a child {child.pid} that is not of this pod"
    return ""


def helpers(host: HostFs, shim: Shim) -> list[int]:
    """Return the descendants of a shim that are where it is itself: what makes programs for it.

    One that is in the pod by now is not among them, nor is what that has started.

    Raises:
        ProcessGone: The shim ended.
    """
    own = read_proc(host.pid(shim.pid) / "cgroup")
    found: list[int] = []
    todo = list(_children(host, shim.pid))
    while todo and len(found) < _MAX_HELPERS:
        each = _living(host, todo.pop())
        if each and each.cgroup == own:
            found.append(each.pid)
            with contextlib.suppress(ProcessGone):
                todo.extend(_children(host, each.pid))
    return found


def is_started(host: HostFs, shim: Shim) -> Callable[[int], bool]:
    """Return a test for `pinning.Pinner.pin`: the process started when the shim did."""

    def is_member(pid: int) -> bool:
        return parse_stat(read_proc(host.pid(pid) / "stat")).start_time == shim.started

    return is_member


def _is_in_a_pod(cgroup: str) -> bool:
    # As an agent with a cgroup namespace of its own sees it: the names that both have in common
    # are dots. Of a process in another pod its pod's name or its container's is there.
    line = next((ln for ln in cgroup.split("\n") if ln.startswith("0::/")), "")
    names = line.removeprefix("0::/").split("/")
    return not line or any(
        "kubepods" in name or id_of(name) or pod_of(name, below_kubepods=False) for name in names
    )


def _relative(host: HostFs, pid: int) -> Relative:
    directory = host.pid(pid)
    lines = read_proc(directory / "status").split("\n")
    fields = dict(line.partition(":\t")[::2] for line in lines)
    return Relative(
        pid=pid,
        name=fields.get("Name", ""),
        uid=int(fields.get("Uid", "-1").split()[0]),
        namespaces=len(fields.get("NSpid", "").split()),
        cgroup=read_proc(directory / "cgroup"),
    )


def _living(host: HostFs, pid: int) -> Relative | None:
    try:
        text = read_proc(host.pid(pid) / "stat")
        is_ended = text[text.rfind(")") + 2 :][:1] in _ENDED
        return None if is_ended else _relative(host, pid)
    except ProcessGone:
        return None


def _children(host: HostFs, pid: int) -> Iterator[int]:
    tasks = host.pid(pid) / "task"
    try:
        lists = [_read_children(task) for task in tasks.iterdir()]
    except OSError as err:
        raise ProcessGone(err.errno, "the process is gone") from err
    if any(text is None for text in lists):
        # A kernel without CONFIG_PROC_CHILDREN.
        yield from _children_of_all(host, pid)
        return
    for text in lists:
        yield from map(int, (text or "").split())


def _read_children(task: Path) -> str | None:
    try:
        return read_proc(task / "children")
    except ProcessGone:
        return None if task.exists() else ""


def _children_of_all(host: HostFs, parent: int) -> Iterator[int]:
    pids = (int(entry.name) for entry in host.proc.iterdir() if entry.name.isdecimal())
    for pid in pids:
        stat = _stat(host, pid)
        if stat is not None and stat.ppid == parent:
            yield pid


def _stat(host: HostFs, pid: int) -> Stat | None:
    try:
        return parse_stat(read_proc(host.pid(pid) / "stat"))
    except ProcessGone:
        return None
