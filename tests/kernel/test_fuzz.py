# SPDX-License-Identifier: Apache-2.0
"""Random calls on processes that change, fork and die meanwhile; see fuzz.c for what holds.

MEMPLACE_FUZZ_CALLS and MEMPLACE_FUZZ_SEED say how many, and which; `memplace_lab.matrix.fuzz`
makes millions of them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from memplace_lab.machines.microvm import Machine, boot
from memplace_lab.machines.qemu import Hardware, Node

from tests.kernel.building import Build

from . import tap

CALLS = int(os.environ.get("MEMPLACE_FUZZ_CALLS", "20000"))
SEED = int(os.environ.get("MEMPLACE_FUZZ_SEED", "1"))
# 500 to 2,000 calls a second were seen under emulation, by how busy the machine was
MACHINE = Machine(
    # No target's cpuset ever has the last node, callers' have
    Hardware((Node(512, cpus="0-1"), Node(128), Node(128), Node(128))),
    append=f"transparent_hugepage=always seed={SEED} calls={CALLS}",
    timeout_s=300 + CALLS / 50,
)


@pytest.fixture(scope="module")
def console(kernel: Path, build_init: Build, tmp_path_factory: pytest.TempPathFactory) -> str:
    init = build_init("fuzz", "fuzz.c", "fuzz_request.c", "fuzz_target.c", "guest.c", shared=False)
    return boot(kernel, init, MACHINE, tmp_path_factory.mktemp("vm"))


def test_no_call_breaks_anything(console: str) -> None:
    result = tap.results(console).get("fuzz")
    assert result is not None, console[-3000:]
    assert result.good, "\n".join(result.notes)


def test_the_calls_do_something(console: str) -> None:
    """Arguments that are all refused would prove nothing."""
    found = re.search(r"# (\d+) calls, (\d+) of them moved memory, (\d+) targets killed", console)
    assert found, console[-3000:]
    calls, moved, killed = map(int, found.groups())
    assert calls > 0.9 * CALLS
    assert moved > CALLS / 100
    assert killed > 4
    looked = re.search(r"# (\d+) pages looked at, (\d+) changes of the callers' cpuset", console)
    assert looked, console[-3000:]
    pages, changes = map(int, looked.groups())
    assert pages > CALLS / 10
    # Each meets the calls of eight callers, and takes as long as moving their memory does
    assert changes > CALLS / 2000


def test_the_kernel_did_not_complain(console: str) -> None:
    assert tap.splats(console) == []
