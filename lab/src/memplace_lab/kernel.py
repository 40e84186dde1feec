# SPDX-License-Identifier: Apache-2.0
"""The lab's kernel: Debian's source with the series of ``kernel/``, built by ``kernel/build``."""

from __future__ import annotations

import functools
from pathlib import Path

from memplace_lab import store
from memplace_lab.steps import run

KERNEL = store.REPO / "kernel"
_SELFTESTS = ("tools/testing/selftests/mm", "tools/testing/selftests/*.h", "tools/include")


@functools.cache
def image(base: str = "6.12") -> Path:
    """Return the bzImage of a base, building it if need be (about 10 minutes on 2 cores).

    Beside it are ``headers``, the kernel's own for user space, and ``source``, what its
    selftests are compiled from.
    """
    parts = ("build", "lib", f"configs/lab-{base}.config")
    key = store.digest(*_SELFTESTS, KERNEL / base, *(KERNEL / part for part in parts))

    def make(target: Path) -> None:
        run("apt-get", "-q", "update")  # the tools' root has no package lists
        work = store.CACHE / f"kernel-work-{base}"
        run(
            KERNEL / "build", "--base", base, "--config", "lab", "--out", target, "--work", work,
            log=store.CACHE / "log" / f"kernel-{base}.log",
        )  # fmt: skip
        tree = work / "tree"
        run("make", "-s", "-C", tree, f"O={target / 'headers'}", "headers")
        (target / "source").mkdir()
        parts = [str(path.relative_to(tree)) for part in _SELFTESTS for path in tree.glob(part)]
        run("cp", "-a", "--parents", *parts, target / "source", cwd=tree)

    return (
        store.made(f"kernel-{base}", key, make, title=f"Linux {base} with process_mbind()")
        / "bzImage"
    )
