# SPDX-License-Identifier: Apache-2.0
"""Argo CD on an API server: its application controller, repository server and Redis."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from memplace_lab.base import apt, debian
from memplace_lab.base.loopback import free_port
from memplace_lab.product.apiserver import ApiServer

from tests.gitops import charts
from tests.gitops.programs import ARGO_CD, define
from tests.support import ROOT
from tests.support.release.installing import NAMESPACE, Chart, Json, create, namespace
from tests.support.release.playing import until

ARGO = "argocd"
APPLICATIONS = f"/apis/argoproj.io/v1alpha1/namespaces/{ARGO}/applications"
# The finalizer that makes Argo CD delete what an Application brought.
CASCADE = "resources-finalizer.argocd.argoproj.io"
# The one that makes it run the hooks before.
HOOK = "pre-delete-finalizer.argocd.argoproj.io"
APPROVED = "argocd.argoproj.io/deletion-approved"
JOB = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/memplace-retire"
PROJECT: Json = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "AppProject",
    "metadata": {"name": "default", "namespace": ARGO},
    "spec": {
        "sourceRepos": ["*"],
        "destinations": [{"namespace": "*", "server": "*"}],
        "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
    },
}


def application(repository: str, *options: str, **values: Any) -> Json:
    """Return an Application of the chart that keeps what it brought as it is."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "memplace", "namespace": ARGO, "finalizers": [CASCADE]},
        "spec": {
            "project": "default",
            "source": {
                "repoURL": repository,
                "chart": "memplace",
                "targetRevision": "*",
                "helm": {"releaseName": "memplace", "valuesObject": values},
            },
            "destination": {"server": "https://kubernetes.default.svc", "namespace": NAMESPACE},
            "syncPolicy": {
                "automated": {"prune": True, "selfHeal": True},
                "syncOptions": list(options),
            },
        },
    }


def hook(cluster: ApiServer, **values: Any) -> Json:
    """Return the Job that Argo CD makes of the chart."""
    chart = Chart(cluster.binaries / "helm", ROOT / "charts" / "memplace")
    settings = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    (job,) = [each for each in chart.render(*settings) if each["kind"] == "Job"]
    return job


@dataclass(frozen=True)
class Argo:
    """An Argo CD that works."""

    cluster: ApiServer
    repository: str
    processes: tuple[subprocess.Popen[bytes], ...]

    def application(self) -> Json:
        ended = [each.args for each in self.processes if each.poll() is not None]
        assert not ended, "these have ended, see their logs"
        return dict(self.cluster.call("GET", f"{APPLICATIONS}/memplace").body)

    def state(self) -> str:
        """Return whether what is there is what the repository says; empty if it does not know."""
        return str(self.application().get("status", {}).get("sync", {}).get("status", ""))

    def refresh(self) -> None:
        """Have it render and compare anew, and wait until it has."""
        asked = "argocd.argoproj.io/refresh"
        meta = {"annotations": {asked: "hard"}}
        assert self.cluster.call("PATCH", f"{APPLICATIONS}/memplace", {"metadata": meta}).ok
        # It takes the annotation away together with what it found.
        until(lambda: asked not in self.application()["metadata"].get("annotations", {}), 120)

    def gone(self) -> bool:
        return self.cluster.call("GET", f"{APPLICATIONS}/memplace").status == 404


@contextlib.contextmanager
def running(cluster: ApiServer, work: Path) -> Iterator[Argo]:
    """Run Argo CD as administrator, which it usually is."""
    program = ARGO_CD.build(work)
    _configure(cluster)
    home = work / "home"
    for folder in (home / ".kube", home / "tls", home / "ssh"):
        folder.mkdir(parents=True)
    shutil.copy2(cluster.kubeconfig("admin"), home / ".kube" / "config")
    redis, repositories = free_port(), free_port()
    env = os.environ | {
        # The root of Redis has no other.
        "LC_ALL": "C",
        "HOME": str(home),
        "KUBECONFIG": str(home / ".kube" / "config"),
        "PATH": f"{cluster.binaries}:{os.environ['PATH']}",
        "ARGOCD_FAKE_IN_CLUSTER": "true",
        "ARGOCD_TLS_DATA_PATH": str(home / "tls"),
        "ARGOCD_SSH_DATA_PATH": str(home / "ssh"),
        "ARGOCD_GPG_ENABLED": "false",
        "ARGOCD_RECONCILIATION_TIMEOUT": "0",
    }
    common = [f"--redis=127.0.0.1:{redis}", "--loglevel=debug"]
    repository_server = ["--address=127.0.0.1", f"--port={repositories}"]
    repository_server += ["--metrics-address=127.0.0.1", f"--metrics-port={free_port()}"]
    controller = [
        f"--namespace={ARGO}",
        f"--repo-server=127.0.0.1:{repositories}",
        f"--metrics-port={free_port()}",
    ]
    (work / "charts").mkdir()
    charts.pack(cluster, work / "charts")
    indexed = cluster.helm("repo", "index", work / "charts")
    assert indexed.returncode == 0, indexed.stderr
    with contextlib.ExitStack() as stack:
        repository = stack.enter_context(charts.serving(work / "charts"))
        start = [
            ("redis", [*_redis(work), "--port", str(redis), "--save", ""]),
            ("argocd-repo-server", [str(program), *repository_server, *common]),
            ("argocd-application-controller", [str(program), *controller, *common]),
        ]
        yield Argo(
            cluster,
            repository,
            tuple(
                stack.enter_context(
                    _process(command, work / f"{name}.log", env | {"ARGOCD_BINARY_NAME": name})
                )
                for name, command in start
            ),
        )


@contextlib.contextmanager
def _process(
    command: list[str], log: Path, env: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file, subprocess.Popen(command, env=env, stdout=file, stderr=file) as it:
        try:
            yield it
        finally:
            it.kill()


def _configure(cluster: ApiServer) -> None:
    """Apply what Argo CD's own manifests say, without its pods."""
    manifests = ARGO_CD.source() / "manifests"
    files = [*manifests.glob("crds/*-crd.yaml"), *manifests.glob("base/config/argocd-*.yaml")]
    found = [yaml.safe_load(file.read_text()) for file in files]
    for each in found:
        each["metadata"]["namespace"] = ARGO
    crds = [each for each in found if each["kind"] == "CustomResourceDefinition"]
    define(cluster, *crds)
    others = [each for each in found if each not in crds]
    made = create(cluster, namespace(ARGO, "restricted"), *others, PROJECT)
    assert made.returncode == 0, made.stderr


def _redis(work: Path) -> list[str]:
    """Return how Redis is started, in a root of Debian's package."""
    debian.extract(["redis-server"], work / "redis", sources=apt.sources())
    return ["chroot", str(work / "redis"), "redis-server", "--bind", "127.0.0.1"]
