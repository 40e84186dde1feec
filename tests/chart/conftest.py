# SPDX-License-Identifier: Apache-2.0
"""The real helm, and a real API server with RBAC and all admission, once per run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver import ROOT, ApiServer, Ran, find_binaries

CHART = ROOT / "charts" / "memplace"
NAMESPACE = "memplace-system"
KUBE_VERSION = "1.35.0"

Json = dict[str, Any]


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
