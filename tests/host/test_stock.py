# SPDX-License-Identifier: Apache-2.0
"""The agent on a kernel that nobody patched, in a guest with two NUMA nodes."""

from __future__ import annotations

import re

import pytest

from tests.host.booting import console_of, kernel, steps_of


@pytest.fixture(scope="module")
def console() -> str:
    """What the guest printed."""
    return console_of(kernel("MEMPLACE_STOCK_KERNEL"), "stock.py")


@pytest.mark.timeout(700)
@pytest.mark.parametrize("step", steps_of("stock.py"))
def test_step(console: str, step: str) -> None:
    assert re.search(rf"^STEP {step} ok\s*$", console, re.M), console[-8000:]
