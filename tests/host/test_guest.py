# SPDX-License-Identifier: Apache-2.0
"""The agent's passes on a kernel with process_mbind(), in a guest with two NUMA nodes."""

from __future__ import annotations

import re

import pytest
from memplace_lab.cluster.nri import build_adaptation

from tests.host.booting import console_of, kernel, steps_of


@pytest.fixture(scope="module")
def console() -> str:
    """What the guest printed."""
    nri = f"MEMPLACE_NRI={build_adaptation('nri-0.8')}"
    return console_of(kernel("MEMPLACE_KERNEL"), "guest.py", nri)


@pytest.mark.timeout(700)
@pytest.mark.parametrize("step", steps_of("guest.py"))
def test_step(console: str, step: str) -> None:
    assert re.search(rf"^STEP {step} ok\s*$", console, re.M), console[-8000:]
