# SPDX-License-Identifier: Apache-2.0
"""Bars for a terminal: a letter for each tier, so that they can be read without colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from memplace.api.v1alpha1 import TierBytes
from memplace.explain_rules import human_bytes
from rich.text import Text

from memplace_cli.picture import Bar, Picture, shares, tier_names
from memplace_cli.words import printable

_WIDTH = 24
_PICTURE = 60
_LABEL = 24
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")

# Letter and colour of each tier.
Letters = Mapping[str, tuple[str, str]]


def letters_of(names: Iterable[str]) -> Letters:
    """Give each tier a letter: the first of its name, or of what is left of the alphabet."""
    taken: dict[str, str] = {}
    for name in sorted(set(names)):
        choice = [c for c in name.upper() if c.isalnum()] + list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        taken[name] = next((c for c in choice if c not in taken.values()), "#")
    colours = (_COLOURS[at % len(_COLOURS)] for at in range(len(taken)))
    return {name: (taken[name], colour) for name, colour in zip(taken, colours, strict=True)}


def bar(
    tiers: Sequence[TierBytes], whole: int, largest: int, letters: Letters, width: int = _WIDTH
) -> Text:
    """Draw what is on each tier; a tier that has anything at all has a letter.

    Args:
        tiers: Where the bytes are.
        whole: Their sum.
        largest: What fills the whole width.
        letters: Letter and colour of each tier.
        width: In characters.
    """
    drawn = Text()
    if not whole or not largest:
        return drawn
    there = [tier for tier in tiers if tier.bytes]
    length = max(round(width * whole / largest), len(there))
    for tier, cells in zip(there, shares([t.bytes for t in there], length), strict=True):
        letter, colour = letters[tier.name]
        drawn.append(letter * cells, colour)
    return drawn


def key(letters: Letters) -> Text:
    """Say which letter is which tier."""
    found = Text("bars: ")
    for name, (letter, colour) in letters.items():
        found.append(letter * 3, colour).append(f" {printable(name)}  ")
    return found


def draw(picture: Picture) -> Iterator[Text]:
    """Draw a picture: a line for each bar, those below it indented; nothing if all is empty."""
    letters = letters_of(tier_names(picture.bars))
    if not letters:
        return
    lines = list(_lines(picture.bars, 0))
    width = min(max(len(each.label) + indent for each, indent in lines), _LABEL)
    for each, indent in lines:
        label = " " * indent + printable(each.label)
        if len(label) > width:
            label = f"{label[: width - 1]}~"
        line = Text(label.ljust(width + 2))
        drawn = bar(each.tiers, each.bytes, picture.largest, letters, _PICTURE)
        line.append_text(drawn).append(" " * (_PICTURE - len(drawn)))
        line.append(f"  {human_bytes(each.bytes) if each.bytes else '-'}")
        if each.misplaced_bytes:
            line.append(f", {human_bytes(each.misplaced_bytes)} misplaced", "yellow")
        yield line
    yield key(letters)


def _lines(bars: Iterable[Bar], indent: int) -> Iterator[tuple[Bar, int]]:
    for each in bars:
        yield each, indent
        yield from _lines(each.below, indent + 2)
