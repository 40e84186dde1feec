# SPDX-License-Identifier: Apache-2.0
"""Tells the tests where the programs and the kernel are, and builds what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.needs import NEEDS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the variables that the chosen suites need; a variable that is set wins."""
    from memplace_lab.cluster import binaries
    from memplace_lab.machines import kernel

    makers: dict[str, Callable[[], Path]] = {
        "MEMPLACE_BIN": binaries.build_binaries,
        "MEMPLACE_KERNEL": kernel.build_kernel,
        "MEMPLACE_STOCK_KERNEL": partial(kernel.build_kernel, flavour=kernel.UNPATCHED),
        "MEMPLACE_APPARMOR_KERNEL": partial(kernel.build_kernel, flavour="apparmor"),
    }
    suites = {item.path.relative_to(item.config.rootpath).parts[1] for item in items}
    for name, needed_by in NEEDS.items():
        if suites.intersection(needed_by) and name not in os.environ:
            os.environ[name] = str(makers[name]())
