# SPDX-License-Identifier: Apache-2.0
"""Which containers of a pod run, as the API server says it.

The agent acts on them and the operator explains what the agent did; both parse a pod here,
so that they agree on which containers there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

import msgspec

from memplace.api.convert import from_builtins
from memplace.assignment import PodRef
from memplace.errors import ValidationError
from memplace.structs import prepared

# kubernetes pkg/kubelet/types: ConfigHashAnnotationKey.
_CONFIG_HASH = "kubernetes.io/config.hash"

Life = Literal["Waiting", "Running", "Ended"]

# Runtimes of today make ids of 64 hex digits; the API promises no form. Shorter than what `docker
# ps` shows is no name to look for, and it has to be one name of a file.
_CONTAINER_ID = re.compile(
    r"[A-Za-z][A-Za-z0-9.+-]*://([0-9A-Za-z][0-9A-Za-z_.-]{11,127})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod and its running containers.

    Attributes:
        ref: Who it is; ``ref.containers`` are the running ones, sidecars and ephemeral
            containers included.
        container_ids: Per running container the runtime's id, without its scheme.
        node: The Kubernetes node; empty before it is scheduled.
        life: Waiting before phase Running, Ended from the moment it is being deleted.
        started: When the kubelet took it; None before.
        config_hash: Of a static pod, what its cgroup is named for instead of its UID; or "".
        runtime_class: Its runtimeClassName; "" for none.
        declared: The names of all containers of its spec, whether or not they run.
    """

    ref: PodRef
    container_ids: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    life: Life = "Running"
    started: datetime | None = None
    config_hash: str = ""
    runtime_class: str = ""
    declared: tuple[str, ...] = ()

    @property
    def whole(self) -> PodRef:
        """The same pod with all the containers that it has or will have."""
        names = dict.fromkeys((*self.declared, *self.ref.containers))
        return replace(self.ref, containers=tuple(names))

    @property
    def cgroup_uids(self) -> frozenset[str]:
        """What the pod's cgroup may be named for."""
        return frozenset({self.ref.uid, self.config_hash} - {""})


class _Phase(StrEnum):
    """The phases of a pod that somebody asks for.

    Source: k8s.io/api ``core/v1/types.go:PodPhase``.
    """

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class _Raw(msgspec.Struct, frozen=True, rename="camel"):
    """A part of a foreign object: what is not named here is ignored."""


class _Meta(_Raw, frozen=True):
    name: str
    namespace: str
    uid: str
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class _Container(_Raw, frozen=True):
    name: str


class _Spec(_Raw, frozen=True):
    node_name: str = ""
    runtime_class_name: str | None = None
    init_containers: tuple[_Container, ...] | None = None
    containers: tuple[_Container, ...] | None = None
    ephemeral_containers: tuple[_Container, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        lists = (self.init_containers, self.containers, self.ephemeral_containers)
        return tuple(each.name for listed in lists for each in listed or ())


class _ContainerStatus(_Raw, frozen=True):
    name: str
    container_id: str = msgspec.field(name="containerID", default="")
    state: dict[str, Any] | None = None


class _Status(_Raw, frozen=True):
    phase: str = ""
    start_time: datetime | None = None
    container_statuses: tuple[_ContainerStatus, ...] = ()
    init_container_statuses: tuple[_ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[_ContainerStatus, ...] = ()


@prepared
class _Pod(_Raw, frozen=True):
    metadata: _Meta
    spec: _Spec = _Spec()
    status: _Status | None = None


def parse_container_id(text: str) -> str | None:
    """Return the id in a pod status's containerID such as ``containerd://…``, of any runtime.

    None when it can't be part of the name of a directory: the agent looks for that.
    """
    match = _CONTAINER_ID.fullmatch(text)
    return match[1] if match else None


def bare_id(container_id: str) -> str:
    """Return the container id of a report without its scheme, if it has one."""
    return container_id.rpartition("://")[2]


def parse_pod(obj: Mapping[str, Any]) -> PodState:
    """Parse a pod as the API server returns it.

    A running container whose id has an unknown form is left out, since nobody can act on it.

    Raises:
        ValidationError: It is not a pod.
    """
    return _state(from_builtins(obj, _Pod, ""))


def decode_pod(content: bytes | msgspec.Raw) -> PodState:
    """Parse a pod from JSON, without making anything of the nine tenths nobody asks for.

    Raises:
        ValidationError: It is not a pod.
    """
    try:
        return _state(msgspec.json.decode(content, type=_Pod))
    except msgspec.MsgspecError as err:
        raise ValidationError("", str(err)) from err


def _state(raw: _Pod) -> PodState:
    status = raw.status or _Status()
    listed = (
        *status.init_container_statuses,
        *status.container_statuses,
        *status.ephemeral_container_statuses,
    )
    running = {c.name: c.container_id for c in listed if "running" in (c.state or {})}
    ids = {name: parse_container_id(text) for name, text in running.items()}
    known = {name: id_ for name, id_ in ids.items() if id_ is not None}
    ref = PodRef(
        namespace=raw.metadata.namespace,
        name=raw.metadata.name,
        uid=raw.metadata.uid,
        labels=raw.metadata.labels or {},
        containers=tuple(known),
    )
    life = _life(status.phase, is_deleted=raw.metadata.deletion_timestamp is not None)
    return PodState(
        ref,
        known,
        raw.spec.node_name,
        life,
        status.start_time,
        config_hash=(raw.metadata.annotations or {}).get(_CONFIG_HASH, ""),
        runtime_class=raw.spec.runtime_class_name or "",
        declared=raw.spec.names,
    )


def _life(phase: str, *, is_deleted: bool) -> Life:
    if is_deleted or phase in (_Phase.SUCCEEDED, _Phase.FAILED):
        return "Ended"
    return "Running" if phase == _Phase.RUNNING else "Waiting"
