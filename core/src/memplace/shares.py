# SPDX-License-Identifier: Apache-2.0
"""Fair turns by bytes: whoever has had least is next, and nobody saves up."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Shares(Generic[Key]):
    """How much each of those who queue has had.

    One who comes new, or again, starts level with the one who has had least: to stay away
    earns nothing, and to have been served alone costs nothing.
    """

    def __init__(self) -> None:
        self._had: dict[Key, int] = {}

    def order(self, queued: Iterable[Key]) -> list[Key]:
        """Return those who queue, each once, the next one first; all others are forgotten."""
        here = dict.fromkeys(queued)
        self._had = {key: had for key, had in self._had.items() if key in here}
        least = min(self._had.values(), default=0)
        for key in here:
            self._had.setdefault(key, least)
        return sorted(here, key=self._had.__getitem__)

    def ranks(self, queued: Iterable[Key]) -> dict[Key, int]:
        """Return whose turn it is, from 0, of each in `order`."""
        return {key: rank for rank, key in enumerate(self.order(queued))}

    def charge(self, key: Key, size: int) -> None:
        """Book a turn of that many bytes on one who queues."""
        self._had[key] = self._had.get(key, 0) + size
