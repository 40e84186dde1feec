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

from tests.kernel.running import Ran, Run

from .test_selftests import MACHINES

CASES = [
    pytest.param(case, id=f"{change.stem}: {case}")
    for change in sorted(BROKEN_BY.glob("*.diff"))
    for case in re.findall(r"^Fails: (\S+)$", change.read_text(), re.MULTILINE)
]


@pytest.fixture(scope="module")
def ran(run_on: Run, selftests: list[Path]) -> Ran:
    return run_on(MACHINES["four_nodes"], selftests)


def test_it_ran_to_its_end(ran: Ran, selftests: list[Path]) -> None:
    """As far as it has to: a program with a case that failed ends with a status."""
    assert ran.trouble == ""
    assert list(ran.report.top.cases) == [program.name for program in selftests], ran.told[-1000:]


@pytest.mark.parametrize("case", CASES)
def test_the_case_fails(ran: Ran, case: str) -> None:
    result = ran.cases.get(case)
    assert result is not None, ran.told[-1000:] + ran.console[-3000:]
    assert not result.good


def test_most_cases_do_not(ran: Ran) -> None:
    """A kernel on which nothing works would make each of them fail."""
    found = ran.cases.values()
    assert sum(result.good for result in found) > 0.8 * len(found)
