# SPDX-License-Identifier: Apache-2.0
"""Where the agent itself is in the tree of cgroups, and what that tells about everybody else.

The agent is a pod of the kubelet whose pods it looks for. So the others are near it: below the
same cgroup of that kubelet, however deep a node in a container, in a pod, or both, is nested.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from memplace_agent.containers.names import is_qos, pod_of
from memplace_agent.hostfs import HostFs

# Once in the agent's life; at 15 us each.
_MAX_DIRECTORIES = 20_000


@dataclass(frozen=True, slots=True)
class Place:
    """The agent's surroundings, as names of directories from the root of the tree.

    Attributes:
        way: To the directory in which its pod is.
        home: To the cgroup below which its kubelet has all pods; a part of ``way``.
    """

    way: tuple[str, ...]
    home: tuple[str, ...]


def place_of(parts: tuple[str, ...]) -> Place | None:
    """Return what a path of the agent's own cgroup tells; None if it is in no pod. Pure.

    Of pods around each other the innermost is the agent's: those around it hold the node.
    """
    below = ["kubepods" in "/".join(parts[:depth]) for depth in range(len(parts))]
    pods = [
        depth
        for depth, name in enumerate(parts)
        if pod_of(name, below_kubepods=below[depth]) is not None
    ]
    if not pods:
        return None
    way = parts[: pods[-1]]
    return Place(way, way[:-1] if way and is_qos(way[-1]) else way)


def find_place(host: HostFs) -> Place | None:
    """Find the agent's own cgroup in the tree of the host; None if that does not succeed.

    In a container's cgroup namespace /sys/fs/cgroup is the container's cgroup, with the inode
    that it has in the whole tree. In the host's it is that tree, and /proc/self/cgroup has the
    path in it.

    Source: cgroup_namespaces(7); linux ``fs/kernfs/mount.c:kernfs_node_dentry()``.
    """
    try:
        own, top = host.own_cgroup.stat(), host.cgroup.stat()
    except OSError:
        return None
    if os.path.samestat(own, top):
        return place_of(_by_path(host))
    return place_of(_by_inode(host.cgroup, own))


def _by_path(host: HostFs) -> tuple[str, ...]:
    try:
        lines = (host.proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return ()
    path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    parts = tuple(part for part in path.split("/") if part)
    return parts if ".." not in parts and host.cgroup.joinpath(*parts).is_dir() else ()


def _by_inode(root: Path, wanted: os.stat_result) -> tuple[str, ...]:
    todo: deque[tuple[str, tuple[str, ...]]] = deque([(str(root), ())])
    for _ in range(_MAX_DIRECTORIES):
        if not todo:
            break
        directory, parts = todo.popleft()
        for entry in _directories(directory):
            if entry.inode() == wanted.st_ino and _is_same(entry, wanted):
                return (*parts, entry.name)
            todo.append((entry.path, (*parts, entry.name)))
    return ()


def _is_same(entry: os.DirEntry[str], wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(entry.stat(follow_symlinks=False), wanted)
    except OSError:
        return False


def _directories(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
