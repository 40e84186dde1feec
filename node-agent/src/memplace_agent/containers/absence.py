# SPDX-License-Identifier: Apache-2.0
"""Why a container that runs, says the API, has no process on this node.

For a while that is normal: its cgroup is being made. Then it is not, and waiting mends
nothing: the node has cgroup v1, the runtime keeps the program in a virtual machine or behind
a kernel of its own, or there is no cgroup that anything says is the container's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from memplace.reasons import Reason

from memplace_agent.containers.index import Hierarchy

# A runtime makes the cgroup within a second; kubelet writes the status after that.
GRACE_S = 30.0

# What runs for the pods of runtimes that are no sandbox: k8s.io/kubernetes build/pause, and the
# monitor of CRI-O.
_NO_SANDBOX = frozenset({"pause", "conmon"})

_UNSEEN = (
    "no process in the container's cgroup can be looked at: all end at once, or the agent does "
    "not see them; it needs hostPID and the node's own /proc"
)

_WITHOUT_V2 = (
    "the node has no cgroup v2 for its containers ({}): boot it with "
    "systemd.unified_cgroup_hierarchy=1, or without systemd with cgroup_no_v1=all"
)


@dataclass(frozen=True, slots=True)
class Absence:
    """The reason for a report, and its message, one line that says what can be done."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What one look found of a container that the API calls running.

    Attributes:
        hierarchy: Of the node.
        has_unseen: Whether somebody is in its cgroup, who could not be looked at.
        has_memory: Whether v2 has the controller memory.
        pod_has_cgroup: Whether the pod has a cgroup.
        has_cgroups: Whether the container, or the sandbox of its pod, has one.
        sandbox: What the pod's other processes are, of `sandbox_program`; "" for nothing known.
        others: The names of the pod's other processes.
        runtime_class: The pod's runtimeClassName; "" for none.
        where: What was looked for, and where, in words.
    """

    hierarchy: Hierarchy
    has_unseen: bool = False
    has_memory: bool = True
    pod_has_cgroup: bool = False
    has_cgroups: bool = False
    sandbox: str = ""
    others: frozenset[str] = frozenset()
    runtime_class: str = ""
    where: str = "no cgroup of the pod"


class Absences:
    """Since when containers have had no process; the clock is the caller's.

    Example:
        >>> absences = Absences()
        >>> seen = Sighting(hierarchy=Hierarchy.UNIFIED)
        >>> absences.judge("c0ffee", seen, now=0.0).reason
        <Reason.PENDING: 'Pending'>
        >>> absences.judge("c0ffee", seen, now=30.0).reason
        <Reason.CGROUP_NOT_FOUND: 'CgroupNotFound'>
    """

    def __init__(self, *, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._since: dict[str, float] = {}

    def judge(self, container_id: str, seen: Sighting, now: float) -> Absence:
        """Return why a container has no process here.

        Args:
            container_id: Which.
            seen: What the look found.
            now: Seconds of a clock that only goes forward.
        """
        since = self._since.setdefault(container_id, now)
        return _judge(seen, is_late=now - since >= self._grace_s)

    def seen(self, container_id: str) -> None:
        """Take the news that a container has processes: the time starts anew without."""
        self._since.pop(container_id, None)

    def keep(self, container_ids: Collection[str]) -> None:
        """Forget all containers but these."""
        self._since = {id_: at for id_, at in self._since.items() if id_ in container_ids}


def _judge(seen: Sighting, *, is_late: bool) -> Absence:
    if seen.hierarchy is not Hierarchy.UNIFIED:
        text = _WITHOUT_V2.format(f"cgroup {seen.hierarchy.value}")
        return Absence(Reason.UNSUPPORTED_CGROUP, text)
    if seen.sandbox and not seen.has_unseen:
        return _sandboxed(seen, f"the pod runs in {seen.sandbox}")
    if not is_late:
        return Absence(Reason.PENDING, "the container has no process on this node yet")
    if seen.has_unseen:
        return Absence(Reason.FAILED, _UNSEEN)
    if not seen.has_memory:
        text = _WITHOUT_V2.format("v2 is mounted, but lacks the controller memory")
        return Absence(Reason.UNSUPPORTED_CGROUP, text)
    what = f"the container has no process: {seen.where}"
    programs = sorted(seen.others)[:3]
    if programs and not seen.others & _NO_SANDBOX:
        return _sandboxed(seen, f"{what}, and for the pod runs {', '.join(programs)}")
    if seen.runtime_class or (seen.has_cgroups and not programs):
        return _sandboxed(seen, what)
    help_ = (
        ""
        if seen.pod_has_cgroup
        else ("; kubelet needs --cgroups-per-qos, and the agent the whole tree of /sys/fs/cgroup")
    )
    return Absence(Reason.CGROUP_NOT_FOUND, what + help_)


def _sandboxed(seen: Sighting, what: str) -> Absence:
    runtime = f" (runtimeClassName {seen.runtime_class})" if seen.runtime_class else ""
    text = f"{what}{runtime}: its memory can't be placed from outside"
    return Absence(Reason.SANDBOXED_RUNTIME, text)
