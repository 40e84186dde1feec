# SPDX-License-Identifier: Apache-2.0
"""How the tests of others are judged: by exit status and TAP, before against after."""

from __future__ import annotations

import pytest
from memplace_lab.matrix.results import (
    SILENCE,
    Result,
    regressions,
    result,
    results,
    table,
    verdict,
)

CONSOLE = """\
[    1.0] Run /init as init process
NEIGHBOUR BEGIN mm/migration
| TAP version 13
| 1..3
| ok 1 migration.private_anon
| not ok 2 migration.shared_anon
| ok 3 migration.private_anon_thp # SKIP no huge pages
NEIGHBOUR END mm/migration 1 41
NEIGHBOUR BEGIN ltp/mbind01
| Summary:
| passed   7
| failed   0
NEIGHBOUR END ltp/mbind01 0 3
END run-this 0
"""


def passing(*cases: str) -> Result:
    return Result("pass", frozenset(cases), total=len(cases))


@pytest.mark.parametrize(
    ("name", "status", "expected"),
    [
        ("mm/migration", 0, "pass"),
        ("mm/migration", 4, "skip"),
        ("numactl/regress", 77, "skip"),
        ("ltp/mbind01", 32, "skip"),
        ("ltp/mbind01", 4, "fail: 4"),
        ("mm/migration", 77, "fail: 77"),
        ("numactl/regress", 124, "fail: too long"),
        ("numactl/regress", 137, "fail: too long"),
    ],
)
def test_an_exit_status_means_what_it_means_in_its_suite(
    name: str, status: int, expected: str
) -> None:
    assert verdict(name, status) == expected


def test_a_console_is_read() -> None:
    found = results(CONSOLE)
    migration = found["mm/migration"]
    assert migration.passed == {"1 migration.private_anon"}
    assert (migration.total, migration.seconds, str(migration)) == (3, 41, "fail: 1 (1 of 3)")
    assert str(found["ltp/mbind01"]) == "pass (7)"
    assert found[SILENCE].good


def test_the_count_of_the_tests_in_user_space_is_read() -> None:
    assert str(result("vma/vma", 0, ["26 tests run, 26 passed, 0 failed."])) == "pass (26)"


def test_what_only_a_test_printed_is_no_complaint_of_the_kernel() -> None:
    assert results("| WARNING: no swap")[SILENCE].good


@pytest.mark.parametrize("line", ["[ 1.0] WARNING: CPU: 0", "[ 1.0] BUG: unable", "Oops: 0"])
def test_a_complaint_of_the_kernel_is_a_regression(line: str) -> None:
    before = results(CONSOLE)
    after = results(CONSOLE.replace("| 1..3", line))
    assert len(regressions(before, after)) == 2
    assert f"mm/migration: {line}" in regressions(before, after)
    assert regressions(after, after) == []


def test_the_same_is_no_regression_whatever_failed() -> None:
    assert regressions(results(CONSOLE), results(CONSOLE)) == []


@pytest.mark.parametrize("after", [Result("fail: 1"), Result("skip"), None])
def test_what_passed_has_to_pass_again(after: Result | None) -> None:
    now = {"mm/a": passing()} | ({"mm/b": after} if after else {})
    (line,) = regressions({"mm/a": passing(), "mm/b": passing()}, now)
    assert line.startswith("mm/b: pass before, ")


@pytest.mark.parametrize("after", [Result("fail: 1"), None])
def test_what_was_skipped_must_not_begin_to_fail(after: Result | None) -> None:
    now = {"mm/a": passing()} | ({"mm/b": after} if after else {})
    (line,) = regressions({"mm/a": passing(), "mm/b": Result("skip")}, now)
    assert line.startswith("mm/b: skip before, ")


def test_a_case_counts_where_its_program_failed_before() -> None:
    before = {"mm/a": passing(), "mm/b": Result("fail: 1", frozenset({"1 x", "2 y"}), total=3)}
    after = {"mm/a": passing(), "mm/b": Result("fail: 1", frozenset({"2 y"}), total=3)}
    assert regressions(before, after) == ["mm/b: 1 x"]


def test_a_test_that_begins_to_pass_is_welcome() -> None:
    before = {"mm/a": passing(), "mm/b": Result("fail: 1")}
    assert regressions(before, {"mm/a": passing(), "mm/b": passing("1 x")}) == []


@pytest.mark.parametrize("before", [{}, {SILENCE: passing()}, {"mm/a": Result("fail: 1")}])
def test_nothing_that_passed_before_is_a_failure(before: dict[str, Result]) -> None:
    assert regressions(before, {"mm/a": passing()})


def test_every_test_has_a_line_even_if_it_ran_once() -> None:
    shown = table({"mm/a": passing("1 x")}, {"mm/b": Result("skip")}).splitlines()
    assert shown[2:] == ["| mm/a | pass (1 of 1) | did not run |", "| mm/b | did not run | skip |"]
