# SPDX-License-Identifier: Apache-2.0
"""Variables set fields, and those that are not there leave them alone."""

from __future__ import annotations

import pytest
from memplace.environment import given, log_level, port
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


@pytest.mark.parametrize("text", ["0", "65536", "-1", "8080.5", "web"])
def test_a_port_is_a_number_from_1_to_65535(text: str) -> None:
    assert (port("PORT", "1"), port("PORT", "65535")) == (1, 65535)
    with pytest.raises(ValidationError, match="PORT: write a port"):
        port("PORT", text)
