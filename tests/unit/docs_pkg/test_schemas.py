# SPDX-License-Identifier: Apache-2.0
"""The schemas in docs/schemas are those of the definitions; tests/crd has what they accept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.schemas import FOLDER, LOCATION, ROOT, closed, schemas


@pytest.mark.parametrize("path", schemas(), ids=lambda path: path.name)
def test_a_schema_is_as_it_would_be_made(path: Path) -> None:
    # python tests/support/schemas.py writes it.
    assert path.read_text() == schemas()[path]


def test_none_is_left_of_a_kind_that_went() -> None:
    assert {path for path in FOLDER.rglob("*") if path.is_file()} == set(schemas())


def test_a_field_may_be_called_like_a_word_of_schemas() -> None:
    inner = {"type": "object", "properties": {"properties": {"type": "string"}}}
    found = closed({"type": "object", "properties": {"items": inner}})
    assert found["additionalProperties"] is False
    assert found["properties"]["items"]["properties"] == {"properties": {"type": "string"}}


def test_what_is_open_stays_open() -> None:
    keeps = {"properties": {}, "x-kubernetes-preserve-unknown-fields": True}
    assert "additionalProperties" not in closed(keeps)
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    assert closed(texts) == texts


def test_the_page_says_where_they_are() -> None:
    page = (ROOT / "docs" / "placements.md").read_text()
    assert f"docs/schemas/{LOCATION}" in page
    named = [path for path in schemas() if str(path.relative_to(ROOT)) in page]
    assert [path.name for path in named] == ["memoryplacement_v1alpha1.json"]
