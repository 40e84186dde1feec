# SPDX-License-Identifier: Apache-2.0
"""AppArmor in a guest: the program that loads profiles, and the profile that containerd has."""

from __future__ import annotations

import functools
from pathlib import Path

from memplace_lab.base import apt, debian, go, store
from memplace_lab.base.steps import run

GO_MODULE = store.REPO / "lab" / "apparmor"


@functools.cache
def ensure_apparmor() -> Path:
    """Return a folder with Debian's package in ``root`` and containerd's ``profile`` (a minute)."""
    key = store.digest(GO_MODULE, run("go", "version"), store.code(__file__))
    return store.ensure("apparmor", key, _make, title="AppArmor's parser, containerd's profile")


def _make(target: Path) -> None:
    debian.extract(["apparmor"], target / "root", sources=apt.sources())
    go.build(GO_MODULE, "-o", target / "print", ".", log="apparmor-build.log")
    (target / "profile").write_text(run(target / "print"))
    (target / "print").unlink()
