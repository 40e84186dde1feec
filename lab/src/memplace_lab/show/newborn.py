# SPDX-License-Identifier: Apache-2.0
"""Pods that are created after their placement, and on which tier their first pages are.

Their placement moves nothing (``existingPages: Leave``): a page that is on the wrong tier was
faulted there and stays, however late somebody looks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memplace_lab.base import store
from memplace_lab.base.steps import wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import scenario, witness
from memplace_lab.show.scenario import CXL, DRAM
from memplace_lab.show.witness import Observation, Vma

EXAMPLE = store.REPO / "examples" / "born-on-cxl.yaml"
PLACEMENT = "born-on-cxl"
LABELS = {"memory": PLACEMENT}
WORKER = "worker-1"

Manifest = Mapping[str, Any]

_TOLD = re.compile(r"^touched: (\d+) bytes on node 0, (\d+) on node 1$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Born:
    """Bytes of memory in which programs keep data, by where they are.

    Attributes:
        wrong: Not on the tier.
        right: On the tier.
    """

    wrong: int
    right: int

    @property
    def nodes(self) -> dict[int, int]:
        """The same by NUMA node of the worker."""
        return {DRAM: self.wrong, CXL: self.right}

    @property
    def share(self) -> float:
        """Which part is on the wrong tier, from 0 to 1."""
        return self.wrong / max(1, self.wrong + self.right)

    def __str__(self) -> str:
        size = self.wrong + self.right
        return f"{self.wrong:,} of {size:,} bytes on the wrong tier ({self.share:.2%})"


def apply_example(cluster: Cluster) -> None:
    """Apply the placement of such pods, in their namespace."""
    scenario.create_namespace(cluster)
    cluster.kubectl("apply", "-n", scenario.NAMESPACE, "-f", str(EXAMPLE))


def container(name: str, *args: str, **more: object) -> Manifest:
    """Return a container that runs the workload, for a namespace with restricted pods."""
    return {
        "name": name,
        "image": product.image("lab/workload"),
        "args": args,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **more,
    }


def spec(*containers: Manifest, init: Sequence[Manifest] = (), restart: str = "Always") -> Manifest:
    """Return the spec of a pod of these containers on the worker that has tiers."""
    return {
        "nodeName": WORKER,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "restartPolicy": restart,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": init,
        "containers": containers,
    }


def pod(name: str, pod_spec: Manifest) -> Manifest:
    """Return a pod that the placement selects."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _meta(name), "spec": pod_spec}


def job(name: str, pod_spec: Manifest) -> Manifest:
    """Return a job whose pod the placement selects."""
    template = {"metadata": {"labels": LABELS}, "spec": pod_spec}
    what = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _meta(name), "spec": what}


def _meta(name: str) -> Manifest:
    return {"name": name, "namespace": scenario.NAMESPACE, "labels": LABELS}


def create(cluster: Cluster, manifests: Iterable[Manifest]) -> None:
    """Create all of them at once."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    cluster.kubectl("apply", "-f", "-", stdin=text)


def statuses(cluster: Cluster, name: str) -> dict[str, dict[str, Any]]:
    """Return the statuses of all containers of a pod, of any kind, by name."""
    return statuses_in(cluster.get("pod", "-n", scenario.NAMESPACE, name))


def statuses_in(pod_object: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the same for a pod as the API server has it."""
    status = pod_object["status"]
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    return {each["name"]: each for kind in kinds for each in status.get(kind, [])}


def runs(status: Mapping[str, Any]) -> bool:
    """Return whether a container runs, by its status."""
    return "running" in status.get("state", {})


def log(cluster: Cluster, name: str, container_name: str, *more: str) -> str:
    """Return what a container has printed."""
    where = ("-n", scenario.NAMESPACE, name, "-c", container_name)
    return cluster.kubectl("logs", *where, *more)


def touched(cluster: Cluster, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Born]:
    """Wait until containers that run have touched all, and return where it is.

    Args:
        cluster: The running cluster.
        names: Of pods and containers in them.

    Raises:
        LabError: One has not got that far in four minutes.
    """
    for name, inside in names:

        def is_done(name: str = name, inside: str = inside) -> bool:
            status = statuses(cluster, name).get(inside, {})
            return runs(status) and told(log(cluster, name, inside)) is not None

        wait_for(f"container {inside} of {name} has touched its memory", is_done, timeout_s=240)
    ids = {key: statuses(cluster, key[0])[key[1]]["containerID"] for key in names}
    seen_by = witness.observe_all(cluster, WORKER, ids.values())
    return {key: seen(seen_by[container_id]) for key, container_id in ids.items()}


def keeps_data(mapping: Vma) -> bool:
    """Return whether a mapping is one that the placement means.

    Not .bss and .data of ELF images, which the kernel maps when it executes them, nor stacks.
    """
    return mapping.label in ("heap", "anonymous") or mapping.label.startswith("anon:")


def seen(observation: Observation) -> Born:
    """Return where the bytes of all processes of a container are, as the worker has it."""
    nodes = observation.where(keeps_data)
    return Born(nodes.get(DRAM, 0), nodes.get(CXL, 0))


def told(log: str) -> Born | None:
    """Return where they were when the program had touched all, by its own /proc/self/numa_maps.

    For programs that end. A program's .bss is in it.

    Args:
        log: What the container has printed.
    """
    found = _TOLD.search(log)
    return Born(int(found[1]), int(found[2])) if found else None
