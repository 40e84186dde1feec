# SPDX-License-Identifier: Apache-2.0
"""Lay texts out in columns that fit a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memplace_agent.cli.screen import Screen

_GAP = 2
# Of a column that is shortened.
_LEAST = 12


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        title: Its head.
        right: Its texts end below each other.
        shrinks: Its texts are shortened first where there is no room.
    """

    title: str
    right: bool = False
    shrinks: bool = False


def printable(text: str) -> str:
    """Return a text with escapes in place of what is not printable."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text
    )


def shorten_middle(text: str, width: int, mark: str = "…") -> str:
    """Return a text of at most so many characters: begin and end are kept, the end longer."""
    if len(text) <= width:
        return text
    room = max(width - len(mark), 0)
    first = room // 3
    return text[:first] + mark + text[len(text) - (room - first) :]


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], screen: Screen | None
) -> Iterator[str]:
    """Yield a head and a line for each row.

    Args:
        columns: The columns.
        rows: For each row, a text for each column.
        screen: What it has to fit; None lets lines be as long as they are.
    """
    widths = [
        max(len(column.title), *(len(row[at]) for row in rows), 0)
        for at, column in enumerate(columns)
    ]
    mark = "…" if screen is None or screen.blocks else "..."
    if screen is not None:
        _fit(columns, widths, screen.width)
    for row in ([column.title for column in columns], *rows):
        cells = [shorten_middle(t, width, mark) for t, width in zip(row, widths, strict=True)]
        yield (
            (" " * _GAP)
            .join(
                f"{cell:>{width}}" if column.right else f"{cell:<{width}}"
                for column, cell, width in zip(columns, cells, widths, strict=True)
            )
            .rstrip()
        )


def _fit(columns: Sequence[Column], widths: list[int], width: int) -> None:
    # First what may shrink, then whatever is widest.
    over = sum(widths) + _GAP * (len(widths) - 1) - width
    for at, column in enumerate(columns):
        if over > 0 and column.shrinks:
            less = min(over, max(widths[at] - _LEAST, 0))
            widths[at], over = widths[at] - less, over - less
    while over > 0 and max(widths) > _LEAST:
        widest = max(range(len(widths)), key=lambda at: widths[at])
        widths[widest], over = widths[widest] - 1, over - 1
