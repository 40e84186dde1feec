# SPDX-License-Identifier: Apache-2.0
"""Objects of the API server to structs and back, with errors that name the field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from memplace.api.patterns import ADVICE
from memplace.errors import ValidationError

_T = TypeVar("_T")
_MSGSPEC_ERROR = re.compile(
    r"(?P<problem>.*?)(?: - at (?:`key` in )?`\$?(?P<path>.*)`)?", re.DOTALL
)
# A regular expression tells nobody what to write.
_UNLIKE = {f"Expected `str` matching regex {pattern!r}": words for pattern, words in ADVICE.items()}
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`")


def from_builtins(value: Any, type_: type[_T], field: str) -> _T:
    """Convert plain data to a struct.

    Raises:
        ValidationError: The data is not of that type; its field begins with `field`.
    """
    plain = dict(value) if isinstance(value, Mapping) else value
    try:
        return msgspec.convert(plain, type_)
    except msgspec.ValidationError as err:
        raise _explain(str(err), field) from err


def to_builtins(struct: msgspec.Struct) -> dict[str, Any]:
    """Turn a spec or status into plain dicts, lists, strings and numbers for the API.

    Returns:
        The object with the API's field names. Fields that are None are left out (the API
        server refuses null), zeros and empty lists of a status are kept, so that a merge
        patch overwrites what was there.
    """
    builtins: dict[str, Any] = _drop_none(msgspec.to_builtins(struct))
    return builtins


def _drop_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_drop_none(item) for item in value]
    return value


def _explain(message: str, field: str) -> ValidationError:
    match = _MSGSPEC_ERROR.fullmatch(message)
    problem, path = (match["problem"], match["path"] or "") if match else (message, "")
    unknown = _UNKNOWN_FIELD.fullmatch(problem)
    if unknown:
        return ValidationError(f"{field}{path}.{unknown[1]}", "unknown field")
    return ValidationError(f"{field}{path}", _UNLIKE.get(problem, problem))


def raise_first(findings: Iterable[tuple[str, str]]) -> None:
    """Raise the first (field, problem) as a ValidationError; do nothing without one."""
    for field, problem in findings:
        raise ValidationError(field, problem)
