# SPDX-License-Identifier: Apache-2.0
"""What the names of cgroups say: whose pod, whose container; pure.

A name is read for what is unique in it, a pod's UID and a container's id, and not for what
kubelet, a runtime or a driver put around them:

============================  ======================================================
systemd driver, pod           [ROOT-]kubepods[-QOS]-podUID.slice, with _ for - in UID
systemd driver, container     cri-containerd-ID.scope, crio-ID.scope, docker-ID.scope
cgroupfs driver               podUID, and in it ID
kubelet systemd, runtime not  kubepods-…-podUID.slice:cri-containerd:ID, in one name
CRI-O, escaped twice          kubepods.slice-…-kubepods_burstable_podUID.slice.slice
============================  ======================================================

Sources: kubernetes ``pkg/kubelet/cm/cgroup_manager_linux.go`` and
``pod_container_manager_linux.go``; containerd ``internal/cri/server/helpers.go``; cri-o
``internal/config/cgmgr``; kubernetes/kubernetes#106514 and cri-o/cri-o#842 for the last two.
"""

from __future__ import annotations

import re

# A UUID of the API server, the MD5 of a static pod's file: hex digits in up to five groups. A
# name that only looks like it does no harm: nobody asks for its UID.
_HEX = r"[0-9A-Fa-f]{4,32}(?:[-_][0-9A-Fa-f]{4,12}){0,4}"
_POD = re.compile(rf"(?<![0-9A-Za-z])pod(?P<uid>{_HEX})(?=[.:]|$)", re.ASCII)

# The file of a static pod may name any UID; only kubelet's own directories are searched for it.
_ANY = r"(?P<uid>[0-9A-Za-z]+(?:[-_][0-9A-Za-z]+)*)"
_SLICE = re.compile(rf"(?:.+-)?kubepods(?:-burstable|-besteffort)?-pod{_ANY}\.slice", re.ASCII)
_PLAIN = re.compile(rf"pod{_ANY}", re.ASCII)

_QOS = re.compile(r"(?:.+-)?(?:burstable|besteffort)(?:\.slice)?", re.ASCII)

# What all of today's runtimes make their ids of.
_ID = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{64}(?![0-9A-Za-z])", re.ASCII)

# Directly before the id: the monitor of a container of CRI-O's, the machine of a pod of Kata's.
_BESIDE = ("conmon-", "kata_", "kata-")


def pod_of(name: str, *, below_kubepods: bool) -> str | None:
    """Return the UID of the pod whose cgroup has this name, None for another cgroup.

    Args:
        name: Of the directory.
        below_kubepods: Whether one above it is kubelet's for pods; there, and in the slices of
            the systemd driver, a UID may have any form.
    """
    stem = name.split(":", 1)[0]
    match = _POD.search(name) or _SLICE.fullmatch(stem)
    if match is None and below_kubepods:
        match = _PLAIN.fullmatch(name)
    return normal_uid(match["uid"]) if match else None


def container_with_pod_of(name: str) -> str | None:
    """Return the container's part of the name of a pod's cgroup that is a container's as well.

    The systemd form of a path, SLICE:RUNTIME:ID, taken literally by a runtime with the
    cgroupfs driver. None for every other name.
    """
    slice_, colon, rest = name.partition(":")
    return rest if colon and pod_of(slice_, below_kubepods=False) else None


def names_container(name: str, container_id: str) -> bool:
    """Return whether a cgroup with this name, in its pod's, is a container's.

    The id has to be there whole, whatever is around it: ids that begin alike are different
    ones. What a runtime runs beside a container, under the container's id, is not it.

    Example:
        >>> names_container("cri-containerd-c0ffee.scope", "c0ffee")
        True
        >>> names_container("crio-conmon-c0ffee.scope", "c0ffee")
        False
    """
    # No pattern: to compile one for each id takes longer than all else that is done with a name.
    at = name.find(container_id)
    while at >= 0:
        end = at + len(container_id)
        if not _is_of_word(name[:at][-1:]) and not _is_of_word(name[end : end + 1]):
            return not name[:at].endswith(_BESIDE)
        at = name.find(container_id, at + 1)
    return False


def _is_of_word(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()


def id_of(name: str) -> str | None:
    """Return what looks like a container's id in a name: 64 hex digits; None without."""
    match = _ID.search(name)
    return match[0] if match else None


def is_qos(name: str) -> bool:
    """Return whether kubelet keeps the pods of one class of service in a cgroup of this name."""
    return bool(_QOS.fullmatch(name))


def normal_uid(uid: str) -> str:
    """Return a pod's UID in one form, whichever driver wrote it: with dashes."""
    return uid.replace("_", "-")
