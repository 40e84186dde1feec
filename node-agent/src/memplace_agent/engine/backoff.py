# SPDX-License-Identifier: Apache-2.0
"""How long to leave alone what failed; pure, for containers, processes, anything with a key."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

# 2 to this power is more than any limit; keeps the float finite for what fails for a year.
_MAX_DOUBLINGS = 40


@dataclass(slots=True)
class _Failed:
    times: int
    until: float


class Backoffs(Generic[K]):
    """Exponential backoff per key; the clock is the caller's.

    Args:
        first_s: Seconds after the first failure; doubled by each one more.
        limit_s: At most this.

    Example:
        >>> backoffs = Backoffs[int](first_s=1, limit_s=300)
        >>> backoffs.failed(4711, now=0.0), backoffs.failed(4711, now=1.0)
        (1.0, 3.0)
        >>> backoffs.is_ready(4711, now=2.9), backoffs.is_ready(4711, now=3.0)
        (False, True)
    """

    def __init__(self, *, first_s: float, limit_s: float) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._failed: dict[K, _Failed] = {}

    def __len__(self) -> int:
        return len(self._failed)

    def failed(self, key: K, now: float, *, free: int = 0) -> float:
        """Count a failure; returns when the next try is due: the first `free` cost no wait."""
        times = self.times(key)
        doublings = min(times - free, _MAX_DOUBLINGS)
        wait = min(self._limit_s, self._first_s * 2.0**doublings) if doublings >= 0 else 0.0
        self._failed[key] = _Failed(times + 1, now + wait)
        return now + wait

    def succeeded(self, key: K) -> None:
        """Forget the failures of a key, or the key, if it is gone."""
        self._failed.pop(key, None)

    def times(self, key: K) -> int:
        """Return how often a key failed in a row."""
        failed = self._failed.get(key)
        return failed.times if failed else 0

    def is_ready(self, key: K, now: float) -> bool:
        """Return whether a key may be tried."""
        failed = self._failed.get(key)
        return failed is None or now >= failed.until

    def keep(self, keys: Collection[K]) -> None:
        """Forget all keys but these: those that ended."""
        self._failed = {key: failed for key, failed in self._failed.items() if key in keys}
