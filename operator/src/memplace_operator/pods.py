# SPDX-License-Identifier: Apache-2.0
"""What the operator needs of a pod, parsed from what the API server says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

import msgspec
from memplace.api.convert import from_builtins
from memplace.assignment import PodRef

Life = Literal["Waiting", "Running", "Ended"]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod.

    Attributes:
        ref: Who it is; ``ref.containers`` are the running ones, sidecars included, which
            are those the agent acts on.
        node: The Kubernetes node; empty before it is scheduled.
        life: Waiting before phase Running, Ended from the moment it is being deleted.
        container_ids: Per running container the runtime's id, without its scheme.
        started: When the kubelet took it; None before.
    """

    ref: PodRef
    node: str = ""
    life: Life = "Running"
    container_ids: Mapping[str, str] = field(default_factory=dict)
    started: datetime | None = None


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
    labels: dict[str, str] = {}
    deletion_timestamp: str | None = None


class _Spec(_Raw, frozen=True):
    node_name: str = ""


class _ContainerStatus(_Raw, frozen=True):
    name: str
    container_id: str = msgspec.field(name="containerID", default="")
    state: dict[str, Any] = {}


class _Status(_Raw, frozen=True):
    phase: str = ""
    start_time: datetime | None = None
    container_statuses: tuple[_ContainerStatus, ...] = ()
    init_container_statuses: tuple[_ContainerStatus, ...] = ()


class _Pod(_Raw, frozen=True):
    metadata: _Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()


def bare_id(container_id: str) -> str:
    """Return a container id without its scheme, such as ``containerd://``."""
    return container_id.rpartition("://")[2]


def parse_pod(obj: Mapping[str, Any]) -> Pod:
    """Parse a pod as the API server returns it.

    Raises:
        ValidationError: It is not a pod.
    """
    raw = from_builtins(obj, _Pod, "")
    statuses = (*raw.status.init_container_statuses, *raw.status.container_statuses)
    ids = {c.name: bare_id(c.container_id) for c in statuses if "running" in c.state}
    ref = PodRef(
        namespace=raw.metadata.namespace,
        name=raw.metadata.name,
        uid=raw.metadata.uid,
        labels=raw.metadata.labels,
        containers=tuple(ids),
    )
    return Pod(ref, raw.spec.node_name, _life(raw), ids, raw.status.start_time)


def _life(raw: _Pod) -> Life:
    if raw.metadata.deletion_timestamp or raw.status.phase in (_Phase.SUCCEEDED, _Phase.FAILED):
        return "Ended"
    return "Running" if raw.status.phase == _Phase.RUNNING else "Waiting"
