# SPDX-License-Identifier: Apache-2.0
"""Shell patterns for whole texts, as fnmatch.fnmatchcase() means them, at a cost that is counted.

A tenant writes the patterns, and a program of the tenant's names its mappings: together they
could keep whoever compares them busy for hours. So a pattern is matched part by part, from one
``*`` to the next, without ever going back; the longest that takes is counted before it is done;
and each distinct text is compared once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import translate
from typing import NamedTuple

from memplace.errors import RulesTooCostly

# Units of `Work`; one is a nanosecond or two. What a comparison costs whatever it compares.
_EACH = 150
# Up to that many comparisons of letters str.find() is the quickest; at worst it needs them all.
_QUICK = 4096
# What a search costs whatever it searches, and what it costs to compare a letter just once.
_SEARCH = 200
_ONCE = 3
# Characters of texts that are kept, each with some for the text's own overhead.
_KEPT = 1 << 20
_PER_TEXT = 64


class Work:
    """What a piece of work may still cost.

    Args:
        units: How much, in units of a nanosecond or two.
        about: What it is about, for people.
    """

    __slots__ = ("_about", "_left")

    def __init__(self, units: int, about: str) -> None:
        self._left, self._about = units, about

    def spend(self, units: int) -> None:
        """Ask before something is done.

        Raises:
            RulesTooCostly: There are fewer units left.
        """
        self._left -= units
        if self._left < 0:
            raise RulesTooCostly(self._about)


class _Part(NamedTuple):
    # What is between two stars: text of the pattern, and how many letters it matches.
    text: str
    length: int
    is_literal: bool


class _Segment:
    # A part, compiled when it is needed: that takes longer than to compare it.

    __slots__ = ("_is_literal", "_regex", "_text", "length", "width")

    def __init__(self, part: _Part) -> None:
        self._text, self.length, self._is_literal = part
        # How often a search compares a letter of the text at most. The regex of a literal needs
        # to do so once (Python Modules/_sre/sre_lib.h: "overlap table").
        self.width = _ONCE if part.is_literal else part.length
        self._regex: re.Pattern[str] | None = None

    def is_at(self, text: str, at: int) -> bool:
        if self._is_literal:
            return text.startswith(self._text, at)
        return self._compiled.match(text, at) is not None

    def find(self, text: str, start: int, end: int) -> int:
        # Where it is first, wholly between two places; -1 for nowhere.
        if self._is_literal and (end - start) * self.length <= _QUICK:
            return text.find(self._text, start, end)
        found = self._compiled.search(text, start, end)
        return found.start() if found else -1

    @property
    def _compiled(self) -> re.Pattern[str]:
        if self._regex is None:
            text = self._text
            self._regex = re.compile(
                re.escape(text) if self._is_literal else _without_end(translate(text))
            )
        return self._regex


class Glob:
    """A shell pattern: ``*`` is any text, ``?`` any letter, ``[...]`` one of some letters."""

    __slots__ = ("_edges", "_head", "_least", "_middle", "_tail", "_width")

    def __init__(self, pattern: str) -> None:
        head, *others = (_Segment(part) for part in _parts(pattern))
        self._head = head
        self._tail = others.pop() if others else None
        self._middle = [segment for segment in others if segment.length]
        segments = [head, *others, *([self._tail] if self._tail else [])]
        self._least = sum(segment.length for segment in segments)
        self._width = max((segment.width for segment in self._middle), default=0)
        self._edges = _EACH + head.width + (self._tail.width if self._tail else 0)

    def matches(self, text: str, work: Work) -> bool:
        """Return whether it matches the whole text.

        Raises:
            RulesTooCostly: The comparison could cost more than is left.
        """
        work.spend(self._edges)
        head, tail = self._head, self._tail
        if tail is None:
            return len(text) == head.length and head.is_at(text, 0)
        end = len(text) - tail.length
        if len(text) < self._least or not (head.is_at(text, 0) and tail.is_at(text, end)):
            return False
        # The first place of each segment leaves most to the next: no other has to be tried.
        at = head.length
        work.spend((end - at) * self._width + len(self._middle) * _SEARCH)
        for segment in self._middle:
            at = segment.find(text, at, end)
            if at < 0:
                return False
            at += segment.length
        return True


class Globs:
    """Patterns for one kind of text; each has a bit.

    Example:
        >>> globs = Globs()
        >>> globs.bit("io-*"), globs.bit("*"), globs.bit("io-*"), globs.bit("")
        (1, 2, 1, 0)
        >>> globs.matching("heap", Work(1000, "an example"))
        2
    """

    def __init__(self) -> None:
        self._bits: dict[str, int] = {"": 0}
        self._globs: list[tuple[int, Glob]] = []
        self._known: dict[str, int] = {}
        self._room = _KEPT

    def bit(self, pattern: str) -> int:
        """Return the bit of a pattern, 0 of an empty one; all are asked for before a text is."""
        if pattern not in self._bits:
            self._bits[pattern] = 1 << (len(self._bits) - 1)
        return self._bits[pattern]

    def matching(self, text: str, work: Work) -> int:
        """Return the bits of the patterns that match a text.

        Raises:
            RulesTooCostly: To compare it could cost more than is left.
        """
        known = self._known.get(text)
        if known is None:
            if not self._globs:
                # Now, for to make a matcher is to be quick: nobody bounds how many there are.
                self._globs = [(bit, Glob(glob)) for glob, bit in self._bits.items() if bit]
            known = sum(bit for bit, glob in self._globs if glob.matches(text, work))
            self._keep(text, known)
        return known

    def _keep(self, text: str, bits: int) -> None:
        # A program chooses the texts: only so many letters are kept.
        self._room -= len(text) + _PER_TEXT
        if self._room < 0:
            self._known.clear()
            self._room = _KEPT - len(text) - _PER_TEXT
        self._known[text] = bits


def _parts(pattern: str) -> Iterator[_Part]:
    # Yields at least one; stars in brackets are letters, and a bracket that is not closed is one.
    start = at = length = 0
    is_literal = True
    while at < len(pattern):
        letter = pattern[at]
        if letter == "*":
            yield _Part(pattern[start:at], length, is_literal)
            start, length, is_literal = at + 1, -1, True
        elif letter == "?":
            is_literal = False
        elif letter == "[" and (close := _close(pattern, at + 1)) >= 0:
            at, is_literal = close, False
        at, length = at + 1, length + 1
    yield _Part(pattern[start:], length, is_literal)


def _close(pattern: str, at: int) -> int:
    # Where brackets close whose content begins there; -1 if they do not.
    if pattern.startswith("!", at):
        at += 1
    return pattern.find("]", at + 1 if pattern.startswith("]", at) else at)


def _without_end(regex: str) -> str:
    # Python 3.14 writes \z for what was \Z.
    return regex.removesuffix(r"\Z").removesuffix(r"\z")
