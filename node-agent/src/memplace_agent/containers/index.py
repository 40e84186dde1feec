# SPDX-License-Identifier: Apache-2.0
"""All containers' cgroups of a node, by pod UID and container id, as of one walk of the tree.

Which container it is the API says: the UID of its pod, and the id that the runtime gave it.
A cgroup is that container's if its name has the id and it is right below a cgroup whose name
has the UID (see `walk`). Of several, the one below the agent's own kubelet is it, then one that
has processes, then the outermost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from pathlib import Path

from memplace_agent.containers.members import is_populated
from memplace_agent.containers.names import container_with_pod_of, names_container, normal_uid
from memplace_agent.containers.place import Place
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.containers.walk import PodGroup, Walk, walk

# Of cgroup v1, each is a mount of its own below /sys/fs/cgroup.
_V1_CONTROLLERS = ("cpuset", "memory", "cpu", "cpu,cpuacct", "cpuacct", "devices", "freezer")


class Hierarchy(StrEnum):
    """What kind of cgroup tree a node has."""

    UNIFIED = "v2"
    HYBRID = "hybrid"
    LEGACY = "v1"


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


def has_memory(root: Path) -> bool:
    """Return whether v2 has the controller memory, or that can't be read.

    If not, it may be one of v1, mounted elsewhere, and containers are in the tree of v1.
    """
    try:
        return "memory" in (root / "cgroup.controllers").read_text().split()
    except OSError:
        return True


class CgroupIndex:
    """The containers and pods that have a cgroup, as of the last `refresh`.

    Refresh once per pass, or when a container is asked for that is not there yet; nothing
    else here walks the tree. What is gone is forgotten by the next refresh. Reading it from
    other threads is safe at any time: a refresh puts a new table in place of the old.

    Example:
        >>> index = CgroupIndex(host.cgroup, find_place(host))
        >>> index.refresh()
        >>> ref = index.find(container_id, {pod.uid})
        >>> pids = read_members(ref)
    """

    def __init__(self, root: Path, place: Place | None = None) -> None:
        self.root = root
        self._place = place
        self._hierarchy = Hierarchy.UNIFIED
        self._walk = Walk()

    @property
    def hierarchy(self) -> Hierarchy:
        """The kind of tree; nothing is ever found in one that is not v2."""
        return self._hierarchy

    @property
    def walk(self) -> Walk:
        """What the last refresh found."""
        return self._walk

    def __len__(self) -> int:
        return sum(len(group.containers) for group in self._groups())

    def refresh(self) -> None:
        """Walk the tree once."""
        hierarchy = read_hierarchy(self.root)
        is_unified = hierarchy is Hierarchy.UNIFIED
        self._walk = walk(self.root, self._place) if is_unified else Walk()
        self._hierarchy = hierarchy

    def find(self, container_id: str, pod_uids: Collection[str]) -> CgroupRef | None:
        """Return the cgroup of a container of a pod; None when there is none.

        Args:
            container_id: Of the pod's status, without the scheme.
            pod_uids: The pod's UID; for a static pod also the one in its annotation
                kubernetes.io/config.hash, which its cgroup is named for.
        """
        found = list(self._named(container_id, self.pod_groups(pod_uids)))
        if not found:
            return None
        group, path = found[0] if len(found) == 1 else min(found, key=_rank)
        return CgroupRef(self.root, path, group.uid)

    def is_near(self, ref: CgroupRef) -> bool:
        """Return whether a cgroup is where the agent's own kubelet has its pods, if known."""
        home = self._place.home if self._place else ()
        return ref.parts[: len(home)] == home

    def refs(self, container_id: str) -> tuple[CgroupRef, ...]:
        """Return the cgroups of a container, whatever pod they are in; usually one or none.

        For giving back what was done: the pod may be gone from the API by then.
        """
        found = self._named(container_id, self._groups())
        return tuple(CgroupRef(self.root, path, group.uid) for group, path in found)

    def refs_of_pod(self, pod_uid: str) -> tuple[CgroupRef, ...]:
        """Return the cgroups in a pod's, whatever they are."""
        return tuple(
            CgroupRef(self.root, group.path / name, group.uid)
            for group in self.pod_groups((pod_uid,))
            for name in group.containers
        )

    def pod_groups(self, pod_uids: Collection[str]) -> list[PodGroup]:
        """Return the cgroups of a pod, usually one; none when it has none (yet)."""
        pods = self._walk.pods
        return [group for uid in sorted(pod_uids) for group in pods.get(normal_uid(uid), ())]

    @staticmethod
    def _named(container_id: str, groups: Iterable[PodGroup]) -> Iterator[tuple[PodGroup, Path]]:
        for group in groups:
            path = _path(group, container_id)
            if path is not None:
                yield group, path

    def _groups(self) -> Iterator[PodGroup]:
        for groups in self._walk.pods.values():
            yield from groups


def _path(group: PodGroup, container_id: str) -> Path | None:
    """Return the directory of a container in a pod's; of two such names the plainer."""
    if group.containers == ("",):
        rest = container_with_pod_of(group.path.name) or ""
        return group.path if names_container(rest, container_id) else None
    names = [name for name in group.containers if names_container(name, container_id)]
    return group.path / min(names, key=len) if names else None


def _rank(found: tuple[PodGroup, Path]) -> tuple[bool, bool, int, str]:
    group, path = found
    return (not group.is_home, not is_populated(path), len(path.parts), str(path))
