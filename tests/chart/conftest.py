# SPDX-License-Identifier: Apache-2.0
"""The real helm, and a real API server with RBAC and all admission, once per run."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver import ApiServer, Ran, find_binaries
from tests.support import ROOT

CHART = ROOT / "charts" / "memplace"
NAMESPACE = "memplace-system"
KUBE_VERSION = "1.35.0"

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


@pytest.fixture(scope="session")
def chart() -> Chart:
    return Chart(find_binaries() / "helm", CHART)


@pytest.fixture(scope="session")
def objects(chart: Chart) -> list[Json]:
    """Return everything the chart makes of its default values."""
    return chart.render()


@pytest.fixture(scope="session")
def one(objects: list[Json]) -> Callable[[str, str], Json]:
    """Return the object of a kind and name among those of the default values."""

    def find(kind: str, name: str) -> Json:
        wanted = (kind, f"memplace-{name}")
        (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == wanted]
        return found

    return find


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Yield an API server of this suite's own: it counts what is there."""
    options = ["--enable-admission-plugins=NodeRestriction", "--allow-privileged=true"]
    with ApiServer(tmp_path_factory.mktemp("apiserver"), *options).running() as server:
        yield server


@pytest.fixture(scope="session")
def prepared(cluster: ApiServer) -> Any:
    """Return the cluster with the product's namespace."""
    done = create(cluster, namespace(NAMESPACE, "privileged"))
    assert done.returncode == 0, done.stderr
    return cluster


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
