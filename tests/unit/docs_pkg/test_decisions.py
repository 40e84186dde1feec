# SPDX-License-Identifier: Apache-2.0
"""Each decision says when it was made and whether it is in force; both sides of a change agree."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import NamedTuple

import pytest

PAGES = sorted((Path(__file__).parents[3] / "docs/adr").glob("0*.md"))
HEAD = re.compile(r"# (\d{4}): .+\n\nDate: (\d{4}-\d\d-\d\d)\. Status: ((?:.+\n)+)\n", re.M)
LINK = re.compile(r"\[(\d{4})\]\(([\w.-]+)\)")
REPLACES = re.compile(r"\b[Rr]eplaces\s[^.]*?\b(\d{4})\b")


class Head(NamedTuple):
    """What a page begins with; the later pages are those that its status names."""

    number: str
    date: str
    status: str
    later: dict[str, str]


def head(page: Path) -> Head:
    found = HEAD.search(page.read_text())
    assert found, f"{page.name} lacks a line such as 'Date: 2026-11-27. Status: Accepted.'"
    number, date, status = found.groups()
    return Head(number, date, " ".join(status.split()), dict(LINK.findall(status)))


def by_name(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_a_status_is_one_of_three(page: Path) -> None:
    _, _, status, later = head(page)
    bare = LINK.sub("…", status)
    if later:
        assert re.fullmatch(r"Replaced by …\.|Accepted; .+ replaced by ….*\.", bare)
    else:
        assert bare == "Accepted."


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_the_page_that_replaces_one_says_so(page: Path) -> None:
    number, _, _, later = head(page)
    for other, name in later.items():
        assert other > number and name.startswith(other)
        assert number in REPLACES.findall((page.parent / name).read_text())


def test_the_page_that_is_replaced_says_so() -> None:
    heads = {found.number: found for found in map(head, PAGES)}
    said = {(old, page.name[:4]) for page in PAGES for old in REPLACES.findall(page.read_text())}
    assert len(said) >= 4
    assert [(old, new) for old, new in said if new not in heads[old].later] == []


def test_dates_follow_the_numbers() -> None:
    dates = [datetime.date.fromisoformat(head(page).date) for page in PAGES]
    assert dates == sorted(dates) and len(dates) > 30
