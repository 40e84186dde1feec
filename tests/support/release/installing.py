# SPDX-License-Identifier: Apache-2.0
"""The chart as helm renders it, and as it is in an API server."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from memplace_lab.product.apiserver import ApiServer, Ran

NAMESPACE = "memplace-system"
KUBE_VERSION = "1.35.0"
# More of the chart than its defaults have, and what an admin with several nodes sets.
HARDENED = (
    "networkPolicy.enabled=true",
    "operator.replicas=2",
    "operator.podDisruptionBudget.enabled=true",
    "podMonitor.enabled=true",
    "agent.nri.enabled=true",
)

Json = dict[str, Any]
# Kinds the API server or a client writes on its own.
TRANSIENT = {"events", "events.events.k8s.io", "leases.coordination.k8s.io"}
DISAPPEAR_TIMEOUT_S = 20
# What kubectl says of a kind that went before it looked for the kind, and after.
GONE = (
    "the server doesn't have a resource type",
    "the server could not find the requested resource",
)


@dataclass(frozen=True)
class Chart:
    """The chart and the helm that reads it."""

    helm: Path
    folder: Path

    def run(self, *arguments: str | Path) -> Ran:
        command = [str(part) for part in (self.helm, *arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def template(self, *settings: str, **options: str) -> Ran:
        """Run `helm template` with `--set-json` settings."""
        sets = [part for setting in settings for part in ("--set-json", setting)]
        where = ["--namespace", NAMESPACE, "--kube-version", options.get("kube", KUBE_VERSION)]
        return self.run("template", options.get("name", "memplace"), self.folder, *where, *sets)

    def render(self, *settings: str, **options: str) -> list[Json]:
        """Return the rendered objects, hooks too, after checking that rendering worked."""
        done = self.template(*settings, **options)
        assert done.returncode == 0, done.stderr
        return [found for found in yaml.safe_load_all(done.stdout) if found]


def namespace(name: str, level: str) -> Json:
    labels = {"pod-security.kubernetes.io/enforce": level}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


def create(cluster: ApiServer, *found: Json, dry_run: bool = False) -> Ran:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": found})
    how = ["--dry-run=server"] if dry_run else []
    return cluster.kubectl("create", *how, "--filename=-", stdin=text)


def everything(cluster: ApiServer) -> set[tuple[str, str]]:
    """Return (kind, namespace/name) of every object the API server can list."""
    deadline = time.monotonic() + DISAPPEAR_TIMEOUT_S
    # A kind that is being deleted can go between the list of kinds and the look at them.
    while _kind_went(done := _get_all(cluster)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert done.returncode == 0, done.stderr
    return {
        (o["kind"], f"{o['metadata'].get('namespace', '')}/{o['metadata']['name']}")
        for o in json.loads(done.stdout)["items"]
    }


def _kind_went(done: Ran) -> bool:
    return any(words in done.stderr for words in GONE)


def _get_all(cluster: ApiServer) -> Ran:
    listed = cluster.kubectl("api-resources", "--verbs=list", "--output=name", "--no-headers")
    kinds = sorted(set(listed.stdout.split()) - TRANSIENT)
    # All in one: a kubectl for each kind took a third of the suite's time.
    return cluster.kubectl("get", ",".join(kinds), "--all-namespaces", "--output=json")


def install(cluster: ApiServer, chart: Chart, *more: str) -> None:
    where = ["--namespace", NAMESPACE]
    done = cluster.helm("install", "memplace", chart.folder, *where, *more)
    assert done.returncode == 0, done.stderr


def uninstall(cluster: ApiServer) -> None:
    # Without nodes there is nobody to run the hook; the lab's tests run it.
    done = cluster.helm("uninstall", "memplace", "--namespace", NAMESPACE, "--no-hooks")
    assert done.returncode == 0, done.stderr
