# SPDX-License-Identifier: Apache-2.0
"""The disk of a worker: Debian with systemd, containerd, kubelet and kube-proxy.

Every worker starts from the same read-only ext4 image; who it is comes on a
second, tiny disk (see :mod:`memplace_lab.cluster.seed`).
"""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

from memplace_lab.base import debian, store
from memplace_lab.base.steps import LabError, run
from memplace_lab.cluster import binaries
from memplace_lab.machines import rootdisk

GUEST = store.REPO / "lab" / "guest"
DISK_SIZE = "6G"

# Units that cost boot time and do nothing for a worker of the lab.
MASKED = (
    "systemd-logind.service",
    "systemd-networkd-wait-online.service",
    "systemd-timesyncd.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "cxl-monitor.service",
    "systemd-pcrphase.service",
    "systemd-update-utmp.service",
    "getty@tty1.service",
    "console-getty.service",
    "ssh.socket",
    "systemd-random-seed.service",
    "systemd-hwdb-update.service",
    "daxdev-reconfigure@.service",
    "systemd-journal-flush.service",
    "modprobe@drm.service",
    "serial-getty@ttyS0.service",
)
ENABLED = (
    "lab-seed.service",
    "containerd.service",
    "kubelet.service",
    "kube-proxy.service",
    "ssh.service",
)


def packages() -> list[str]:
    """Return the Debian packages of a worker."""
    return debian.read_list(GUEST / "packages")


@functools.cache
def build_disk() -> Path:
    """Return a directory with ``disk.img``, and Debian's ``vmlinuz`` and ``initrd.img``."""
    title = "worker's Debian root file system"
    tar = debian.ensure_root_tar("guest-root", packages(), title=title)
    programs = binaries.build_binaries()

    def make(target: Path) -> None:
        tree = target / "tree"
        tree.mkdir()
        run("tar", "-xf", tar, "-C", tree, "--numeric-owner")
        _customise(tree, programs)
        _take_stock_kernel(tree, target)
        rootdisk.make_ext4(tree, target / "disk.img", DISK_SIZE)
        shutil.rmtree(tree)

    code = (store.code(__file__), store.code(rootdisk.__file__))
    key = store.digest(tar.parent.name, programs.name, GUEST / "files", *code)
    return store.ensure("guest", key, make, title="worker's disk image")


def _customise(tree: Path, programs: Path) -> None:
    shutil.copytree(GUEST / "files", tree, dirs_exist_ok=True)
    for program in ("kubelet", "kube-proxy"):
        shutil.copy2(programs / program, tree / "usr/local/bin" / program)
    # root's password is locked; the lab's key opens ssh.
    (tree / "etc/resolv.conf").unlink(missing_ok=True)
    (tree / "etc/resolv.conf").write_text("")
    (tree / "etc/fstab").write_text("")
    (tree / "etc/machine-id").write_text("")
    for unit in MASKED:
        _link(tree / "etc/systemd/system" / unit, "/dev/null")
    for unit in ENABLED:
        _link(tree / "etc/systemd/system/multi-user.target.wants" / unit, _unit_file(tree, unit))
    _link(tree / "etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target")


def _unit_file(tree: Path, unit: str) -> str:
    own = f"/etc/systemd/system/{unit}"
    return own if (tree / own.lstrip("/")).exists() else f"/usr/lib/systemd/system/{unit}"


def _link(link: Path, target: str) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _take_stock_kernel(tree: Path, target: Path) -> None:
    kernels = sorted((tree / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise LabError("the worker's root file system has no kernel in /boot")
    version = kernels[-1].name.removeprefix("vmlinuz-")
    shutil.copy2(kernels[-1], target / "vmlinuz")
    shutil.copy2(tree / "boot" / f"initrd.img-{version}", target / "initrd.img")
    shutil.rmtree(tree / "boot")
    (tree / "boot").mkdir()
