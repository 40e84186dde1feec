# SPDX-License-Identifier: Apache-2.0
"""The objects of a large cluster, as an API server has them in etcd.

Sizes are those of real ones: a pod of two containers with what kubelet and controllers leave
behind in it has 7 KB, the report of a node with 20 pods 14 KB.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from memplace import __version__

NOW = "2026-11-20T08:00:00Z"
GIB = 1 << 30
LABELS = {
    "app.kubernetes.io/name": "memplace",
    "app.kubernetes.io/component": "agent",
    "app.kubernetes.io/part-of": "memplace",
}
ENV = [{"name": f"SETTING_{n:02d}", "value": f"value-of-setting-{n:02d}"} for n in range(12)]

Object = dict[str, Any]


@dataclass(frozen=True)
class Owned:
    """A pod by what makes it: which placement selects it, and the how many-eth it is."""

    namespace: str
    placement: str
    number: int

    @property
    def name(self) -> str:
        """As a ReplicaSet names it."""
        text = f"{self.namespace}{self.placement}{self.number}"
        return f"{self.placement}-{_md5(text)[:10]}-{self.number:05d}"


@dataclass(frozen=True)
class Layout:
    """Who is where; the same for the same numbers."""

    nodes: int
    placements: int
    per_placement: int = 10
    per_namespace: int = 10

    @property
    def pods(self) -> int:
        """How many there are."""
        return self.placements * self.per_placement

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield namespace and name of each placement."""
        for number in range(self.placements):
            yield f"team-{number // self.per_namespace:04d}", f"mp-{number:05d}"

    def items(self) -> Iterator[tuple[Owned, int]]:
        """Yield each pod and the number of its node."""
        count = 0
        for namespace, name in self.names():
            for number in range(self.per_placement):
                yield Owned(namespace, name, number), count % self.nodes
                count += 1

    def on_nodes(self) -> list[list[Owned]]:
        """Return the pods of each node."""
        found: list[list[Owned]] = [[] for _ in range(self.nodes)]
        for pod, node in self.items():
            found[node].append(pod)
        return found


def node_name(number: int) -> str:
    """Return the name of a node."""
    return f"node-{number:05d}"


def stamp(*, micro: bool = False) -> str:
    """Return the time as metav1.Time or MicroTime."""
    now = time.time()
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{text}.{int(now % 1 * 1e6):06d}Z" if micro else f"{text}Z"


def namespace(name: str) -> Object:
    """Return a Namespace."""
    meta = {"name": name, "uid": uid_of("ns", name), "creationTimestamp": NOW}
    return {
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": meta,
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def node(number: int) -> Object:
    """Return a Node."""
    name = node_name(number)
    meta = {"name": name, "uid": uid_of("node", number), "creationTimestamp": NOW}
    return {"kind": "Node", "apiVersion": "v1", "metadata": meta}


def pod(owned: Owned, node: int) -> Object:
    """Return a running Pod."""
    ns, name, app = owned.namespace, owned.name, owned.placement
    labels = {
        "app": app,
        "pod-template-hash": "6d4cf56db6",
        "app.kubernetes.io/name": app,
        "app.kubernetes.io/part-of": ns,
        "team": ns,
    }
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": f"{app}-6d4cf56db6",
        "uid": uid_of("rs", ns, app),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "generateName": f"{app}-6d4cf56db6-",
            "namespace": ns,
            "uid": uid_of("pod", ns, name),
            "creationTimestamp": NOW,
            "labels": labels,
            "ownerReferences": [owner],
            "managedFields": [_fields("kube-controller-manager"), _fields("kubelet")],
        },
        "spec": _pod_spec(ns, node),
        "status": _pod_status(owned),
    }


def _pod_spec(ns: str, node: int) -> Object:
    token = {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    tolerated = {"key": "node.kubernetes.io/not-ready", "operator": "Exists"}
    return {
        "volumes": [
            {"name": "data", "emptyDir": {}},
            {"name": "kube-api-access-abcde", "projected": {"sources": [token]}},
        ],
        "containers": [_container(ns, "app"), _container(ns, "proxy")],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "nodeName": node_name(node),
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "tolerations": [{**tolerated, "effect": "NoExecute", "tolerationSeconds": 300}],
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }


def _container(ns: str, name: str) -> Object:
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    return {
        "name": name,
        "image": f"registry.example.com/{ns}/{name}:1.2.3",
        "env": ENV,
        "resources": {
            "requests": {"cpu": "500m", "memory": "1Gi"},
            "limits": {"memory": "2Gi"},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "kube-api-access-abcde", "readOnly": True, "mountPath": account},
        ],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


def _pod_status(owned: Owned) -> Object:
    types = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    when = {"lastProbeTime": None, "lastTransitionTime": NOW}
    return {
        "phase": "Running",
        "hostIP": "10.1.0.1",
        "podIP": "10.2.0.1",
        "podIPs": [{"ip": "10.2.0.1"}],
        "startTime": NOW,
        "qosClass": "Burstable",
        "conditions": [{"type": type_, "status": "True", **when} for type_ in types],
        "containerStatuses": [_container_status(owned, name) for name in ("app", "proxy")],
    }


def _container_status(owned: Owned, name: str) -> Object:
    image = f"registry.example.com/{owned.namespace}/{name}"
    return {
        "name": name,
        "state": {"running": {"startedAt": NOW}},
        "lastState": {},
        "ready": True,
        "restartCount": 0,
        "image": f"{image}:1.2.3",
        "imageID": f"{image}@sha256:{_sha256(image)}",
        "containerID": f"containerd://{container_id(owned, name)}",
        "started": True,
    }


def container_id(owned: Owned, container: str) -> str:
    """Return the id that a runtime gave a container."""
    return _sha256(f"{owned.namespace}/{owned.name}/{container}")


def lease(number: int) -> Object:
    """Return the Lease of a node's agent, renewed now."""
    name = node_name(number)
    meta = {
        "name": name,
        "namespace": "default",
        "uid": uid_of("lease", number),
        "creationTimestamp": NOW,
        "labels": LABELS,
    }
    spec = {"holderIdentity": name, "leaseDurationSeconds": 90, "renewTime": stamp(micro=True)}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": meta,
        "spec": spec,
    }


