# SPDX-License-Identifier: Apache-2.0
"""Programs of GitOps, compiled from modules of the lab, and their definitions."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from memplace_lab.product.apiserver import ApiServer

from tests.support import ROOT
from tests.support.release.installing import Json, create
from tests.support.release.playing import until


@dataclass(frozen=True)
class Program:
    """A Go program: the module of the lab that pins it, its own module and its package."""

    folder: str
    module: str
    package: str

    def build(self, where: Path) -> Path:
        """Compile it into a folder: minutes, the first time."""
        self._go("build", "-o", str(where / self.folder), self.package)
        return where / self.folder

    def source(self) -> Path:
        """Return where the files of its module are."""
        return Path(self._go("list", "-m", "-f", "{{.Dir}}", self.module))

    def _go(self, *arguments: str) -> str:
        command = ["go", "-C", str(ROOT / "lab" / self.folder), *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


HELM_CONTROLLER = Program(
    "flux", "github.com/fluxcd/helm-controller", "github.com/fluxcd/helm-controller"
)
ARGO_CD = Program("argocd", "github.com/argoproj/argo-cd/v3", "github.com/argoproj/argo-cd/v3/cmd")


def define(cluster: ApiServer, *crds: Json) -> None:
    """Create definitions and wait until their kinds are served."""
    made = create(cluster, *crds)
    assert made.returncode == 0, made.stderr
    names = [f"crd/{each['metadata']['name']}" for each in crds]
    # kubectl fails at a definition without conditions, as it is at first.
    until(lambda: not cluster.kubectl("wait", "--for=condition=Established", *names).returncode)
