# SPDX-License-Identifier: Apache-2.0
"""A kernel package's whole life: installed by apt, booted by GRUB, used, removed, gone.

Takes from 10 minutes (packages in the cache) to an hour, and is no part of ``make test``:
``lab/enter pytest tests/kernel_deb``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .machine import Boot

MIB_16 = 16 << 20


def line(boot: Boot, pattern: str) -> str:
    """The only line of the console that matches, without the trace of ``sh -x``."""
    found = [text for text in boot.console.splitlines() if re.fullmatch(pattern, text)]
    assert len(found) == 1, f"{pattern}: {found} in {boot.console[-4000:]}"
    return found[0]


def nodes(numa_maps: str) -> dict[int, int]:
    return {int(n): int(pages) for n, pages in re.findall(r" N(\d+)=(\d+)", numa_maps)}


def test_before_it_debians_kernel_runs_without_the_call(boots: dict[str, Boot]) -> None:
    assert "+deb13-amd64" in line(boots["install"], r"BOOT_IMAGE=.*")
    assert "this kernel has no process_mbind()" in boots["install"].console


def test_apt_installs_it_and_the_hooks_make_an_initrd(boots: dict[str, Boot], release: str) -> None:
    console = boots["install"].console
    assert f"Setting up linux-image-{release} " in console
    assert f"update-initramfs: Generating /boot/initrd.img-{release}" in console
    assert f"Found linux image: /boot/vmlinuz-{release}" in console


def test_the_boot_loader_starts_it(boots: dict[str, Boot], release: str) -> None:
    assert line(boots["check"], r"BOOT_IMAGE=.*") == f"BOOT_IMAGE=/boot/vmlinuz-{release}"
    assert line(boots["check"], rf"{re.escape(release)} #.*")


def test_the_root_came_through_modules_of_the_initrd(
    boots: dict[str, Boot], packages: Path
) -> None:
    if "CONFIG_MODULES=y" not in (packages / "config").read_text().splitlines():
        pytest.skip("these packages were built without modules")
    assert line(boots["check"], r"ext4 .*")
    assert line(boots["check"], r"virtio_blk .*")


def test_the_call_is_announced(boots: dict[str, Boot]) -> None:
    name = "/sys/kernel/mm/mempolicy/process_mbind/"
    assert line(boots["check"], rf"{name}nr:\d+") == f"{name}nr:900"
    assert line(boots["check"], rf"{name}version:\d+") == f"{name}version:2"


def test_node_feature_discovery_is_told(boots: dict[str, Boot]) -> None:
    assert line(boots["check"], "NFD memplace.process-mbind=.*").endswith("=true")
    assert line(boots["check"], "NFD memplace.process-mbind-version=.*").endswith("=2")
    assert line(boots["check"], "NFD memplace.process-mbind-future=.*").endswith("=true")


def test_the_call_moves_the_memory_of_another_process(boots: dict[str, Boot]) -> None:
    before, after = line(boots["check"], r"BEFORE .*"), line(boots["check"], r"AFTER .*")
    pages = MIB_16 // 4096
    assert nodes(before) == {0: pages}
    assert line(boots["check"], r"\d+ bytes") == f"{MIB_16} bytes"
    assert nodes(after) == {1: pages}
    assert "prefer (many):1" in after


def test_the_kernel_did_not_complain(boots: dict[str, Boot]) -> None:
    assert not re.search(r"BUG:|WARNING: |Oops|Call Trace:", boots["check"].console)


def test_removing_it_leaves_nothing_behind(boots: dict[str, Boot], release: str) -> None:
    assert f"Removing linux-image-{release} " in boots["check"].console
    after = boots["back"].console.partition("+ ls /boot")[2].partition("+ ")[0]
    assert "vmlinuz-" in after and release not in after


def test_then_debians_kernel_is_back(boots: dict[str, Boot]) -> None:
    assert line(boots["back"], r"BOOT_IMAGE=.*") == line(boots["install"], r"BOOT_IMAGE=.*")
