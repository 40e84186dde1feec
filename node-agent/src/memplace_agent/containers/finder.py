# SPDX-License-Identifier: Apache-2.0
"""Find the cgroups of containers, or say why one has none; walks the tree no more than needed."""

from __future__ import annotations

from collections.abc import Callable, Collection

from memplace.pods import PodState

from memplace_agent.containers.absence import (
    Absence,
    Absences,
    Sighting,
    sandbox_pids,
    sandbox_program,
)
from memplace_agent.containers.index import CgroupIndex, CgroupRef
from memplace_agent.hostfs import HostFs

__all__ = ["Finder"]

# Who is not there is looked for that often, however many there are.
_WALK_AGAIN_S = 0.5


class Finder:
    """The index of a node's cgroups, read again when it may be old. For one thread."""

    def __init__(self, host: HostFs, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self._index = CgroupIndex(host.cgroup)
        self._absences = Absences()
        self._walked_at = float("-inf")

    def find(self, container_id: str, pod: PodState) -> CgroupRef | None:
        """Return the cgroup of a container of a pod; None when there is none (yet)."""
        ref = self._index.find(container_id, pod.cgroup_uids)
        if ref is not None and ref.path.is_dir():
            return ref
        self._walk()
        return self._index.find(container_id, pod.cgroup_uids)

    def refs(self, container_id: str) -> tuple[CgroupRef, ...]:
        """Return the cgroups of a container whose pod may be gone from the API."""
        self._walk()
        return self._index.refs(container_id)

    def absence(self, container_id: str, pod: PodState, ref: CgroupRef | None) -> Absence:
        """Say why a container that runs, says the API, has no process here.

        Args:
            container_id: Which.
            pod: Its pod.
            ref: Its cgroup, if that is there.
        """
        directories = self._index.pod_directories(pod.cgroup_uids)
        pids = sandbox_pids(directories, tuple(pod.container_ids.values()))
        sighting = Sighting(
            hierarchy=self._index.hierarchy,
            has_processes=False,
            pod_has_cgroup=bool(directories),
            sandbox=sandbox_program(self._host, pids) if ref is None else "",
            runtime_class=pod.runtime_class,
        )
        absence = self._absences.judge(container_id, sighting, self._clock())
        assert absence is not None  # it has no processes
        return absence

    def keep(self, container_ids: Collection[str]) -> None:
        """Forget all containers but these."""
        self._absences.keep(container_ids)

    def _walk(self) -> None:
        now = self._clock()
        if now - self._walked_at >= _WALK_AGAIN_S:
            self._walked_at = now
            self._index.refresh()
