# SPDX-License-Identifier: Apache-2.0
"""Whether a pod runs in a virtual machine or behind a kernel of its own, from its processes.

What a runtime runs for a pod beside the user's programs is usually `pause`. A sandboxed runtime
runs the sandbox there instead, or the shim that talks to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from memplace.errors import ProcessGone

from memplace_agent.containers.members import known_pids
from memplace_agent.containers.names import id_of, names_container
from memplace_agent.containers.walk import PodGroup
from memplace_agent.hostfs import HostFs, read_proc

# Bounds the look for a sandbox: its own processes come first in a cgroup.
_MAX_PIDS = 64

# How names begin: of argv[0] without its directory, and comm, which the kernel cuts at 15.
# gVisor names itself there, since its comm may be "exe".
# Source: google/gvisor runsc/container/container.go, createGoferProcess;
# kata-containers docs/design/architecture, "Process overview".
_PROGRAMS = {
    "runsc": "gVisor",
    "gvisor_sentry": "gVisor",
    "containerd-shim-runsc": "gVisor",
    "containerd-shim-kata": "a virtual machine (Kata Containers)",
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

# A shim says less than the machine beside it.
_VAGUE = "a virtual machine (Kata Containers)"


def sandbox_pids(
    groups: Iterable[PodGroup], strays: Mapping[str, Path], app_ids: Collection[str]
) -> frozenset[int]:
    """Return the processes of a pod that are in none of its containers' cgroups.

    Those are what the runtime runs for the pod: pause, or what takes its place.

    Args:
        groups: The pod's cgroups.
        strays: Cgroups outside of pods, by id: Kata may keep a pod's machine in
            /kata_overhead/ID, with the id of the pod's sandbox.
        app_ids: The pod's containers, of its status; a program in there that looks like a
            sandbox is the user's own (KubeVirt's QEMU).
    """
    found: set[int] = set()
    for group in groups:
        names = [name or group.path.name for name in group.containers]
        others = [name for name in names if not any(names_container(name, i) for i in app_ids)]
        if group.containers == ("",):
            found |= known_pids(group.path) if others else frozenset()
        else:
            found |= known_pids(group.path, 1)
            found.update(*(known_pids(group.path / name) for name in others))
        ids = {id_of(name) for name in others}.difference(app_ids)
        found.update(*(known_pids(path) for id_, path in strays.items() if id_ in ids))
    return frozenset(found)


def sandbox_program(host: HostFs, pids: Iterable[int]) -> str:
    """Return what sandbox some processes are, in words; "" when they are none that is known."""
    vague = ""
    for pid in sorted(pids)[:_MAX_PIDS]:
        found = _program(host.pid(pid))
        if found and found != _VAGUE:
            return found
        vague = vague or found
    return vague


def program_names(host: HostFs, pids: Iterable[int]) -> frozenset[str]:
    """Return the names (comm) of some processes; those that have ended are left out."""
    names = (_read(host.pid(pid) / "comm").strip() for pid in sorted(pids)[:_MAX_PIDS])
    return frozenset(name for name in names if name)


def _program(directory: Path) -> str:
    argv0 = _read(directory / "cmdline").split("\0", 1)[0].rpartition("/")[2]
    for name in (argv0, _read(directory / "comm")):
        by_name = (text for start, text in _PROGRAMS.items() if name.startswith(start))
        found = next(by_name, "")
        if found:
            return found
    maps = _read(directory / "maps")
    return next((text for path, text in _MAPPINGS.items() if path in maps), "")


def _read(path: Path) -> str:
    try:
        return read_proc(path)
    except (ProcessGone, PermissionError):
        return ""
