# SPDX-License-Identifier: Apache-2.0
"""Variables set fields, and those that are not there leave them alone."""

from __future__ import annotations

import pytest
from memplace.environment import given, log_level
from memplace.errors import ValidationError

VARIABLES = {"LEVEL": ("level", log_level)}


def test_what_is_set_is_read_in_any_case() -> None:
    assert given({"LEVEL": "Debug", "OTHER": "x"}, VARIABLES) == {"level": "DEBUG"}


@pytest.mark.parametrize("env", [{}, {"LEVEL": ""}], ids=["missing", "empty"])
def test_what_is_missing_or_empty_leaves_the_default(env: dict[str, str]) -> None:
    assert given(env, VARIABLES) == {}


def test_what_makes_no_sense_is_named() -> None:
    with pytest.raises(ValidationError, match="LEVEL: write one of DEBUG"):
        given({"LEVEL": "loud"}, VARIABLES)
