# SPDX-License-Identifier: Apache-2.0
"""Find the cgroup of a container, its processes and the NUMA nodes it may use."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from memplace.nodes import NodeSet, parse_nodes

__all__ = ["Cgroups"]


class Cgroups:
    """The unified cgroup tree of the host.

    Finding a container walks the tree of all pods, so what was found is remembered until
    its directory is gone; ids are never used twice.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, Path] = {}

    def find(self, container_id: str) -> Path | None:
        """Return the cgroup directory of a container, None when it has none (any more).

        Knows the names that containerd, CRI-O and cri-dockerd give with the systemd driver
        (a scope) and with the cgroupfs driver (the id alone).
        """
        known = self._known.get(container_id)
        if known is not None and known.is_dir():
            return known
        self._known.pop(container_id, None)
        names = _directory_names(container_id)
        found = next((path for path in self._pod_tree() if path.name in names), None)
        if found is not None:
            self._known[container_id] = found
        return found

    def _pod_tree(self) -> Iterator[Path]:
        # kubepods.slice, kubepods, or kubelet.slice with either below it.
        try:
            tops = [entry for entry in self._root.iterdir() if entry.name.startswith("kube")]
        except FileNotFoundError:
            return
        for top in sorted(tops):
            for directory, below, _files in os.walk(top):
                yield from (Path(directory) / name for name in below)

    def pids(self, cgroup: Path) -> frozenset[int]:
        """Return the processes in a cgroup and all below it; empty when it is gone.

        They may end, and their ids be taken by others, as soon as this has returned.
        """
        return frozenset(
            pid for directory, _, _ in os.walk(cgroup) for pid in _procs(Path(directory))
        )

    def allowed_nodes(self, cgroup: Path) -> NodeSet | None:
        """Return cpuset.mems.effective of a cgroup; None when there is no cpuset controller.

        A cgroup without the controller is bounded by the nearest one above that has it.

        Source: linux ``Documentation/admin-guide/cgroup-v2.rst``, "Cpuset Interface Files".
        """
        for directory in (cgroup, *cgroup.parents):
            try:
                text = (directory / "cpuset.mems.effective").read_text()
            except (FileNotFoundError, OSError):
                text = ""
            if text.strip():
                return parse_nodes(text)
            if directory == self._root:
                break
        return None


def _directory_names(container_id: str) -> frozenset[str]:
    scopes = (f"{prefix}-{container_id}.scope" for prefix in ("cri-containerd", "crio", "docker"))
    return frozenset({container_id, f"crio-{container_id}", *scopes})


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
