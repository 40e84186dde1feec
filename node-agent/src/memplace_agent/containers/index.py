# SPDX-License-Identifier: Apache-2.0
"""All containers' cgroups of a node, found by one walk of the tree.

A container's cgroup counts only as a child of the cgroup of its own pod: a container with a
cgroup subtree of its own can give a directory any name, and must not pass its processes off
as somebody else's. So the walk takes what is right below a pod, and looks no deeper: what is
in there is the container's. Above pods it looks everywhere, since the top is not always
/kubepods.slice: kubelet has --cgroup-root, and a node can be a container itself (kind,
minikube).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from memplace_agent.containers.names import (
    container_of,
    container_with_pod_of,
    normal_uid,
    pod_of,
)

__all__ = ["CgroupIndex", "CgroupRef", "Hierarchy", "read_hierarchy"]

# kind in minikube has pods at level 7. Deeper is nobody's kubelet.
_MAX_DEPTH = 12

# Of cgroup v1, each is a mount of its own below /sys/fs/cgroup.
_V1_CONTROLLERS = ("cpuset", "memory", "cpu", "cpu,cpuacct", "cpuacct", "devices", "freezer")


class Hierarchy(StrEnum):
    """What kind of cgroup tree a node has."""

    UNIFIED = "v2"
    HYBRID = "hybrid"
    LEGACY = "v1"


@dataclass(frozen=True, slots=True)
class CgroupRef:
    """A container's cgroup.

    Attributes:
        root: Where the tree is mounted here; the whole of it, as the host or node sees it.
        path: The container's directory, below root.
        pod_uid: Of the pod whose cgroup it is in, with dashes.
    """

    root: Path
    path: Path
    pod_uid: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the directories from the root to the container."""
        return self.path.relative_to(self.root).parts


def read_hierarchy(root: Path) -> Hierarchy:
    """Tell what is mounted at /sys/fs/cgroup.

    Source: linux ``Documentation/admin-guide/cgroup-v2.rst``, "Mounting": the root of v2 has
    cgroup.procs; with v1 there is a tmpfs with a directory per controller, and hybrid means
    that one of them, ``unified``, is v2 without controllers.
    """
    if (root / "cgroup.procs").exists():
        return Hierarchy.UNIFIED
    if not any((root / name).is_dir() for name in _V1_CONTROLLERS):
        return Hierarchy.UNIFIED
    return Hierarchy.HYBRID if (root / "unified").is_dir() else Hierarchy.LEGACY


@dataclass(frozen=True, slots=True)
class _Found:
    hierarchy: Hierarchy
    containers: Mapping[str, tuple[CgroupRef, ...]]
    pods: Mapping[str, tuple[Path, ...]]


class CgroupIndex:
    """The containers and pods that have a cgroup, as of the last `refresh`.

    Refresh once per pass, or when a container is asked for that is not there yet; nothing
    else here reads the tree. What is gone is forgotten by the next refresh. Reading it from
    other threads is safe at any time: a refresh puts a new table in place of the old.

    Example:
        >>> index = CgroupIndex(host.cgroup)
        >>> index.refresh()
        >>> ref = index.find(container_id, {pod.uid})
        >>> pids = read_members(ref)
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found = _Found(Hierarchy.UNIFIED, {}, {})

    @property
    def hierarchy(self) -> Hierarchy:
        """The kind of tree; nothing is ever found in one that is not v2."""
        return self._found.hierarchy

    def __len__(self) -> int:
        return len(self._found.containers)

    def refresh(self) -> None:
        """Walk the tree once."""
        hierarchy = read_hierarchy(self._root)
        if hierarchy is not Hierarchy.UNIFIED:
            self._found = _Found(hierarchy, {}, {})
            return
        containers: dict[str, tuple[CgroupRef, ...]] = {}
        pods: dict[str, tuple[Path, ...]] = {}
        for uid, path in _pods(self._root):
            pods[uid] = (*pods.get(uid, ()), path)
        for uid, container_id, path in _containers(pods):
            ref = CgroupRef(self._root, path, uid)
            containers[container_id] = (*containers.get(container_id, ()), ref)
        self._found = _Found(hierarchy, containers, pods)

    def find(self, container_id: str, pod_uids: Collection[str]) -> CgroupRef | None:
        """Return the cgroup of a container of a pod; None when there is none.

        Args:
            container_id: 64 hex digits.
            pod_uids: The pod's UID; for a static pod also the one in its annotation
                kubernetes.io/config.hash, which its cgroup is named for.
        """
        uids = {normal_uid(uid) for uid in pod_uids}
        refs = self._found.containers.get(container_id, ())
        return next((ref for ref in refs if ref.pod_uid in uids), None)

    def refs(self, container_id: str) -> tuple[CgroupRef, ...]:
        """Return the cgroups of a container, whatever pod they are in; usually one or none.

        For giving back what was done: the pod may be gone from the API by then.
        """
        return self._found.containers.get(container_id, ())

    def pod_directories(self, pod_uids: Collection[str]) -> tuple[Path, ...]:
        """Return the cgroups of a pod, usually one; none when it has none (yet)."""
        uids = [normal_uid(uid) for uid in pod_uids]
        return tuple(path for uid in uids for path in self._found.pods.get(uid, ()))


def _pods(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (UID, directory) of pods, and of containers that stand for theirs."""
    todo: list[tuple[Path, int, bool]] = [(root, 0, False)]
    while todo:
        directory, depth, below_kubepods = todo.pop()
        for name in _subdirectories(directory):
            path = directory / name
            both = container_with_pod_of(name)
            uid = both[0] if both else pod_of(name, below_kubepods=below_kubepods)
            if uid is not None:
                yield uid, path
            elif depth < _MAX_DEPTH:
                todo.append((path, depth + 1, below_kubepods or "kubepods" in name))


def _containers(pods: Mapping[str, tuple[Path, ...]]) -> Iterator[tuple[str, str, Path]]:
    """Yield (UID, container id, directory) of what is right below the pods."""
    for uid, directories in pods.items():
        for directory in directories:
            both = container_with_pod_of(directory.name)
            if both:
                yield uid, both[1], directory
                continue
            for name in _subdirectories(directory):
                container_id = container_of(name)
                if container_id is not None:
                    yield uid, container_id, directory / name


def _subdirectories(directory: Path) -> list[str]:
    # A cgroup can go at any time, and one that can't be read hides only what is below it.
    try:
        with os.scandir(directory) as entries:
            return [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:
        return []
