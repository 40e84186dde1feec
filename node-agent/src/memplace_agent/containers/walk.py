# SPDX-License-Identifier: Apache-2.0
"""One walk of the tree of cgroups: the pods of the node, and nothing that others made up.

Whoever may make cgroups can give them any name. So a name counts only where kubelet alone
makes names:

- A pod's cgroup is not looked into but for the names right below it: those the runtime made,
  what is below them belongs to a container. A pod in a container (kind in a pod) is that
  container's memory, and another cluster's pod.
- What does not belong to root was given to somebody (systemd: user@1000.service).
- Where the agent knows its own place, a container that it is not in is not looked into,
  whether or not it is a pod's. It is in all the containers that its node is in.

The walk goes level by level and ends after a number of directories, so that no tree, however
large or deep, keeps the agent.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memplace_agent.containers.names import container_with_pod_of, id_of, pod_of
from memplace_agent.containers.place import Place

# A node has some hundred units and up to a few hundred pods; at 15 us each.
MAX_DIRECTORIES = 20_000

# kind in a pod of kind has pods at level 12.
_MAX_DEPTH = 32

_GONE = (errno.ENOENT, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class PodGroup:
    """A pod's cgroup.

    Attributes:
        uid: Of the pod, with dashes.
        path: Its directory.
        is_home: It is where this node's kubelet has its pods, as far as known.
        containers: The names of the directories in it; "" for one that is a container itself.
    """

    uid: str
    path: Path
    is_home: bool
    containers: tuple[str, ...]


@dataclass(slots=True)
class Walk:
    """What a walk found.

    Attributes:
        pods: Their cgroups, by UID; usually one each.
        strays: Directories with a container's id in their name that are in no pod, by id.
        nurseries: Directories in which kubelet makes pods' cgroups, or may; the agent's own
            kubelet, where that is known.
        looked_at: How many directories were read.
        is_whole: Nothing was left out: neither for the bound nor for an error.
    """

    pods: dict[str, list[PodGroup]] = field(default_factory=dict)
    strays: dict[str, Path] = field(default_factory=dict)
    nurseries: dict[str, None] = field(default_factory=dict)
    looked_at: int = 0
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class _Todo:
    path: str
    depth: int
    below_kubepods: bool
    is_home: bool


def walk(root: Path, place: Place | None, *, limit: int = MAX_DIRECTORIES) -> Walk:
    """Walk the tree once.

    Args:
        root: Where it is mounted.
        place: The agent's own; None if it is not known.
        limit: How many directories are read at most.
    """
    found = Walk(is_whole=root.is_dir())
    way = frozenset(_prefixes(root, place.way)) if place else frozenset()
    home = str(root.joinpath(*place.home)) if place else ""
    todo = deque([_Todo(str(root), 0, below_kubepods=False, is_home=str(root) == home)])
    while todo:
        here = todo.popleft()
        if here.below_kubepods and (here.is_home or place is None):
            found.nurseries[here.path] = None
        for name in _names(here.path, found, limit):
            path = f"{here.path}/{name}"
            is_on_way = path in way
            uid = None if is_on_way else pod_of(name, below_kubepods=here.below_kubepods)
            if not is_on_way and not is_roots(path):
                continue
            if uid is not None:
                found.pods.setdefault(uid, []).append(_pod(uid, path, here, found, limit))
                if here.is_home or place is None:
                    found.nurseries[here.path] = None
                continue
            id_ = id_of(name)
            if id_ is not None and not is_on_way:
                found.strays.setdefault(id_, Path(path))
                if place is not None:
                    continue
            if here.depth >= _MAX_DEPTH:
                found.is_whole = False
                continue
            below = here.below_kubepods or "kubepods" in name
            todo.append(_Todo(path, here.depth + 1, below, here.is_home or path == home))
    return found


def _pod(uid: str, path: str, here: _Todo, found: Walk, limit: int) -> PodGroup:
    is_container = container_with_pod_of(path.rpartition("/")[2]) is not None
    names = ("",) if is_container else tuple(_names(path, found, limit))
    return PodGroup(uid, Path(path), here.is_home, names)


def _prefixes(root: Path, parts: tuple[str, ...]) -> Iterator[str]:
    for depth in range(1, len(parts) + 1):
        yield str(root.joinpath(*parts[:depth]))


def is_roots(path: str) -> bool:
    """Return whether a directory belongs to root; False when it is gone.

    Of root in the agent's user namespace: so is what a kubelet makes that runs in there.
    """
    try:
        return os.lstat(path).st_uid in (0, os.geteuid())
    except OSError:
        return False  # it is gone


def _names(directory: str, found: Walk, limit: int) -> list[str]:
    if found.looked_at >= limit:
        found.is_whole = False
        return []
    found.looked_at += 1
    try:
        with os.scandir(directory) as entries:
            return [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError as err:
        # A cgroup can go at any time; all else hides what is below.
        if err.errno not in _GONE:
            found.is_whole = False
        return []