def node_memory(
    number: int, pods: Collection[Owned], seed: int = 0, moving: Owned | None = None
) -> Object:
    """Return what the agent of a node reports; another seed means other bytes everywhere."""
    name = node_name(number)
    by_placement: dict[tuple[str, str], list[Owned]] = {}
    for each in pods:
        by_placement.setdefault((each.namespace, each.placement), []).append(each)
    when = {"lastTransitionTime": NOW, "observedGeneration": 0}
    why = "the kernel announces process_mbind() as number 473"
    supported = {"type": "Supported", "status": "True", "reason": "ProcessMbindAvailable"}
    retired = {"type": "Retired", "status": "False", "reason": "Active", "message": ""}
    return {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "NodeMemory",
        "metadata": {
            "name": name,
            "uid": uid_of("nm", number),
            "creationTimestamp": NOW,
            "generation": 1,
        },
        "spec": {"agent": "Active"},
        "status": {
            "conditions": [{**supported, "message": why, **when}, {**retired, **when}],
            "heartbeatTime": NOW,
            "agentVersion": __version__,
            "backend": {
                "name": "ProcessMbind",
                "reason": "ProcessMbindAvailable",
                "message": why,
            },
            "numaNodes": [
                {"id": 0, "cpus": "0-47", "totalBytes": 256 * GIB, "tier": "dram"},
                {"id": 1, "cpus": "48-95", "totalBytes": 256 * GIB, "tier": "dram"},
                {"id": 2, "cpus": "", "totalBytes": 256 * GIB, "tier": "cxl"},
            ],
            "tiers": [{"name": "cxl", "numaNodes": [2]}, {"name": "dram", "numaNodes": [0, 1]}],
            "placements": [
                _report(ns, name, mine, seed, moving) for (ns, name), mine in by_placement.items()
            ],
        },
    }


def _report(ns: str, name: str, pods: Collection[Owned], seed: int, moving: Owned | None) -> Object:
    return {
        "uid": uid_of("mp", ns, name),
        "namespace": ns,
        "name": name,
        "observedGeneration": 1,
        "reason": "",
        "message": "",
        "conflicts": 0,
        "pods": [
            {
                "uid": uid_of("pod", ns, each.name),
                "name": each.name,
                "containers": [_container_report(each, seed + n, is_moving=each == moving)],
            }
            for n, each in enumerate(pods)
        ],
    }


def _container_report(owned: Owned, seed: int, *, is_moving: bool) -> Object:
    said = {"reason": "Moving", "message": "rule heap: 12Mi still to move to 2"}
    return {
        "name": "app",
        "containerID": container_id(owned, "app"),
        "state": "Moving" if is_moving else "Placed",
        **(said if is_moving else {"reason": "", "message": ""}),
        "newMemory": "",
        "rules": [
            _rule("heap", GIB // 4 + (seed % 1000) * 4096, seed),
            _rule("large", GIB + (seed % 5000) * 4096, seed),
        ],
    }


def _rule(name: str, size: int, seed: int) -> Object:
    on_cxl = size - (seed % 7) * 4096
    return {
        "name": name,
        "regions": 3 + seed % 5,
        "bytes": size,
        "numaNodes": [{"id": 0, "bytes": size - on_cxl}, {"id": 2, "bytes": on_cxl}],
        "misplacedBytes": 0,
        "ownRegions": 0,
    }


def _fields(manager: str) -> Object:
    tree: Object = {f"f:field{n:03d}": {".": {}, "f:value": {}} for n in range(25)}
    return {
        "manager": manager,
        "operation": "Update",
        "apiVersion": "v1",
        "time": NOW,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": tree},
    }


def uid_of(*parts: object) -> str:
    """Return the uid of what has these parts as its name."""
    return str(uuid.UUID(_md5("/".join(map(str, parts)))))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
