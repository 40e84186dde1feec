# SPDX-License-Identifier: Apache-2.0
"""What users, kubelets, agents and an operator write for the command to read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from memplace_lab.product.operating import API, DEFAULTS, RBAC

from tests.support.cluster import Cluster, eventually, now

# Where memplace would be; tests of agents give them their Leases there.
SYSTEM = "default"
GIB = 1 << 30
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"


@dataclass(frozen=True)
class Ran:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def flat(self) -> str:
        """What it printed as one line, whatever was wrapped."""
        return re.sub(r"\s+", " ", self.out)

    def json(self) -> Any:
        return json.loads(self.out)


Memplace = Callable[..., Ran]


def may_read(create: Callable[[str, Any], Any], namespace: str, user: str) -> None:
    """Let a user read placements and pods of a namespace, and nothing else."""
    path = f"{RBAC}/namespaces/{namespace}"
    verbs = ["get", "list", "watch"]
    rules = [
        {"apiGroups": ["memplace.dev"], "resources": ["memoryplacements"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["pods"], "verbs": verbs},
    ]
    create(f"{path}/roles", {"metadata": {"name": user}, "rules": rules})
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    create(f"{path}/rolebindings", binding)


class Site(Cluster):
    """A namespace and a node, with reports of any content."""

    def place(self, name: str, **spec: Any) -> Any:
        """Create a placement: Heap of pods app=redis to cxl, and what is given instead."""
        rule = {
            "name": "heap",
            "regions": [{"type": "Heap"}],
            "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
        }
        body = {
            "apiVersion": "memplace.dev/v1alpha1",
            "kind": "MemoryPlacement",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": "redis"}}, "rules": [rule]} | spec,
        }
        return self._create(self.placement_path("").rstrip("/"), body)

    def place_until_kept(self, name: str, **spec: Any) -> None:
        """Create a placement with fields that the API server may take a moment to know."""

        def kept() -> bool:
            self.place(name, **spec)
            known = self.get(name)["spec"]
            if not spec.keys() <= known.keys():
                self.api.call("DELETE", self.placement_path(name))
            return bool(spec.keys() <= known.keys())

        eventually(kept)

    def place_default_until_kept(self, name: str, **spec: Any) -> None:
        """Create a placement of the cluster, as `place_until_kept`."""

        def kept() -> bool:
            self.apply_default(name, **spec)
            known = self.get(name)["spec"]
            if not spec.keys() <= known.keys():
                self.api.call("DELETE", f"{DEFAULTS}/{name}")
            return bool(spec.keys() <= known.keys())

        eventually(kept)

    def node_report(self, *placements: dict[str, Any], **status: Any) -> None:
        """Be the agent of a node with DRAM and CXL memory; `status` has what is different."""
        self.report(*placements)
        numa = [
            {
                "id": 0,
                "cpus": "0-1",
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
        ]
        able = ["Measures", "Moves", "Policies", "Defaults"]
        backend = {"name": "ProcessMbind", "reason": "ProcessMbindAvailable", "capabilities": able}
        changed = {"numaNodes": numa, "backend": backend} | status
        path = f"{API}/nodememories/{self.node}/status"
        answer = self.api.call("PATCH", path, {"status": changed}, fieldValidation="Strict")
        assert answer.ok, answer.message

    def judged(self, placement: dict[str, Any], *conditions: tuple[str, str, str, str]) -> None:
        """Be the operator: write conditions, each (type, status, reason, message)."""
        meta = placement["metadata"]
        status = {
            "observedGeneration": meta["generation"],
            "matchedPods": 2,
            "placedPods": 1,
            "rules": [{"name": "heap", "bytes": GIB, "tiers": [{"name": "cxl", "bytes": GIB}]}],
            "conditions": [
                {
                    "type": kind,
                    "status": value,
                    "reason": reason,
                    "message": message,
                    "lastTransitionTime": now(),
                }
                for kind, value, reason, message in conditions
            ],
        }
        path = f"{self.placement_path(meta['name'])}/status"
        answer = self.api.call("PATCH", path, {"status": status}, fieldValidation="Strict")
        assert answer.ok, answer.message

    def rolled(self, name: str, rollout: dict[str, Any]) -> None:
        """Be the operator: write how far a roll-out is."""
        path = f"{self.placement_path(name)}/status"
        answer = self.api.call(
            "PATCH", path, {"status": {"rollout": rollout}}, fieldValidation="Strict"
        )
        assert answer.ok, answer.message

    def lead(self, holder: str = "operator-0", *, age_s: float = 0) -> None:
        """Be the operator: hold its Lease, and renew it."""
        renewed = datetime.now(UTC) - timedelta(seconds=age_s)
        spec = {"holderIdentity": holder, "renewTime": f"{renewed:%Y-%m-%dT%H:%M:%S.%fZ}"}
        if not self.api.call("PATCH", f"{LEASES}/memplace-operator", {"spec": spec}).ok:
            self._create(LEASES, {"metadata": {"name": "memplace-operator"}, "spec": spec})

    def may_read(self, user: str) -> None:
        """Let a user read placements and pods of this namespace, and nothing else."""
        may_read(self._create, self.namespace, user)

    def may(self, user: str, rules: list[dict[str, Any]], *, namespace: str = "") -> None:
        """Give a user rights besides, in the cluster or a namespace."""
        group = "rbac.authorization.k8s.io"
        kind = "Role" if namespace else "ClusterRole"
        where = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
        meta = {"name": f"{user}-{self.namespace}"}
        self._create(f"{where}/{kind.lower()}s", {"metadata": meta, "rules": rules})
        subject = {"apiGroup": group, "kind": "User", "name": user}
        role = {"apiGroup": group, "kind": kind, "name": meta["name"]}
        binding = {"metadata": meta, "roleRef": role, "subjects": [subject]}
        self._create(f"{where}/{kind.lower()}bindings", binding)

    def label_node(self, **labels: str) -> None:
        """Give this test's Node labels."""
        path = f"/api/v1/nodes/{self.node}"
        assert self.api.call("PATCH", path, {"metadata": {"labels": labels}}).ok

    def agent_pods(self, *names: str, desired: int, ready: bool = True) -> None:
        """Be the DaemonSet's controller and the kubelets of its pods."""
        labels = {
            "app.kubernetes.io/name": "memplace",
            "app.kubernetes.io/component": "agent",
            "app.kubernetes.io/part-of": "memplace",
        }
        containers = [{"name": "agent", "image": "agent"}]
        path = f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets"
        self._create(
            path,
            {
                "metadata": {"name": "memplace-agent", "labels": labels},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": containers},
                    },
                },
            },
        )
        counts = {
            "desiredNumberScheduled": desired,
            "currentNumberScheduled": len(names),
            "numberMisscheduled": 0,
            "numberReady": len(names) if ready else 0,
        }
        self.api.call("PATCH", f"{path}/memplace-agent/status", {"status": counts})
        for name in names:
            self._agent_pod(name, labels, ready=ready)

    def _agent_pod(self, name: str, labels: dict[str, str], *, ready: bool) -> None:
        path = f"/api/v1/namespaces/{SYSTEM}/pods"
        spec = {"containers": [{"name": "agent", "image": "agent"}], "nodeName": self.node}
        self._create(path, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        status = {"phase": "Running", "conditions": [condition]}
        assert self.api.call("PATCH", f"{path}/{name}/status", {"status": status}).ok
