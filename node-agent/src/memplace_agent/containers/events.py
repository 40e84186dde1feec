# SPDX-License-Identifier: Apache-2.0
"""Containers' cgroups at the moment they are made.

The same evidence as for those that are there (`walk`, `names`): a cgroup named for a
container's id, right below one that is named for a pod's UID, where kubelet makes pods. The
directories in which pods appear are watched, and each pod's, whatever driver made it and
however deep it is nested.

What inotify lost (its queue is 16,384 events long) a walk finds. Nothing is watched before
`open` and after `close`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from memplace_agent.containers.names import (
    container_with_pod_of,
    id_of,
    is_qos,
    names_container,
    pod_of,
)
from memplace_agent.containers.place import Place
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.containers.walk import is_roots, walk
from memplace_agent.syscalls.inotify import Inotify

log = logging.getLogger(__name__)

# A node has 110 to 500 pods. The kernel keeps about 1 KiB for each watch.
MAX_WATCHES = 4096


@dataclass(frozen=True, slots=True)
class Born:
    """A container's cgroup that was not there before.

    Attributes:
        container_id: From its name.
        ref: Where it is, and of which pod.
        inode: Of the directory; one that was made later has a larger one.
    """

    container_id: str
    ref: CgroupRef
    inode: int


class CgroupEvents:
    """What is made in the tree of cgroups, from `open` on. For one thread.

    Example:
        >>> events = CgroupEvents(host.cgroup, find_place(host))
        >>> events.open()
        >>> for born in events.read(): ...   # when events.fileno() polls readable
    """

    def __init__(self, root: Path, place: Place | None, *, limit: int = MAX_WATCHES) -> None:
        self._root = root
        self._place = place
        self._limit = limit
        self._inotify: Inotify | None = None
        self._nurseries: set[str] = set()
        self._pods: dict[str, str] = {}
        # By parent and path, with its inode: one that is made anew at a path is another one.
        self._known: dict[str, dict[str, int]] = {}
        self._is_full = False

    @property
    def is_open(self) -> bool:
        """Whether anything is watched."""
        return self._inotify is not None

    def __len__(self) -> int:
        return len(self._inotify) if self._inotify else 0

    def fileno(self) -> int:
        """Return what polls readable when there is something to `read`."""
        assert self._inotify is not None
        return self._inotify.fileno()

    def open(self) -> None:
        """Begin: what is there by now is not told.

        Raises:
            OSError: inotify has no room for one more.
        """
        self._is_full = False
        for _ in self._walk():
            pass

    def close(self) -> None:
        """Watch nothing any more."""
        if self._inotify is not None:
            self._inotify.close()
        self._inotify = None
        self._nurseries, self._pods, self._known = set(), {}, {}

    def read(self) -> Iterator[Born]:
        """Yield the containers' cgroups that were made since the last time."""
        assert self._inotify is not None
        is_lost = False
        for made in self._inotify.read():
            if not made.parent:
                is_lost = True
            elif not made.name:
                self._forget(made.parent)
            else:
                yield from self._made(made.parent, made.name)
        if is_lost:
            log.warning("events of cgroups were lost; the tree is walked")
            yield from self._walk()

    def find(self, pod_uid: str, container_id: str) -> Born | None:
        """Return a container's cgroup by its pod and id, if that pod is watched; None without.

        It may be there before its event was read.
        """
        if id_of(container_id) != container_id:
            return None
        for path, uid in self._pods.items():
            for name in _names(path) if uid == pod_uid else ():
                if names_container(name, container_id):
                    return _born(self._root, f"{path}/{name}", pod_uid, container_id)
        for path in (path for siblings in self._known.values() for path in siblings):
            both = path.rpartition("/")[2]
            name = container_with_pod_of(both) or ""
            if names_container(name, container_id) and pod_of(both, below_kubepods=True) == pod_uid:
                return _born(self._root, path, pod_uid, container_id)
        return None

    def _made(self, parent: str, name: str) -> Iterator[Born]:
        path = f"{parent}/{name}"
        uid = self._pods.get(parent)
        if uid is not None:
            yield from self._container(path, name, uid)
        elif parent in self._nurseries and is_roots(path):
            pod = pod_of(name, below_kubepods=True)
            if pod is not None:
                yield from self._pod(path, name, pod)
            elif "kubepods" in name or is_qos(name):
                yield from self._nursery(path)

    def _nursery(self, path: str) -> Iterator[Born]:
        # Watched first, then read: what is made in between is seen twice, not missed.
        if self._watch(path):
            self._nurseries.add(path)
            for name in _names(path):
                yield from self._made(path, name)

    def _pod(self, path: str, name: str, uid: str) -> Iterator[Born]:
        container = container_with_pod_of(name)
        if container is not None:
            yield from self._container(path, container, uid)
        elif self._watch(path):
            self._pods[path] = uid
            for below in _names(path):
                yield from self._container(f"{path}/{below}", below, uid)

    def _container(self, path: str, name: str, uid: str) -> Iterator[Born]:
        container_id = id_of(name)
        if container_id is None or not names_container(name, container_id):
            return
        born = _born(self._root, path, uid, container_id)
        if born is None:
            return
        parent = path.rpartition("/")[0]
        siblings = self._known.get(parent, {})
        if siblings.get(path) != born.inode:
            there = {known: number for known, number in siblings.items() if _exists(known)}
            self._known[parent] = there | {path: born.inode}
            yield born

    def _walk(self) -> Iterator[Born]:
        # With watches anew: which of those before have ended may be lost as well.
        old, self._inotify = self._inotify, Inotify()
        if old is not None:
            old.close()
        self._nurseries, self._pods = set(), {}
        for path in walk(self._root, self._place).nurseries:
            yield from self._nursery(path)
        self._known = {path: known for path, known in self._known.items() if _exists(path)}

    def _forget(self, path: str) -> None:
        self._nurseries.discard(path)
        self._pods.pop(path, None)
        self._known.pop(path, None)

    def _watch(self, path: str) -> bool:
        assert self._inotify is not None
        if len(self._inotify) >= self._limit:
            self._say_full(f"{self._limit} directories are watched already")
            return False
        try:
            self._inotify.watch(path)
        except FileNotFoundError:
            return False
        except OSError as err:
            self._say_full(f"{err}")
            return False
        return True

    def _say_full(self, why: str) -> None:
        if not self._is_full:
            log.warning("new containers are found late only", extra={"error": why})
        self._is_full = True


def _born(root: Path, path: str, pod_uid: str, container_id: str) -> Born | None:
    try:
        inode = os.lstat(path).st_ino
    except OSError:
        return None  # it is gone
    return Born(container_id, CgroupRef(root, Path(path), pod_uid), inode)


def _names(directory: str) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def _exists(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  one call
