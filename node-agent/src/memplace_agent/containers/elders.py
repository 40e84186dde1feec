# SPDX-License-Identifier: Apache-2.0
"""Whether a container that is being made is one of its pod's, or what the runtime needs itself.

A pod has a sandbox first: a program of the runtime's (pause) in a container of its own, which
looks like any other and lives as long as the pod. So a container's cgroup that is made when
another one of the pod has processes already is not the sandbox's. The first one may be; where a
runtime makes no sandbox, that is a container which is found later instead.

Source: kubernetes ``pkg/kubelet/kuberuntime/kuberuntime_manager.go:SyncPod()``, which makes a
sandbox anew only after all containers of the pod were killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from memplace_agent.containers.events import Born
from memplace_agent.containers.members import is_populated
from memplace_agent.containers.names import (
    container_with_pod_of,
    id_of,
    names_container,
    pod_of,
)


def has_elder(born: Born) -> bool:
    """Return whether the pod has a container that was made before, and runs."""
    pod = born.ref.path.parent
    return any(is_populated(pod / name) for name in _elders(born, str(pod)))


def _elders(born: Born, pod: str) -> Iterator[str]:
    try:
        with os.scandir(pod) as entries:
            older = [each.name for each in entries if each.inode() < born.inode]
    except OSError:  # the pod is gone
        return
    is_whole_pod = container_with_pod_of(born.ref.path.name) is not None
    for name in older:
        container_id = id_of(name)
        if container_id is None or not names_container(name, container_id):
            continue
        if not is_whole_pod or pod_of(name, below_kubepods=True) == born.ref.pod_uid:
            yield name
