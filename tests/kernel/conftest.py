# SPDX-License-Identifier: Apache-2.0
"""The kernel under test and the programs that run on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from memplace_lab.base import store
from memplace_lab.machines.kernel import BROKEN
from memplace_lab.machines.microvm import Machine

from tests.kernel import running
from tests.kernel.building import Build, run
from tests.kernel.running import Ran, Run

HERE = Path(__file__).parent
PROGRAMS = store.REPO / "lab" / "programs"
SHARED = ("guest.c", "target.c")
SELFTESTS = "tools/testing/selftests/mm"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this kernel can't be asked; pytest counts it as deselected."""
    left_out = [item for item in items if item.path.name in _not_for(_kernel_path())]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _kernel_path() -> Path:
    return Path(os.environ.get("MEMPLACE_KERNEL", "/nonexistent"))


def _not_for(kernel: Path) -> set[str]:
    """Files whose tests need fault injection, or a kernel that was broken on purpose."""
    options, files = kernel.parent / "config", set()
    if not (options.is_file() and "CONFIG_FAULT_INJECTION=y" in options.read_text()):
        files.add("test_faults.py")
    if f"-{BROKEN}-" not in kernel.parent.name:
        files.add("test_broken.py")
    return files


@pytest.fixture(scope="session")
def kernel() -> Path:
    """The bzImage under test. Not having one is a failure, not a reason to skip."""
    path = _kernel_path()
    if not path.is_file():
        pytest.fail(f"set MEMPLACE_KERNEL to the bzImage that the lab built, not {path}")
    return path


@pytest.fixture(scope="session")
def selftests(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The series' own selftests, from the source and headers of the kernel, as static programs."""
    out, tree = tmp_path_factory.mktemp("selftests"), kernel.parent / "source"
    source = tree / SELFTESTS
    shared = str(source / "process_mbind_util.c")
    names = sorted({file.stem for file in source.glob("process_mbind*.c")} - {Path(shared).stem})
    assert "process_mbind" in names, f"{source} has no selftests of process_mbind()"
    flags = ("-static", "-O2", "-Wall", "-Werror", "-U_FORTIFY_SOURCE", "-D_GNU_SOURCE=")
    headers = kernel.parent / "headers" / "usr" / "include"
    include = ("-I", str(tree), "-isystem", str(headers))
    programs = []
    for name in names:
        programs.append(out / name)
        run("gcc", *flags, *include, str(source / f"{name}.c"), shared, "-o", str(out / name))
    return programs


@pytest.fixture(scope="session")
def build_init(tmp_path_factory: pytest.TempPathFactory) -> Build:
    def build(name: str, *sources: str, shared: bool = True) -> Path:
        program = tmp_path_factory.mktemp("init") / name
        names = (*sources, *(SHARED if shared else ()))
        files = [str((PROGRAMS if name in SHARED else HERE) / name) for name in names]
        flags = ("-static", "-O2", "-Wall", "-Wextra", "-Werror", "-I", str(PROGRAMS))
        run("gcc", *flags, *files, "-o", str(program))
        return program

    return build


@pytest.fixture(scope="session")
def run_on(kernel: Path, build_init: Build, tmp_path_factory: pytest.TempPathFactory) -> Run:
    init = build_init("init", "init.c", shared=False)

    def run_on(machine: Machine, programs: Sequence[Path], *commands: Sequence[str]) -> Ran:
        workdir = tmp_path_factory.mktemp("machine")
        return running.run(kernel, init, machine, workdir, programs, commands=commands)

    return run_on
