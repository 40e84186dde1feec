# SPDX-License-Identifier: Apache-2.0
"""Flux's helm-controller on an API server, and the source that it takes the chart from."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from memplace_lab.product.apiserver import ApiServer

from tests.gitops import charts
from tests.gitops.programs import HELM_CONTROLLER, define
from tests.support.release.installing import NAMESPACE, Json
from tests.support.release.playing import until

SOURCES = f"/apis/source.toolkit.fluxcd.io/v1/namespaces/{NAMESPACE}/ocirepositories"
RELEASES = f"/apis/helm.toolkit.fluxcd.io/v2/namespaces/{NAMESPACE}/helmreleases"
RELEASE: Json = {
    "apiVersion": "helm.toolkit.fluxcd.io/v2",
    "kind": "HelmRelease",
    "metadata": {"name": "memplace", "namespace": NAMESPACE},
    "spec": {
        "interval": "1h",
        "chartRef": {"kind": "OCIRepository", "name": "memplace"},
        "releaseName": "memplace",
        "driftDetection": {"mode": "enabled"},
        # No image runs here.
        "install": {"disableWait": True},
        "upgrade": {"disableWait": True},
    },
}


def definitions() -> list[Json]:
    """Return Flux's own of HelmRelease, and of sources what it takes to store them."""
    folder = HELM_CONTROLLER.source() / "config" / "crd" / "bases"
    own = [yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")]
    sources = {"OCIRepository": "ocirepositories", "HelmChart": "helmcharts"}
    return own + [_source(kind, plural) for kind, plural in sources.items()]


def _source(kind: str, plural: str) -> Json:
    group = "source.toolkit.fluxcd.io"
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": anything},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [version],
        },
    }


@dataclass(frozen=True)
class Flux:
    """A helm-controller that works, and where it takes charts from."""

    cluster: ApiServer
    folder: Path
    address: str
    process: subprocess.Popen[bytes]

    def offer(self) -> None:
        """Be the source-controller: say that the chart is there, packed."""
        file = charts.pack(self.cluster, self.folder)
        body = {
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "OCIRepository",
            "metadata": {"name": "memplace", "namespace": NAMESPACE},
            "spec": {"interval": "1h", "url": "oci://registry.example/memplace"},
        }
        made = self.cluster.call("POST", SOURCES, body)
        assert made.ok, made.message
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        artifact = {
            "url": f"{self.address}/{file.name}",
            "path": file.name,
            "digest": f"sha256:{digest}",
            "revision": f"{file.stem}@sha256:{digest}",
            "lastUpdateTime": now,
            "size": file.stat().st_size,
        }
        ready = {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored"}
        generation = made.body["metadata"]["generation"]
        ready |= {"lastTransitionTime": now, "observedGeneration": generation}
        status = {"artifact": artifact, "observedGeneration": generation, "conditions": [ready]}
        told = self.cluster.call("PATCH", f"{SOURCES}/memplace/status", {"status": status})
        assert told.ok, told.message

    def release(self) -> Json:
        assert self.process.poll() is None, "helm-controller has ended: see flux.log"
        return dict(self.cluster.call("GET", f"{RELEASES}/memplace").body)

    def ready(self) -> tuple[str, str]:
        """Return the reason and the message of a release that is ready; empty if it is not."""
        for found in self.release().get("status", {}).get("conditions", ()):
            if found["type"] == "Ready" and found["status"] == "True":
                return found["reason"], found["message"]
        return "", ""

    def reconcile(self, word: str) -> None:
        """Have it look at the release now, and wait until it has."""
        meta = {"annotations": {"reconcile.fluxcd.io/requestedAt": word}}
        assert self.cluster.call("PATCH", f"{RELEASES}/memplace", {"metadata": meta}).ok

        def handled() -> bool:
            status: Any = self.release()["status"]
            return status.get("lastHandledReconcileAt") == word and bool(self.ready()[0])

        until(handled, 120)

    def events(self) -> list[tuple[str, str]]:
        found = self.cluster.call("GET", f"/api/v1/namespaces/{NAMESPACE}/events").body["items"]
        return [(e["reason"], e["message"]) for e in found if "helm-controller" in str(e)]


@contextlib.contextmanager
def running(cluster: ApiServer, work: Path) -> Iterator[Flux]:
    """Run helm-controller as administrator, which it usually is."""
    program = HELM_CONTROLLER.build(work)
    define(cluster, *definitions())
    command = [str(program), "--log-level=debug", "--metrics-addr=127.0.0.1:0"]
    command += ["--health-addr=127.0.0.1:0"]
    env = os.environ | {"KUBECONFIG": str(cluster.kubeconfig("admin"))}
    (work / "charts").mkdir()
    with (work / "flux.log").open("wb") as log, charts.serving(work / "charts") as address:
        controller = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            yield Flux(cluster, work / "charts", address, controller)
        finally:
            controller.kill()
            controller.wait()
