# SPDX-License-Identifier: Apache-2.0
"""A played agent, kubelet and user at a real API server, and the real operator."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from memplace.api.liveness import LEASE_LABELS
from memplace_lab.product.apiserver import ApiServer
from memplace_lab.product.operating import API, DEFAULTS, Operator


@contextlib.contextmanager
def operating(api: ApiServer, folder: Path, **env: str) -> Iterator[Operator]:
    """Run an operator while the block runs."""
    process = Operator(api, folder / "log", **env)
    process.start()
    try:
        eventually(process.is_ready, timeout_s=120)  # on a busy machine Python starts slowly
        yield process
    finally:
        if process.process.poll() is None:
            process.stop()


def eventually(holds: Callable[[], Any], *, timeout_s: float = 30) -> Any:
    """Return the first true answer."""
    deadline = time.monotonic() + timeout_s
    while not (answer := holds()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s; last answer: {answer!r}"
        time.sleep(0.1)
    return answer


class Cluster:
    """What users, kubelets and agents do, in one namespace."""

    def __init__(self, api: ApiServer, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.node = f"node-{namespace}"
        self._made: list[str] = []
        meta = {"name": namespace, "labels": {"test": namespace}}
        self._create("/api/v1/namespaces", {"metadata": meta})

    def _create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.api.call("POST", path, body)
        assert answer.ok, answer.message
        self._made.append(f"{path}/{body['metadata']['name']}")
        return answer.body

    def made(self, *paths: str) -> None:
        """Have what somebody else makes deleted in the end, too."""
        self._made += paths

    def clean(self) -> None:
        for path in reversed(self._made):
            self.api.call("DELETE", path, gracePeriodSeconds="0")

    def join(self) -> None:
        """Have a Node: a NodeMemory without one goes when its agent is silent."""
        self._create("/api/v1/nodes", {"metadata": {"name": self.node}})

    def placement_path(self, name: str) -> str:
        return f"{API}/namespaces/{self.namespace}/memoryplacements/{name}"

    def apply(self, name: str, *, app: str = "redis", tiers: tuple[str, ...] = ("cxl",)) -> Any:
        rule = {
            "name": "heap",
            "regions": [{"type": "Heap"}],
            "policy": {"mode": "PreferredMany", "tiers": list(tiers)},
        }
        return self.apply_rules(name, [rule], app=app)

    def apply_rules(
        self, name: str, rules: list[dict[str, Any]], *, app: str = "redis", **spec: Any
    ) -> Any:
        body = {
            "apiVersion": "memplace.dev/v1alpha1",
            "kind": "MemoryPlacement",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": app}}, "rules": rules, **spec},
        }
        return self._create(self.placement_path("").rstrip("/"), body)

    def apply_default(self, name: str, **spec: Any) -> Any:
        """Create a ClusterMemoryPlacement for this namespace."""
        rule = {
            "name": "heap",
            "regions": [{"type": "Heap"}],
            "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
        }
        namespaces = {"matchLabels": {"test": self.namespace}}
        body = {
            "apiVersion": "memplace.dev/v1alpha1",
            "kind": "ClusterMemoryPlacement",
            "metadata": {"name": name},
            "spec": {"namespaceSelector": namespaces, "selector": {}, "rules": [rule]} | spec,
        }
        return self._create(DEFAULTS, body)

    def get(self, name: str) -> dict[str, Any]:
        if name.startswith("default-"):
            return self.api.call("GET", f"{DEFAULTS}/{name}").body
        return self.api.call("GET", self.placement_path(name)).body

    def condition(self, name: str, kind: str = "Ready") -> tuple[str, str, str]:
        status = self.get(name).get("status", {})
        found = {c["type"]: c for c in status.get("conditions", [])}.get(kind, {})
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    def wait(self, name: str, kind: str, status: str, reason: str, *, timeout_s: float = 30) -> str:
        deadline = time.monotonic() + timeout_s
        while (found := self.condition(name, kind))[:2] != (status, reason):
            assert time.monotonic() < deadline, f"{kind} of {name} is still {found}"
            time.sleep(0.1)
        return found[2]

    def events(self, name: str) -> list[tuple[str, str]]:
        """Return (type, reason) of the events of a placement, oldest first."""
        where = "default" if name.startswith("default-") else self.namespace
        items = self.api.call("GET", f"/api/v1/namespaces/{where}/events").body["items"]
        mine = [item for item in items if item["involvedObject"]["name"] == name]
        mine.sort(key=lambda item: int(item["metadata"]["resourceVersion"]))
        return [(item["type"], item["reason"]) for item in mine]

    def run_pod(self, name: str, *, app: str = "redis", number: int = 1) -> dict[str, Any]:
        """Create a pod and be its scheduler and kubelet: it runs."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        containers = [{"name": "redis", "image": "redis"}]
        spec = {"containers": containers, "nodeName": self.node}
        pod = self._create(path, {"metadata": {"name": name, "labels": {"app": app}}, "spec": spec})
        return self.pod_status(name, pod, number=number)

    def pod_status(
        self, name: str, pod: dict[str, Any], *, phase: str = "Running", number: int = 1
    ) -> dict[str, Any]:
        state = {"running": {"startedAt": now()}} if phase == "Running" else {"waiting": {}}
        container = {
            "name": "redis",
            "image": "redis",
            "imageID": "",
            "ready": True,
            "restartCount": number - 1,
            "containerID": f"containerd://{number:064x}",
            "state": state,
        }
        status = {"phase": phase, "startTime": now(), "containerStatuses": [container]}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/status"
        answer = self.api.call("PATCH", path, {"status": status})
        assert answer.ok, answer.message
        return {**pod, **answer.body}

    def report(
        self,
        *placements: dict[str, Any],
        node: str = "",
        supported: tuple[str, str] = ("True", "ProcessMbindAvailable"),
        age_s: float = 0,
    ) -> None:
        """Be the agent: write the node's report."""
        name = node or self.node
        if not self.api.call("GET", f"{API}/nodememories/{name}").ok:
            self._create(
                f"{API}/nodememories",
                {
                    "apiVersion": "memplace.dev/v1alpha1",
                    "kind": "NodeMemory",
                    "metadata": {"name": name},
                },
            )
        condition = {
            "type": "Supported",
            "status": supported[0],
            "reason": supported[1],
            "message": "",
            "lastTransitionTime": now(),
        }
        status = {
            "heartbeatTime": now(-age_s),
            "agentVersion": "0",
            "conditions": [condition],
            "backend": {"name": "ProcessMbind"},
            "numaNodes": [{"id": 0, "cpus": "0-1"}, {"id": 1}, {"id": 2}],
            "tiers": [{"name": "dram", "numaNodes": [0]}, {"name": "cxl", "numaNodes": [1]}],
            "placements": list(placements),
        }
        path = f"{API}/nodememories/{name}/status"
        answer = self.api.call("PATCH", path, {"status": status}, fieldValidation="Strict")
        assert answer.ok, answer.message

    def renew(self, *, age_s: float = 0) -> None:
        """Be the agent: renew the node's Lease."""
        renewed = datetime.now(UTC) - timedelta(seconds=age_s)
        spec = {"holderIdentity": self.node, "renewTime": f"{renewed:%Y-%m-%dT%H:%M:%S.%fZ}"}
        path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
        if not self.api.call("PATCH", f"{path}/{self.node}", {"spec": spec}).ok:
            meta = {"name": self.node, "labels": LEASE_LABELS}
            self._create(path, {"metadata": meta, "spec": spec})


