# SPDX-License-Identifier: Apache-2.0
"""What the names of cgroups say: which pod, which container; pure.

============================  ======================================================
systemd driver, pod           [ROOT-]kubepods[-QOS]-podUID.slice, with _ for - in UID
systemd driver, container     cri-containerd-ID.scope, crio-ID.scope, docker-ID.scope
cgroupfs driver, pod          podUID somewhere below kubepods
cgroupfs driver, container    ID, crio-ID
kubelet systemd, runtime not  kubepods-…-podUID.slice:cri-containerd:ID, in one name
============================  ======================================================

Sources: kubernetes ``pkg/kubelet/cm/cgroup_manager_linux.go`` and
``pod_container_manager_linux.go``; containerd ``internal/cri/server/helpers.go``; cri-o
``internal/config/cgmgr``; kubernetes/kubernetes#106514 for the last line.
"""

from __future__ import annotations

import re

__all__ = ["container_of", "container_with_pod_of", "normal_uid", "pod_of"]

_UID = r"(?P<uid>[0-9A-Za-z]+(?:[-_][0-9A-Za-z]+)*)"
_POD_SLICE = rf"(?:.+-)?kubepods(?:-burstable|-besteffort)?-pod{_UID}\.slice"
_ID = r"(?P<id>[0-9a-f]{64})"

_SLICE = re.compile(_POD_SLICE, re.ASCII)
_PLAIN = re.compile(rf"pod{_UID}", re.ASCII)
# Any prefix, so that a runtime nobody knew of is found; what counts is whose slice it is in.
_CONTAINER = re.compile(rf"(?:(?P<prefix>[a-z][a-z0-9-]*)-)?{_ID}(?P<unit>\.scope)?", re.ASCII)
_BOTH = re.compile(rf"{_POD_SLICE}:[a-z0-9-]+:{_ID}", re.ASCII)


def pod_of(name: str, *, below_kubepods: bool) -> str | None:
    """Return the UID of the pod whose cgroup has this name, None for another cgroup.

    Args:
        name: Of the directory.
        below_kubepods: Whether one above it is kubelet's for pods; the cgroupfs driver's
            ``podUID`` means something only there.
    """
    match = _SLICE.fullmatch(name) or (_PLAIN.fullmatch(name) if below_kubepods else None)
    return normal_uid(match["uid"]) if match else None


def container_of(name: str) -> str | None:
    """Return the id of the container whose cgroup has this name, 64 hex digits, or None.

    CRI-O's monitor of a container has a cgroup beside it, ``crio-conmon-ID.scope``; a virtual
    machine of Kata's may have one, ``kata_ID``: neither is the container.
    """
    match = _CONTAINER.fullmatch(name)
    if match is None or (match["prefix"] or "").endswith("conmon"):
        return None
    return match["id"]


def container_with_pod_of(name: str) -> tuple[str, str] | None:
    """Return (pod UID, container id) of a name that has both, or None.

    The systemd form of a path, taken literally by a runtime with the cgroupfs driver.
    """
    match = _BOTH.fullmatch(name)
    return (normal_uid(match["uid"]), match["id"]) if match else None


def normal_uid(uid: str) -> str:
    """Return a pod's UID in one form, whichever driver wrote it: with dashes."""
    return uid.replace("_", "-")
