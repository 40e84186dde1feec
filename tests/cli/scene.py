# SPDX-License-Identifier: Apache-2.0
"""A small cluster as a person meets it: two nodes, two namespaces, and what does not fit.

Written by hand into a real API server, as kubelets, agents and an operator would. The page
docs/kubectl-memplace.md shows what the command prints of it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from memplace.api.liveness import LEASE_LABELS
from memplace_lab.product.apiserver import ApiServer
from memplace_lab.product.operating import API

from tests.cli.site import GIB, may_read
from tests.support.cluster import now

MIB = 1 << 20
# A user of the API server who may read placements and pods of cache.
TENANT = "tenant"
SYSTEM = "memplace-system"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
OPERATOR = "memplace-operator-5d9f7c6b8-qk2lm"
# Each node's agent, and whether it is ready.
AGENTS = {"worker-1": ("memplace-agent-x7k2p", True), "worker-2": ("memplace-agent-9fz4d", False)}
NODES: dict[str, dict[str, Any]] = {
    "worker-1": {
        "backend": {
            "name": "ProcessMbind",
            "reason": "ProcessMbindAvailable",
            "capabilities": ["Measures", "Moves", "Policies", "Defaults"],
            "sticky": True,
        },
        "numaNodes": [
            {
                "id": 0,
                "cpus": "0-7",
                "totalBytes": 8 * GIB,
                "tier": "dram",
                "evidence": "it has CPUs",
            },
            {
                "id": 1,
                "totalBytes": 16 * GIB,
                "tier": "cxl",
                "evidence": "its memory is that of a CXL region, by dax0.0",
            },
            {"id": 2, "totalBytes": GIB},
        ],
        "tiers": [{"name": "cxl", "numaNodes": [1]}, {"name": "dram", "numaNodes": [0]}],
    },
    "worker-2": {
        "backend": {
            "name": "MovePages",
            "capabilities": ["Measures", "Moves"],
            "reason": "KernelWithoutProcessMbind",
            "message": "the kernel announces no process_mbind(): boot one built from kernel/ of "
            "memplace",
        },
        "conditions": [
            {
                "type": "Supported",
                "status": "False",
                "reason": "KernelWithoutProcessMbind",
                "message": "the kernel announces no process_mbind()",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
        "numaNodes": [
            {
                "id": 0,
                "cpus": "0-7",
                "totalBytes": 8 * GIB,
                "tier": "dram",
                "evidence": "it has CPUs",
            },
            {
                "id": 1,
                "totalBytes": 4 * GIB,
                "evidence": "it has no CPUs, is in memory_tier4, and nothing shows what it is: a "
                "MemoryTier can say",
            },
        ],
        "tiers": [{"name": "dram", "numaNodes": [0]}],
    },
}
# Labels of the Nodes.
POOLS = {"worker-1": "cxl", "worker-2": "plain"}
PODS = (
    ("cache", "redis-0", "worker-1", {"app": "redis"}, "2Gi"),
    ("cache", "redis-1", "worker-1", {"app": "redis"}, "4Gi"),
    ("cache", "redis-2", "worker-2", {"app": "redis"}, "2Gi"),
    ("web", "web-0", "worker-1", {"app": "web"}, "1Gi"),
)
NARROW = (
    "narrow spec.selector or spec.containers of one of the two, change spec.priority, or delete one"
)
FULL = "rule heap: NUMA nodes 1 have 12Mi free, 640Mi did not fit; free memory there, or name a "


def rule(name: str, kind: str, *tiers: str) -> dict[str, Any]:
    policy = {"mode": "PreferredMany", "tiers": list(tiers)}
    return {"name": name, "regions": [{"type": kind}], "policy": policy}


def placement(
    name: str, app: str, *rules: dict[str, Any], kind: str = "MemoryPlacement", **spec: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": app}}, "rules": list(rules)} | spec,
    }


class Scene:
    """Makes the objects, and deletes them in the end."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._made: list[str] = []
        self._reports: dict[str, list[dict[str, Any]]] = {node: [] for node in NODES}

    def make(self) -> None:
        for namespace in (SYSTEM, "cache", "web"):
            self.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        pods = {}
        for number, (namespace, name, node, labels, limit) in enumerate(PODS, 1):
            pods[name] = self._pod(namespace, name, node, labels, limit=limit, number=number)
        redis = self.place(
            "cache",
            placement(
                "redis-on-cxl",
                "redis",
                rule("stack", "Stack", "dram"),
                rule("heap", "Heap", "cxl"),
                priority=10,
            ),
        )
        rival = self.place("cache", placement("all-redis", "redis", rule("heap", "Heap", "dram")))
        web = self.place("web", placement("web", "web", rule("heap", "Heap", "dram", "cxl")))
        self._report("worker-1", redis, (pods["redis-0"], "Placed", "", ""), [2, 0, 1100, 0])
        full = (pods["redis-1"], "Failed", "TierFull", f"{FULL}further tier")
        self._report("worker-1", redis, full, [6, 640, 1434, 1])
        self._report("worker-1", web, (pods["web-0"], "Placed", "", ""), [0, 300, 84, 0])
        self._nodes()
        self._system()
        may_read(self.create, "cache", TENANT)
        where = "container redis of pod redis-1 on node worker-1"
        self._judge(
            redis, "TierFull", f"{where}: {FULL}further tier (tiers the rules name: cxl, dram)"
        )
        has = "placement redis-on-cxl has priority 10, this one 0, and has container redis of pod"
        self._judge(rival, "Conflict", f"{has} redis-0: {NARROW} (and 2 more pods)")
        self._judge(web, "Placed", "")

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._api.call("POST", path, body)
        assert answer.ok, answer.message
        self._made.append(f"{path}/{body['metadata']['name']}")
        return answer.body

    def place(self, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.create(f"{API}/namespaces/{namespace}/memoryplacements", body)

    def clean(self) -> None:
        for path in reversed(self._made):
            self._api.call("DELETE", path, gracePeriodSeconds="0")

    def _pod(
        self,
        namespace: str,
        name: str,
        node: str,
        labels: dict[str, str],
        *,
        limit: str,
        number: int,
    ) -> dict[str, Any]:
        path = f"/api/v1/namespaces/{namespace}/pods"
        resources = {"limits": {"memory": limit}}
        app = labels["app"]
        spec = {
            "containers": [{"name": app, "image": app, "resources": resources}],
            "nodeName": node,
        }
        self.create(path, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        container = {
            "name": app,
            "image": app,
            "imageID": "",
            "ready": True,
            "restartCount": 0,
            "containerID": f"containerd://{number:064x}",
            "state": {"running": {"startedAt": now()}},
        }
        status = {"phase": "Running", "startTime": now(), "containerStatuses": [container]}
        answer = self._api.call("PATCH", f"{path}/{name}/status", {"status": status})
        assert answer.ok, answer.message
        return answer.body

    def _report(
        self,
        node: str,
        of: dict[str, Any],
        said: tuple[dict[str, Any], str, str, str],
        mib: list[int],
    ) -> None:
        # How many MiB its stacks hold, its heap on dram and cxl, and regions of its own.
        pod, state, reason, message = said
        stack, dram, cxl, own = mib
        container = pod["status"]["containerStatuses"][0]
        rules = []
        for each in of["spec"]["rules"]:
            heap = each["name"] == "heap"
            sizes = {0: dram, 1: cxl} if heap else {0: stack}
            wrong = dram if each["policy"]["tiers"] == ["cxl"] else 0
            rules.append(
                {
                    "name": each["name"],
                    "regions": 3 if heap else 1,
                    "bytes": sum(sizes.values()) * MIB,
                    "numaNodes": [{"id": n, "bytes": size * MIB} for n, size in sizes.items()],
                    "misplacedBytes": wrong * MIB,
                    "ownRegions": own if heap else 0,
                }
            )
        meta = of["metadata"]
        reports = self._reports[node]
        mine = next((each for each in reports if each["uid"] == meta["uid"]), None)
        if mine is None:
            mine = {key: meta[key] for key in ("uid", "namespace", "name")}
            mine |= {"observedGeneration": meta["generation"], "pods": []}
            reports.append(mine)
        mine["pods"].append(
            {
                "uid": pod["metadata"]["uid"],
                "name": pod["metadata"]["name"],
                "containers": [
                    {
                        "name": container["name"],
                        "containerID": container["containerID"].partition("://")[2],
                        "state": state,
                        "reason": reason,
                        "message": message,
                        "rules": rules,
                    }
                ],
            }
        )

    def _nodes(self) -> None:
        for name, fixed in NODES.items():
            body = {
                "apiVersion": "memplace.dev/v1alpha1",
                "kind": "NodeMemory",
                "metadata": {"name": name},
            }
            self.create(f"{API}/nodememories", body)
            meta = {"name": name, "labels": {"pool": POOLS[name]}}
            self.create("/api/v1/nodes", {"metadata": meta})
            status = copy.deepcopy(fixed) | {
                "heartbeatTime": now(),
                "agentVersion": "0.1.0",
                "placements": self._reports[name],
            }
            path = f"{API}/nodememories/{name}/status"
            answer = self._api.call("PATCH", path, {"status": status}, fieldValidation="Strict")
            assert answer.ok, answer.message
            renewed = now().replace("Z", ".000000Z")
            spec = {"holderIdentity": name, "renewTime": renewed}
            self.create(LEASES, {"metadata": {"name": name, "labels": LEASE_LABELS}, "spec": spec})

    def _system(self) -> None:
        meta = {"name": "memplace-agent", "labels": LEASE_LABELS}
        containers = [{"name": "agent", "image": "agent"}]
        template = {"metadata": {"labels": LEASE_LABELS}, "spec": {"containers": containers}}
        spec = {"selector": {"matchLabels": LEASE_LABELS}, "template": template}
        path = f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets"
        self.create(path, {"metadata": meta, "spec": spec})
        counts = {
            "desiredNumberScheduled": 2,
            "currentNumberScheduled": 2,
            "numberMisscheduled": 0,
            "numberReady": 1,
        }
        self._status(f"{path}/memplace-agent", counts)
        path = f"/api/v1/namespaces/{SYSTEM}/pods"
        for node, (name, ready) in AGENTS.items():
            pod = {"name": name, "labels": LEASE_LABELS}
            self.create(
                path, {"metadata": pod, "spec": {"containers": containers, "nodeName": node}}
            )
            condition = {"type": "Ready", "status": "True" if ready else "False"}
            self._status(f"{path}/{name}", {"phase": "Running", "conditions": [condition]})
        lease = {"holderIdentity": OPERATOR, "renewTime": now(30).replace("Z", ".000000Z")}
        self.create(LEASES, {"metadata": {"name": "memplace-operator"}, "spec": lease})

    def _status(self, path: str, status: dict[str, Any]) -> None:
        answer = self._api.call("PATCH", f"{path}/status", {"status": status})
        assert answer.ok, answer.message

    def _judge(self, of: dict[str, Any], reason: str, message: str) -> None:
        # As the operator does it: of the reports of the nodes.
        meta = of["metadata"]
        reports = [r for rs in self._reports.values() for r in rs if r["uid"] == meta["uid"]]
        pods = [pod for report in reports for pod in report["pods"]]
        placed = sum(c["state"] == "Placed" for pod in pods for c in pod["containers"])
        rules: dict[str, dict[str, int]] = {}
        for pod in pods:
            for each in pod["containers"][0]["rules"]:
                for at, name in ((0, "dram"), (1, "cxl")):
                    size = sum(n["bytes"] for n in each["numaNodes"] if n["id"] == at)
                    held = rules.setdefault(each["name"], {})
                    held[name] = held.get(name, 0) + size
        said = {"reason": reason, "message": message, "lastTransitionTime": now()}
        good = reason == "Placed"
        status = {
            "observedGeneration": meta["generation"],
            "matchedPods": sum(
                pod[3]["app"] == of["spec"]["selector"]["matchLabels"]["app"] for pod in PODS
            ),
            "placedPods": placed,
            "rules": [
                {
                    "name": name,
                    "bytes": sum(held.values()),
                    "tiers": [{"name": t, "bytes": b} for t, b in sorted(held.items()) if b],
                }
                for name, held in rules.items()
            ],
            "conditions": [
                {"type": "Ready", "status": str(good), **said},
                {"type": "Degraded", "status": str(not good), **said},
            ],
        }
        self._status(
            f"{API}/namespaces/{meta['namespace']}/memoryplacements/{meta['name']}", status
        )


@contextlib.contextmanager
def playing(api: ApiServer) -> Iterator[Scene]:
    """Have the scene while the block runs."""
    scene = Scene(api)
    try:
        scene.make()
        yield scene
    finally:
        scene.clean()
