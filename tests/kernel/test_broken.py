# SPDX-License-Identifier: Apache-2.0
"""The selftests notice what the changes in ``lab/broken-kernel`` take out of the series.

Each of these files says in lines ``Fails: CASE`` what has to fail on the kernel that was
built with all of them (`memplace_lab.machines.kernel.BROKEN`).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from memplace_lab.machines.kernel import BROKEN_BY
from memplace_lab.machines.microvm import boot

from tests.kernel.building import Build

from . import tap
from .test_selftests import MACHINES

CASES = [
    pytest.param(case, id=f"{change.stem}: {case}")
    for change in sorted(BROKEN_BY.glob("*.diff"))
    for case in re.findall(r"^Fails: (\S+)$", change.read_text(), re.MULTILINE)
]


@pytest.fixture(scope="module")
def console(
    kernel: Path,
    selftests: list[Path],
    build_init: Build,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    init = build_init("selftest_init", "selftest_init.c", shared=False)
    return boot(kernel, init, MACHINES["four_nodes"], tmp_path_factory.mktemp("vm"), selftests)


@pytest.mark.parametrize("case", CASES)
def test_the_case_fails(console: str, case: str) -> None:
    result = tap.results(console).get(case)
    assert result is not None, console[-3000:]
    assert not result.good


def test_most_cases_do_not(console: str) -> None:
    """A kernel on which nothing works would make each of them fail."""
    found = tap.results(console).values()
    assert sum(result.good for result in found) > 0.8 * len(found)
