# SPDX-License-Identifier: Apache-2.0
"""The kernel under test and the programs that run on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHARED = ("guest.c", "target.c")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--memplace-kernel",
        default="",
        help="bzImage to test, made by kernel/build (default: $MEMPLACE_KERNEL)",
    )


@pytest.fixture(scope="session")
def kernel(request: pytest.FixtureRequest) -> Path:
    """The bzImage under test. Not having one is a failure, not a reason to skip."""
    given = str(request.config.getoption("--memplace-kernel")) or os.environ.get("MEMPLACE_KERNEL", "")
    if not given:
        pytest.fail("set MEMPLACE_KERNEL to the bzImage that kernel/build made")
    path = Path(given)
    if not path.is_file():
        pytest.fail(f"MEMPLACE_KERNEL: no such file: {path}")
    return path


@pytest.fixture(scope="session")
def build_init(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile these files of this directory, and the shared ones, to a static program."""

    def build(name: str, *sources: str) -> Path:
        program = tmp_path_factory.mktemp("init") / name
        files = [str(HERE / source) for source in (*sources, *SHARED)]
        flags = ("-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program))
        done = subprocess.run(["gcc", *flags, *files], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return program

    return build
