# SPDX-License-Identifier: Apache-2.0
"""AppArmor in a guest: the program that loads profiles, and the profile that containerd has."""

from __future__ import annotations

import functools
from pathlib import Path

from memplace_lab.base import apt, debian, store
from memplace_lab.base.steps import run

GO_MODULE = store.REPO / "lab" / "apparmor"


@functools.cache
def ensure_apparmor() -> Path:
    """Return a folder with Debian's package in ``root`` and containerd's ``profile`` (a minute)."""
    key = store.digest(GO_MODULE, run("go", "version"), store.code(__file__))
    return store.ensure("apparmor", key, _make, title="AppArmor's parser, containerd's profile")


def _make(target: Path) -> None:
    debian.extract(["apparmor"], target / "root", sources=apt.sources())
    env = {"CGO_ENABLED": "0", "GOMODCACHE": str(store.CACHE / "go-mod")}
    env |= {"GOCACHE": str(store.CACHE / "go-build"), "GOFLAGS": "-modcacherw -mod=readonly"}
    log = store.CACHE / "log" / "apparmor-build.log"
    run("go", "build", "-o", target / "print", ".", cwd=GO_MODULE, env=env, log=log)
    (target / "profile").write_text(run(target / "print"))
    (target / "print").unlink()
