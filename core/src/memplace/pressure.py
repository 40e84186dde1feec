# SPDX-License-Identifier: Apache-2.0
"""A word for how much a container stalls on memory, that changes seldom. Pure.

The figure is ``some avg10`` of memory.pressure: the share of the last ten seconds in which at
least one task waited for memory. It changes with each look; each change of a report is a write at
each node. So there are three words, a word is left at half of what it was taken at, and only
after the figure has asked for another one for a while. A word rises soon, since somebody who
releases more nodes waits for it, and falls late.

    felt = Felt()
    felt = felt.after(reading, now)   # as often as it is read
    felt.word

Source: linux ``Documentation/accounting/psi.rst``. The thresholds are those at which moves slow
down and stop (`memplace.pacing.Limits`).
"""

from __future__ import annotations

from dataclasses import dataclass

from memplace.kinds import Pressure
from memplace.pacing import Limits

# For how long the figure has to ask for a higher word, and for a lower one.
RISE_S, FALL_S = 10.0, 60.0

# From which figure on a word is taken, in percent; the highest first.
_TAKEN_AT = ((Pressure.HIGH, Limits().stop_at), (Pressure.RAISED, Limits().slow_at))
# Below this part of it the word is left.
_LEFT_AT = 0.5


@dataclass(frozen=True, slots=True)
class Felt:
    """What is known of a container after some readings.

    Attributes:
        word: What is said of it.
        leaning: The word nearest to that one that all readings since `since` have asked for.
        since: When they began to ask for another word; seconds that only go forward.
    """

    word: Pressure = Pressure.UNKNOWN
    leaning: Pressure = Pressure.UNKNOWN
    since: float = 0.0

    def after(self, reading: float | None, now: float) -> Felt:
        """Return what is known after one more reading.

        The first figure is believed at once: nothing was said that it would be another from.

        Args:
            reading: ``some avg10`` in percent; None if there is none.
            now: When it was read.
        """
        asked = self._asked_by(reading)
        if self.word is Pressure.UNKNOWN or asked is self.word:
            return Felt(asked, asked, now)
        rises = asked.rank > self.word.rank
        if self.leaning is self.word or rises != (self.leaning.rank > self.word.rank):
            return Felt(self.word, asked, now)
        nearest = (min if rises else max)(self.leaning, asked, key=lambda word: word.rank)
        if now - self.since >= (RISE_S if rises else FALL_S):
            return Felt(nearest, nearest, now)
        return Felt(self.word, nearest, self.since)

    def _asked_by(self, reading: float | None) -> Pressure:
        if reading is None:
            return Pressure.UNKNOWN
        for word, taken_at in _TAKEN_AT:
            kept = self.word.rank >= word.rank
            if reading >= taken_at * (_LEFT_AT if kept else 1):
                return word
        return Pressure.LOW
