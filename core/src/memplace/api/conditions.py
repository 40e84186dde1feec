# SPDX-License-Identifier: Apache-2.0
"""Conditions of a status: metav1.Condition and how one changes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec

ConditionStatus = Literal["True", "False", "Unknown"]

# metav1.Condition allows 32768; nobody reads that much in a terminal, and a message
# beyond the schema's limit would make the API server refuse the whole status.
MESSAGE_MAX = 1024


class Condition(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One condition, with the fields of metav1.Condition."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    last_transition_time: datetime
    observed_generation: int = 0


def find_condition(conditions: Iterable[Condition], type: str) -> Condition | None:  # noqa: A002
    """Return the condition of that type, or None."""
    return next((c for c in conditions if c.type == type), None)


def is_true(conditions: Iterable[Condition], type: str) -> bool:  # noqa: A002
    """Return whether the condition of that type exists and has status True."""
    found = find_condition(conditions, type)
    return found is not None and found.status == "True"


def set_condition(
    conditions: Iterable[Condition],
    type: str,  # noqa: A002  the API's word
    *,
    status: ConditionStatus,
    reason: str,
    message: str,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """Return the conditions with one of them set; order is kept, new ones go last.

    Args:
        conditions: The conditions so far, at most one per type.
        type: Which one to set.
        status: ``True``, ``False`` or ``Unknown``.
        reason: PascalCase, for machines.
        message: For people; cut to MESSAGE_MAX characters.
        generation: metadata.generation that was looked at.
        now: An aware time, taken as lastTransitionTime (whole seconds, UTC) only when
            the status changes or the condition is new.
    """
    before = tuple(conditions)
    old = find_condition(before, type)
    unchanged = old is not None and old.status == status
    new = Condition(
        type=type,
        status=status,
        reason=reason,
        message=shorten(message),
        last_transition_time=old.last_transition_time if old and unchanged else _seconds(now),
        observed_generation=generation,
    )
    if old is None:
        return (*before, new)
    return tuple(new if c.type == type else c for c in before)


def shorten(message: str, limit: int = MESSAGE_MAX) -> str:
    """Cut a text to so many characters; the cut shows as an ellipsis."""
    return message if len(message) <= limit else message[: limit - 1] + "…"


def _seconds(now: datetime) -> datetime:
    # metav1.Time has whole seconds; fractions would differ after a round trip.
    return now.astimezone(UTC).replace(microsecond=0)
