# SPDX-License-Identifier: Apache-2.0
"""The kernel under test and the programs that run on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Protocol

import pytest

HERE = Path(__file__).parent
SHARED = ("guest.c", "target.c")
SELFTESTS = "tools/testing/selftests/mm"
SELFTEST_PROGRAMS = (
    "process_mbind",
    "process_mbind_cpuset",
    "process_mbind_future",
    "process_mbind_vma",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--memplace-kernel",
        default=os.environ.get("MEMPLACE_KERNEL", ""),
        help="bzImage to test, made by kernel/build (default: $MEMPLACE_KERNEL)",
    )
    parser.addoption(
        "--memplace-kernel-tree",
        default=os.environ.get("MEMPLACE_KERNEL_TREE", ""),
        help="its patched source (default: $MEMPLACE_KERNEL_TREE, or work/tree beside it)",
    )


@pytest.fixture(scope="session")
def kernel(request: pytest.FixtureRequest) -> Path:
    """The bzImage under test. Not having one is a failure, not a reason to skip."""
    given = str(request.config.getoption("--memplace-kernel"))
    if not given:
        pytest.fail("set MEMPLACE_KERNEL to the bzImage that kernel/build made")
    path = Path(given)
    if not path.is_file():
        pytest.fail(f"MEMPLACE_KERNEL: no such file: {path}")
    return path


@pytest.fixture(scope="session")
def kernel_tree(request: pytest.FixtureRequest, kernel: Path) -> Path:
    """The patched source of the kernel under test."""
    given = str(request.config.getoption("--memplace-kernel-tree"))
    path = Path(given) if given else kernel.parent / "work" / "tree"
    if not (path / SELFTESTS / "process_mbind.c").is_file():
        pytest.fail(f"set MEMPLACE_KERNEL_TREE to the patched source of the kernel, not {path}")
    return path


@pytest.fixture(scope="session")
def selftests(kernel_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The series' own selftests, from the patched source and its headers, as static programs."""
    out = tmp_path_factory.mktemp("selftests")
    run("make", "-s", "-C", str(kernel_tree), f"O={out / 'headers'}", "headers")
    source = kernel_tree / SELFTESTS
    shared = str(source / "process_mbind_util.c")
    flags = ("-static", "-O2", "-Wall", "-Werror", "-U_FORTIFY_SOURCE", "-D_GNU_SOURCE=")
    include = ("-I", str(kernel_tree), "-isystem", str(out / "headers/usr/include"))
    programs = []
    for name in SELFTEST_PROGRAMS:
        programs.append(out / name)
        run("gcc", *flags, *include, str(source / f"{name}.c"), shared, "-o", str(out / name))
    return programs


def run(*command: str) -> None:
    """Run a command; what it printed is the message if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Build(Protocol):
    """Compile files of this directory, with the shared ones if wanted, to a static program."""

    def __call__(self, name: str, *sources: str, shared: bool = True) -> Path: ...


@pytest.fixture(scope="session")
def build_init(tmp_path_factory: pytest.TempPathFactory) -> Build:
    def build(name: str, *sources: str, shared: bool = True) -> Path:
        program = tmp_path_factory.mktemp("init") / name
        files = [str(HERE / source) for source in (*sources, *(SHARED if shared else ()))]
        flags = ("-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program))
        run("gcc", *flags, *files)
        return program

    return build
