# SPDX-License-Identifier: Apache-2.0
"""A small Debian on a disk, for throw-away machines whose programs need more than /init."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from memplace_lab.base import debian, store
from memplace_lab.base.steps import run

# Process 1: without udev and systemd a machine is ready as soon as the kernel is. What it
# runs may write anywhere: the disk is thrown away.
_INIT = """#!/bin/sh
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs none /dev/shm
mount -t devpts none /dev/pts
mount -t tmpfs none /tmp
mount -t tmpfs none /run
hostname guest
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
/run-this </dev/null
echo "END run-this $?"
sync
busybox poweroff -f
"""


def make_ext4(tree: Path, image: Path, size: str) -> None:
    """Write a file system of this size, as mke2fs takes it, with what is below ``tree``."""
    features = ("-E", "lazy_itable_init=1,root_owner=0:0", "-O", "^has_journal")
    run("mke2fs", "-q", "-t", "ext4", *features, "-d", tree, image, size)


def ensure_disk(
    name: str, packages: Sequence[str], files: Mapping[str, Path], *, size: str
) -> Path:
    """Return an ext4 file system with Debian and these files, made if need be.

    Args:
        name: Short, for the cache folder and the console.
        packages: Debian packages, beside the essential ones.
        files: Path in the file system, without the slash at its beginning, to file or
            directory. ``run-this`` is the program that the machine is for; the console
            ends with ``END run-this STATUS``.
        size: Of the file system, as mke2fs takes it.
    """
    tar = debian.ensure_root_tar(f"root-{name}", ("busybox", *packages), title=f"Debian for {name}")

    def make(target: Path) -> None:
        tree = target / "tree"
        tree.mkdir()
        run("tar", "-xf", tar, "-C", tree, "--numeric-owner")
        (tree / "init").write_text(_INIT)
        (tree / "init").chmod(0o755)
        for path, source in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            run("cp", "-rL", source, tree / path)
        (tree / "run-this").chmod(0o755)
        make_ext4(tree, target / "disk.img", size)
        shutil.rmtree(tree)

    parts = [part for path, source in sorted(files.items()) for part in (path, source)]
    key = store.digest(tar.parent.name, *parts, size, store.code(__file__))
    return store.ensure(f"disk-{name}", key, make, title=f"disk for {name}") / "disk.img"
