# SPDX-License-Identifier: Apache-2.0
"""What a throw-away machine's kernel is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine, command_line
from memplace_lab.machines.qemu import Hardware, Node

MACHINE = Machine(Hardware((Node(512, cpus="0"),)), append="calls=20000")


@pytest.mark.parametrize(
    ("config", "has_four_levels"),
    [
        ("CONFIG_X86_5LEVEL=y\nCONFIG_KASAN=y\n", True),
        ("CONFIG_X86_5LEVEL=y\n# CONFIG_KASAN is not set\n", False),
        ("CONFIG_X86_5LEVEL=y\nCONFIG_HAVE_ARCH_KASAN=y\n", False),
        (None, False),
    ],
)
def test_only_a_kernel_with_kasan_has_four_levels_of_page_tables(
    tmp_path: Path, config: str | None, *, has_four_levels: bool
) -> None:
    if config is not None:
        (tmp_path / "config").write_text(config)
    words = command_line(tmp_path / "bzImage", MACHINE).split()
    assert ("no5lvl" in words) is has_four_levels
    assert words[-1] == "calls=20000" and "panic=-1" in words
