# SPDX-License-Identifier: Apache-2.0
"""An image, mounted: programs of it run as they would in a pod, without a runtime."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplace_lab.base.steps import run
from memplace_lab.product.buildah import Layer


@dataclass(frozen=True)
class Image:
    """One image: where its file system is mounted, its configuration, its layers."""

    root: Path
    config: dict[str, Any]
    layers: tuple[Layer, ...]

    def exec(self, *command: str, bind: Path | None = None) -> str:
        """Run a program of the image as its user, everything but ``bind`` (on /mnt) read-only."""
        mounts = f"mount --bind {self.root} {self.root} && mount --make-private {self.root} && "
        if bind:
            mounts += f"mkdir -p {self.root}/mnt && mount --bind {bind} {self.root}/mnt && "
        mounts += f"mount -o remount,ro,bind {self.root} &&"
        program = ["env", "-i", *self.config["Env"], "/usr/sbin/chroot"]
        program += [f"--userspec={self.config['User']}", str(self.root), *command]
        return run(
            "unshare", "--mount", "sh", "-c", f"{mounts} exec {shlex.join(program)}", timeout_s=120
        )
