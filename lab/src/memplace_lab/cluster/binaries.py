# SPDX-License-Identifier: Apache-2.0
"""The programs of the cluster (kube-apiserver, kubelet, etcd, helm, …) from pinned Go modules."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from memplace_lab.base import go, store
from memplace_lab.base.steps import run

GO_MODULE = store.REPO / "lab" / "go"


def kubernetes_version() -> str:
    """Return the release that ``lab/go/go.mod`` pins, for example ``v1.35.4``."""
    found = re.search(r"^\tk8s\.io/kubernetes (v\S+)", (GO_MODULE / "go.mod").read_text(), re.M)
    if found is None:
        raise AssertionError("lab/go/go.mod requires no k8s.io/kubernetes")
    return found.group(1)


@functools.cache
def build_binaries() -> Path:
    """Return the directory with all programs, building them if need be (minutes)."""
    toolchain = run("go", "version")
    key = store.digest(GO_MODULE / "go.mod", GO_MODULE / "go.sum", toolchain, store.code(__file__))
    return store.ensure("bin", key, _build, title="cluster programs from Go modules")


def _build(target: Path) -> None:
    version = kubernetes_version()
    major, minor = version.lstrip("v").split(".")[:2]
    stamp = "-X k8s.io/component-base/version."
    listed = run("go", "list", "tool", cwd=GO_MODULE, env=go.environment())
    # Without a version stamp the kubelet registers as v0.0.0.
    flags = f"-s -w {stamp}gitVersion={version} {stamp}gitMajor={major} {stamp}gitMinor={minor}"
    how = ("-trimpath", "-ldflags", flags, "-o", f"{target}/")
    go.build(GO_MODULE, *how, *listed.split(), log="go-build.log")
    (target / "server").rename(target / "etcd")  # the package that has etcd's main is called server
