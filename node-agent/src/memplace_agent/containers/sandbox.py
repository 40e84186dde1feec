# SPDX-License-Identifier: Apache-2.0
"""Whether a pod runs in a virtual machine or behind a kernel of its own, from its processes.

What a runtime runs for a pod beside the user's programs is usually `pause`. A sandboxed runtime
runs the sandbox there instead, or the shim that talks to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

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

# Reads a process of a namespace; None if it does not let itself be read in time.
Guard = Callable[[int, str, Callable[[], str]], str | None]

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


def at_once(pid: int, group: str, read: Callable[[], str]) -> str | None:
    """Read a process as a `Guard` does, and wait for as long as it takes."""
    del pid, group
    return read()


def sandbox_program(
    host: HostFs, pids: Iterable[int], group: str = "", guard: Guard = at_once
) -> str | None:
    """Return what sandbox some processes are, in words; "" when they are none that is known.

    None when nobody knows: one of them did not let itself be read.

    Args:
        host: Where /proc is.
        pids: The processes.
        group: The namespace of their pod.
        guard: Reads them: cmdline and maps wait for who holds the address space.
    """
    vague, is_known = "", True
    for pid in sorted(pids)[:_MAX_PIDS]:
        found = guard(pid, group, partial(_program, host.pid(pid)))
        if found and found != _VAGUE:
            return found
        vague = vague or found or ""
        is_known &= found is not None
    return vague or ("" if is_known else None)


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
    except OSError:  # it is gone, or not to be read
        return ""
