# SPDX-License-Identifier: Apache-2.0
"""Why a container that runs, says the API, has no process on this node.

For a while that is normal: its cgroup is being made. Then it is not, and waiting mends
nothing: the node has cgroup v1, the runtime keeps the program in a virtual machine or behind
a kernel of its own, or kubelet makes its cgroups where no pod can be told from another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from memplace.reasons import Reason

from memplace_agent.containers.index import Hierarchy
from memplace_agent.containers.members import read_pids
from memplace_agent.containers.names import container_of
from memplace_agent.errors import ProcessGone
from memplace_agent.hostfs import HostFs, read_proc

__all__ = ["Absence", "Absences", "Sighting", "sandbox_pids", "sandbox_program"]

# A runtime makes the cgroup within a second; kubelet writes the status after that.
GRACE_S = 30.0

# Bounds the look for a sandbox: its own processes come first in a cgroup.
_MAX_PIDS = 64

# The first letters of comm, which the kernel cuts at 15.
_PROGRAMS = {
    "runsc": "gVisor",
    "qemu-": "a virtual machine (QEMU)",
    "cloud-hyperviso": "a virtual machine (Cloud Hypervisor)",
    "firecracker": "a virtual machine (Firecracker)",
    "stratovirt": "a virtual machine (StratoVirt)",
}

# Paths of mappings; vCPUs of KVM are mapped by whichever program runs the machine.
_MAPPINGS = {
    "/memfd:runsc-memory": "gVisor",
    "/memfd:ch_ram": "a virtual machine (Cloud Hypervisor)",
    "anon_inode:kvm-vcpu": "a virtual machine (KVM)",
}


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
        has_processes: Whether its cgroup, or one below, has any.
        pod_has_cgroup: Whether the pod has a cgroup.
        sandbox: What the pod's other processes are, of `sandbox_program`; "" for nothing known.
        runtime_class: The pod's runtimeClassName; "" for none.
    """

    hierarchy: Hierarchy
    has_processes: bool
    pod_has_cgroup: bool = False
    sandbox: str = ""
    runtime_class: str = ""


class Absences:
    """Since when containers have had no process; the clock is the caller's.

    Example:
        >>> absences = Absences()
        >>> seen = Sighting(hierarchy=Hierarchy.UNIFIED, has_processes=False)
        >>> absences.judge("c0ffee", seen, now=0.0).reason
        <Reason.PENDING: 'Pending'>
        >>> absences.judge("c0ffee", seen, now=30.0).reason
        <Reason.CGROUP_NOT_FOUND: 'CgroupNotFound'>
    """

    def __init__(self, *, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._since: dict[str, float] = {}

    def judge(self, container_id: str, seen: Sighting, now: float) -> Absence | None:
        """Return why a container has no process here; None when it has.

        Args:
            container_id: Which.
            seen: What the look found.
            now: Seconds of a clock that only goes forward.
        """
        if seen.has_processes:
            self._since.pop(container_id, None)
            return None
        since = self._since.setdefault(container_id, now)
        return _judge(seen, is_late=now - since >= self._grace_s)

    def keep(self, container_ids: Collection[str]) -> None:
        """Forget all containers but these."""
        self._since = {id_: at for id_, at in self._since.items() if id_ in container_ids}


def _judge(seen: Sighting, *, is_late: bool) -> Absence:
    if seen.hierarchy is not Hierarchy.UNIFIED:
        return Absence(
            Reason.UNSUPPORTED_CGROUP,
            f"the node uses cgroup {seen.hierarchy.value}: boot it with cgroup v2 "
            "(systemd.unified_cgroup_hierarchy=1)",
        )
    if seen.sandbox:
        return _sandboxed(seen, f"the pod runs in {seen.sandbox}")
    if not is_late:
        return Absence(Reason.PENDING, "the container has no process on this node yet")
    if seen.pod_has_cgroup:
        return _sandboxed(seen, "none of the container's processes is in its cgroup on this node")
    return Absence(
        Reason.CGROUP_NOT_FOUND,
        "the pod has no cgroup of its own on this node: kubelet needs --cgroups-per-qos, and "
        "the agent the whole tree of /sys/fs/cgroup",
    )


def _sandboxed(seen: Sighting, what: str) -> Absence:
    runtime = f" (runtimeClassName {seen.runtime_class})" if seen.runtime_class else ""
    text = f"{what}{runtime}: its memory can't be placed from outside"
    return Absence(Reason.SANDBOXED_RUNTIME, text)


def sandbox_pids(pods: Iterable[Path], app_ids: Collection[str]) -> frozenset[int]:
    """Return the processes of a pod that are in none of its containers' cgroups.

    Those are what the runtime runs for the pod: pause, or what takes its place.

    Args:
        pods: The pod's cgroups, of `CgroupIndex.pod_directories`.
        app_ids: Its containers, of the pod's status; a program in there that looks like a
            sandbox is the user's own (KubeVirt's QEMU).
    """
    found: set[int] = set()
    for pod in pods:
        own = {container_of(path.name): path for path in _children(pod)}
        apps = (read_pids(path) for id_, path in own.items() if id_ in app_ids)
        found |= read_pids(pod).difference(*apps)
    return frozenset(found)


def sandbox_program(host: HostFs, pids: Iterable[int]) -> str:
    """Return what sandbox some processes are, in words; "" when they are none that is known."""
    for pid in sorted(pids)[:_MAX_PIDS]:
        try:
            found = _program(host.pid(pid))
        except (ProcessGone, PermissionError):
            continue
        if found:
            return found
    return ""


def _program(directory: Path) -> str:
    comm = _read(directory / "comm")
    by_name = (text for start, text in _PROGRAMS.items() if comm.startswith(start))
    found = next(by_name, "")
    if found:
        return found
    maps = _read(directory / "maps")
    return next((text for path, text in _MAPPINGS.items() if path in maps), "")


def _read(path: Path) -> str:
    try:
        return read_proc(path)
    except ProcessGone:
        return ""


def _children(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.is_dir()]
    except OSError:
        return []