def result(
    placement: dict[str, Any],
    *pods: dict[str, Any],
    state: str = "Placed",
    reason: str = "",
    message: str = "",
    number: int = 1,
    generation: int = 0,
    pressure: str = "",
) -> dict[str, Any]:
    """Return what an agent reports of a placement: 64 MiB on node 1 and 1 MiB on node 2.

    Without `pressure` the agent is of before that field.
    """
    rule = {
        "name": placement["spec"]["rules"][0]["name"],
        "regions": 2,
        "bytes": 65 << 20,
        "numaNodes": [{"id": 1, "bytes": 64 << 20}, {"id": 2, "bytes": 1 << 20}],
        "misplacedBytes": 0,
    }
    container = {
        "name": "redis",
        "containerID": f"{number:064x}",
        "state": state,
        "reason": reason,
        "message": message,
        "rules": [rule],
    }
    if pressure:
        container["memoryPressure"] = pressure
    meta = placement["metadata"]
    return {
        "uid": meta["uid"],
        "namespace": meta.get("namespace", ""),
        "name": meta["name"],
        "observedGeneration": generation or meta["generation"],
        "pods": [
            {
                "uid": pod["metadata"]["uid"],
                "name": pod["metadata"]["name"],
                "containers": [container],
            }
            for pod in pods
        ],
    }


def now(offset_s: float = 0) -> str:
    """Return a time of the API, some seconds from now."""
    moment = datetime.now(UTC) + timedelta(seconds=offset_s)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def chore(api: ApiServer, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the operator's program as the user of that name."""
    env = os.environ | {"KUBECONFIG": str(api.kubeconfig(name))}
    command = [sys.executable, "-m", "memplace_operator", name, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=90)
