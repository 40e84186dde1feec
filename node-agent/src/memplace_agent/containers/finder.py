# SPDX-License-Identifier: Apache-2.0
"""Find the cgroups of containers, or say why one has none; walks the tree no more than needed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from memplace.claims import Claim
from memplace.pods import PodState

from memplace_agent.containers.absence import Absence, Absences, Sighting
from memplace_agent.containers.index import CgroupIndex, has_memory
from memplace_agent.containers.members import is_populated
from memplace_agent.containers.names import normal_uid
from memplace_agent.containers.place import find_place
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.containers.sandbox import (
    Guard,
    at_once,
    program_names,
    sandbox_pids,
    sandbox_program,
)
from memplace_agent.containers.walk import PodGroup
from memplace_agent.hostfs import HostFs

log = logging.getLogger(__name__)

# Who is not there is looked for that often, however many there are; in a tree that is large,
# as seldom as keeps walks at 1 % of a core.
_WALK_AGAIN_S = 0.5
_WALK_AGAIN_AT_LAST_S = 30.0
_REST = 99.0

_MAX_SHOWN = 240


class Finder:
    """The index of a node's cgroups, read again when it may be old.

    `told` is for any thread, all else is for one.
    """

    def __init__(
        self,
        host: HostFs,
        clock: Callable[[], float],
        cost: Callable[[], float] = time.perf_counter,
        guard: Guard = at_once,
    ) -> None:
        self._host = host
        self._guard = guard
        self._clock = clock
        self._cost = cost
        self._index: CgroupIndex | None = None
        self._absences = Absences()
        self._walk_at = float("-inf")
        self._told: dict[str, CgroupRef] = {}

    def find(self, container_id: str, pod: PodState) -> CgroupRef | None:
        """Return the cgroup of a container of a pod; None when there is none (yet)."""
        ref = self._tree.find(container_id, pod.cgroup_uids)
        if ref is not None and ref.path.is_dir() and self._tree.is_near(ref):
            return ref
        self._walk()
        ref = self._tree.find(container_id, pod.cgroup_uids)
        told = self._since_the_walk(container_id)
        is_its = told and told.pod_uid in map(normal_uid, pod.cgroup_uids)
        return told if ref is None and is_its else ref

    def refs(self, container_id: str) -> tuple[CgroupRef, ...]:
        """Return the cgroups of a container whose pod may be gone from the API."""
        self._walk()
        refs, told = self._tree.refs(container_id), self._since_the_walk(container_id)
        return (*refs, told) if told and all(ref.path != told.path for ref in refs) else refs

    def told(self, container_id: str, ref: CgroupRef) -> None:
        """Take the news where a container is: the last walk may be older than it."""
        self._told[container_id] = ref

    def look_again(self) -> None:
        """Walk at the next question: what was not there at the last walk may be by now."""
        self._walk_at = float("-inf")

    def refs_of(self, claim: Claim) -> tuple[CgroupRef, ...]:
        """Return the cgroups of a claim's container, or of its process's pod."""
        process = claim.process
        return self.refs_of_pod(process.pod) if process else self.refs(claim.container)

    def refs_of_pod(self, pod_uid: str) -> tuple[CgroupRef, ...]:
        """Return the cgroups of all containers of a pod, its sandbox's too."""
        self._walk()
        refs, uid = self._tree.refs_of_pod(pod_uid), normal_uid(pod_uid)
        known = {ref.path for ref in refs}
        # A pod that is younger than the walk is no pod that is gone: its shim would lose all.
        told = (ref for ref in tuple(self._told.values()) if ref.pod_uid == uid)
        return (*refs, *(ref for ref in told if ref.path not in known and ref.path.is_dir()))

    @property
    def is_whole(self) -> bool:
        """Whether the last walk left nothing out: only then is gone what it did not find."""
        return self._tree.walk.is_whole

    def is_populated(self, refs: Iterable[CgroupRef]) -> bool | None:
        """Return whether anybody is in any of a container's cgroups, of `refs`.

        None when that is not known: the container may be where the walk did not come.
        """
        if any(is_populated(ref.path) for ref in refs):
            return True
        return False if self.is_whole else None

    def seen(self, container_id: str) -> None:
        """Take the news that a container has processes."""
        self._absences.seen(container_id)

    def absence(
        self,
        container_id: str,
        pod: PodState,
        ref: CgroupRef | None,
        *,
        has_unseen: bool = False,
    ) -> Absence:
        """Say why a container that runs, says the API, has no process here.

        Args:
            container_id: Which.
            pod: Its pod.
            ref: Its cgroup, if that is there.
            has_unseen: Somebody is in the cgroup, but could not be looked at.
        """
        self._walk()  # a better one may be there by now
        tree = self._tree
        groups = tree.pod_groups(pod.cgroup_uids)
        pids = sandbox_pids(groups, tree.walk.strays, tuple(pod.container_ids.values()))
        sighting = Sighting(
            hierarchy=tree.hierarchy,
            has_unseen=has_unseen,
            has_memory=has_memory(self._host.cgroup),
            pod_has_cgroup=bool(groups),
            has_cgroups=any(group.containers for group in groups),
            sandbox=sandbox_program(self._host, pids, pod.ref.namespace, self._guard) or "",
            others=program_names(self._host, pids),
            runtime_class=pod.runtime_class,
            where=self._where(container_id, pod, ref, groups),
        )
        return self._absences.judge(container_id, sighting, self._clock())

    def keep(self, container_ids: Collection[str]) -> None:
        """Forget all containers but these."""
        self._absences.keep(container_ids)

    @property
    def _tree(self) -> CgroupIndex:
        if self._index is None:
            place = find_place(self._host)
            self._index = CgroupIndex(self._host.cgroup, place)
            log.info("place in the tree of cgroups", extra={"way": place and "/".join(place.way)})
        return self._index

    def _walk(self) -> None:
        now = self._clock()
        if now < self._walk_at:
            return
        begin = self._cost()
        before = tuple(self._told.items())
        self._tree.refresh()
        for container_id, ref in before:
            if self.is_whole or not ref.path.is_dir():
                self._told.pop(container_id, None)
        rest = max(_WALK_AGAIN_S, (self._cost() - begin) * _REST)
        self._walk_at = now + min(rest, _WALK_AGAIN_AT_LAST_S)

    def _since_the_walk(self, container_id: str) -> CgroupRef | None:
        ref = self._told.get(container_id)
        return ref if ref is not None and ref.path.is_dir() else None

    def _where(
        self, container_id: str, pod: PodState, ref: CgroupRef | None, groups: list[PodGroup]
    ) -> str:
        if ref is not None:
            return f"nobody is in {self._shown(ref.path)}"
        if groups:
            names = sorted(name[:100] for group in groups for name in group.containers if name)
            paths = " or ".join(self._shown(group.path) for group in groups[:2])
            there = f"only {', '.join(names[:3])}" if names else "which is empty"
            return f"no cgroup of {container_id} is in {paths}, {there}"
        walk, root = self._tree.walk, self._host.cgroup
        uids = " or ".join(sorted(pod.cgroup_uids))
        text = f"none of {walk.looked_at} directories of {root} is named for pod {uids}"
        stray = walk.strays.get(container_id)
        if stray is not None:
            text += f"; its id is at {self._shown(stray)}, which is in no pod's"
        return text if walk.is_whole else f"{text}, and not all could be read"

    def _shown(self, path: Path) -> str:
        # A message has room for 1,024 characters; the end tells more than the beginning.
        text = f"/{path.relative_to(self._host.cgroup)}"
        return text if len(text) <= _MAX_SHOWN else f"…{text[-_MAX_SHOWN:]}"
