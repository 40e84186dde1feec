# SPDX-License-Identifier: Apache-2.0
"""A container runtime's half of NRI, without a runtime: containerd's own package, built here.

`lab/nri/main.go` says what it does. There is one for each way in which runtimes tell of a
container that starts: as containerd 1.7 to 2.2 do, and as NRI has it since 0.12.
"""

from __future__ import annotations

import functools
from pathlib import Path

from memplace_lab.base import go, store
from memplace_lab.base.steps import run

GO_MODULE = store.REPO / "lab" / "nri"

# By the version of NRI: the file of pinned modules.
VERSIONS = {"nri-0.12": "go.mod", "nri-0.8": "nri-0.8.mod"}


@functools.cache
def build_adaptation(version: str) -> Path:
    """Return the program of one of `VERSIONS`, building all of them if need be (a minute)."""
    key = store.digest(GO_MODULE, run("go", "version"), store.code(__file__))
    return store.ensure("nri", key, _build, title="runtimes' half of NRI") / version


def _build(target: Path) -> None:
    for version, modules in VERSIONS.items():
        pinned = (f"-modfile={modules}", "-trimpath", "-ldflags", "-s -w")
        go.build(GO_MODULE, *pinned, "-o", target / version, ".", log="nri-build.log")
