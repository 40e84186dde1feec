# SPDX-License-Identifier: Apache-2.0
"""The glossary's words are in the code where it says."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
ROWS = [
    [cell.strip() for cell in row.strip("|").split(" | ")]
    for row in re.findall(r"^\| (?!word \|).+ \|$", (DOCS / "glossary.md").read_text(), re.M)
]


def test_each_word_is_there_once_with_three_cells() -> None:
    words = Counter(word for row in ROWS for word in row[0].split(", "))
    assert [row for row in ROWS if len(row) != 3] == []
    assert [word for word, count in words.items() if count > 1] == []
    assert {"region", "mapping", "VMA", "range", "node", "NUMA node", "default"} <= set(words)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0]))
def test_the_code_has_it(row: list[str]) -> None:
    found = re.fullmatch(r"`(\w+)` in `(memplace[\w.]*)`", row[2])
    assert found, row[2]
    name, module = found.groups()
    assert hasattr(importlib.import_module(module), name)


def test_people_find_it() -> None:
    assert "(glossary.md)" in (DOCS / "concepts.md").read_text()
