# SPDX-License-Identifier: Apache-2.0
"""docs/tests.md tells of each suite, and of none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.needs import NEEDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tests.md").read_text()
FOLDERS = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and p.name != "__pycache__"}
SUITES = {name for name in FOLDERS if any((ROOT / "tests" / name).rglob("test_*.py"))}
NOT_RUN = "not in `make test`"


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its first two lines."""
    _, _, section = PAGE.partition(f"\n## {title}\n")
    lines = re.findall(r"^\|(.*)\|$", section.partition("\n## ")[0], re.M)
    return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]


def in_order() -> list[str]:
    """Return the suites that lab/test runs."""
    (found,) = re.findall(r"^suites=\((.*)\)$", (ROOT / "lab" / "test").read_text(), re.M)
    return str(found).split()


def test_the_table_has_each_suite_once() -> None:
    names = [row[0].strip("`") for row in rows("The suites")]
    assert sorted(names) == sorted(SUITES)


def test_each_says_what_it_proves_needs_and_takes() -> None:
    assert [row for row in rows("The suites") if len(row) != 4 or not all(row)] == []
    assert [row for row in rows("The suites") if not re.search(r"\d|not measured", row[3])] == []


def test_it_says_which_ones_make_test_leaves_out() -> None:
    said = {row[0].strip("`") for row in rows("The suites") if NOT_RUN in row[3]}
    assert said == SUITES - set(in_order()) and set(in_order()) <= SUITES


def test_make_names_no_other() -> None:
    """`make test-long` named one that had another name by then, and ended before its tests."""
    lines = re.findall(r"exec lab/test ([a-z0-9_ ]+)'", (ROOT / "Makefile").read_text())
    named = {name for line in lines for name in line.split()}
    assert len(named) > 3 and named <= SUITES


def test_it_says_of_each_how_results_come_back() -> None:
    named = [
        name for row in rows("How results come back") for name in re.findall(r"`(\w+)`", row[1])
    ]
    assert sorted(named) == sorted(SUITES)


def test_other_folders_are_named_too() -> None:
    assert {name for name in FOLDERS - SUITES if f"`tests/{name}`" not in PAGE} == set()


def test_helpers_are_told_which_suites_need_programs() -> None:
    """For a name that is no suite's nothing is built, and nobody would see it."""
    assert {name for suites in NEEDS.values() for name in suites} <= SUITES
