# SPDX-License-Identifier: Apache-2.0
"""Environment variables, as operator and agent read them. Pure.

A variable that is missing or empty leaves the default of the field that it sets, so that a
default is told in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from memplace.errors import ValidationError

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

# Takes the name of a variable and its text.
Read = Callable[[str, str], Any]


def given(env: Mapping[str, str], variables: Mapping[str, tuple[str, Read]]) -> dict[str, Any]:
    """Return the fields that variables set.

    Args:
        env: The environment.
        variables: By name, the field and what reads the text.

    Raises:
        ValidationError: A text makes no sense; names the variable.

    Example:
        >>> given({"LEVEL": "info"}, {"LEVEL": ("level", log_level)})
        {'level': 'INFO'}
    """
    return {
        field: read(name, text)
        for name, (field, read) in variables.items()
        if (text := env.get(name))
    }


def log_level(name: str, text: str) -> str:
    """Read one of `LOG_LEVELS`, in any case.

    Raises:
        ValidationError: It is another word.
    """
    level = text.upper()
    if level not in LOG_LEVELS:
        raise ValidationError(name, f"write one of {', '.join(LOG_LEVELS)}")
    return level


def port(name: str, text: str) -> int:
    """Read the number of a port.

    Raises:
        ValidationError: It is none from 1 to 65535.
    """
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValidationError(name, "write a port from 1 to 65535")
    return int(text)
