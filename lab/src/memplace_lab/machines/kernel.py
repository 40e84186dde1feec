# SPDX-License-Identifier: Apache-2.0
"""The lab's kernel: Debian's source with the series of ``kernel/``, built by ``kernel/build``."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

from memplace_lab.base import apt, store
from memplace_lab.base.steps import run

KERNEL = store.REPO / "kernel"
_SELFTESTS = (
    *("tools/testing/selftests/mm", "tools/testing/selftests/*.h", "tools/include"),
    *("tools/testing/selftests/pidfd/*.h", "tools/testing/selftests/clone3/*.h"),
    *("mm/gup_test.h", "include/vdso/time64.h"),
)
# tools/testing/vma compiles the kernel's own files for user space
_VMA_TESTS = (
    *("tools/testing/vma", "tools/testing/shared", "tools/lib/*.c", "tools/scripts/Makefile.arch"),
    *("tools/arch/x86/include", "mm/vma*.[ch]", "include/linux/*.h", "lib/radix-tree.h"),
    *("lib/radix-tree.c", "lib/idr.c", "lib/*xarray.c", "lib/*maple_tree.c"),
)
_FROM_BACKPORTS = {"7.3"}
UNPATCHED, BROKEN = "unpatched", "broken"
# Each takes something out of the series that a test has to miss.
BROKEN_BY = store.REPO / "lab" / "broken-kernel"


@functools.cache
def build_kernel(base: str = "6.12", flavour: str = "") -> Path:
    """Return the bzImage of a base, building it if need be (about 10 minutes on 2 cores).

    Beside it are ``headers``, the kernel's own for user space, and ``source``, what its
    selftests are compiled from.

    Args:
        base: A directory of ``kernel/``.
        flavour: ``kernel/configs/flavour-NAME.config`` on top of the lab's configuration, or
            several of them with a plus sign in between; or `UNPATCHED`: the same without the
            series, to compare with; or `BROKEN`: the series with everything in
            ``lab/broken-kernel``, to see that the tests can fail.
    """
    name = f"{base}-{flavour.replace('+', '-')}" if flavour else base
    inputs = [KERNEL / part for part in ("build", "lib", f"configs/lab-{base}.config")]
    changes = "" if flavour == UNPATCHED else _changes(base)
    key = store.digest(*_SELFTESTS, *_VMA_TESTS, changes, *inputs, *_options(flavour))

    def make(target: Path) -> None:
        work = store.CACHE / f"kernel-work-{name}"
        _build(base, flavour, target, work, store.CACHE / "log" / f"kernel-{name}.log")
        _keep_for_user_space(work / "tree", target)
        if flavour:  # built once, and 1 GB
            shutil.rmtree(work)

    what = "without" if flavour == UNPATCHED else "with"
    title = f"Linux {name} {what} process_mbind()"
    return store.ensure(f"kernel-{name}", key, make, title=title) / "bzImage"


def _options(flavour: str) -> list[str | Path]:
    """Return what kernel/build is told of a flavour."""
    if flavour == UNPATCHED:
        return ["--unpatched"]
    if flavour == BROKEN:
        return [part for change in sorted(BROKEN_BY.glob("*.diff")) for part in ("--extra", change)]
    names = flavour.split("+") if flavour else []
    files = [KERNEL / f"configs/flavour-{name}.config" for name in names]
    return [part for file in files for part in ("--fragment", file)]


def _changes(base: str) -> str:
    """Return what the series changes: no cover letter and no message makes another kernel."""
    patches = sorted((KERNEL / base).glob("*.patch"))
    texts = [path.read_text() for path in patches if not path.name.startswith("0000-")]
    return "".join(text[text.index("\ndiff --git ") :] for text in texts)


def _build(base: str, flavour: str, target: Path, work: Path, log: Path) -> None:
    env = _with_backports() if base in _FROM_BACKPORTS else {}
    apt.update(env)
    # A file that is not in ccache is not preprocessed once more to find that out: 30 % less work.
    env = {**env, "CCACHE_DEPEND": "1"}
    where = ("--out", target, "--work", work)
    if flavour == "i386":
        env = {**env, "ARCH": "i386"}
    run(
        KERNEL / "build",
        "--base",
        base,
        "--config",
        "lab",
        *_options(flavour),
        *where,
        env=env,
        log=log,
    )


def _keep_for_user_space(tree: Path, target: Path) -> None:
    run("make", "-s", "-C", tree, f"O={target / 'headers'}", "headers")
    (target / "source").mkdir()
    wanted = (*_SELFTESTS, *_VMA_TESTS)
    parts = [str(path.relative_to(tree)) for part in wanted for path in tree.glob(part)]
    run("cp", "-a", "--parents", *parts, target / "source", cwd=tree)


def _with_backports() -> dict[str, str]:
    """Return the environment in which apt knows trixie-backports as well, and keeps it apart."""
    main = apt.sources()[0]
    return apt.environment("backports", [main, main.replace(" trixie ", " trixie-backports ")])
