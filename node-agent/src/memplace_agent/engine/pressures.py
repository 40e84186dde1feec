# SPDX-License-Identifier: Apache-2.0
"""Feel how much each container stalls on memory, and keep a word for it: see `memplace.pressure`.

The kernel works the figures out every two seconds; to read one takes it a look at each CPU. So
they are read every few seconds, in a bounded part of a core.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from memplace.kinds import Pressure
from memplace.pressure import Felt

from memplace_agent.containers.refs import CgroupRef
from memplace_agent.metrics import Metrics
from memplace_agent.node.psi import cgroup_pressure

# How often at most.
BEAT_S = 2.0
# And not before this many times what the last one took: half a percent of a core at most.
_REST = 199.0


class Pressures:
    """What was felt at the last beat. For one thread.

    Args:
        metrics: Where containers are counted by their words.
        clock: Seconds, only forward.
        cost: The same, of what is to be bounded.
        read: Returns ``some avg10`` of a cgroup in percent; None where there is none.

    Example:
        >>> if pressures.beat({"c0ffee": ref}):
        ...     say(pressures.of("c0ffee"))
    """

    def __init__(
        self,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.perf_counter,
        read: Callable[[Path], float | None] = cgroup_pressure,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._cost = cost
        self._read = read
        self._felt: dict[str, Felt] = {}
        self._next_at = float("-inf")

    def of(self, container_id: str) -> Pressure:
        """Return the word for a container."""
        felt = self._felt.get(container_id)
        return Pressure.UNKNOWN if felt is None else felt.word

    def beat(self, containers: Mapping[str, CgroupRef]) -> bool:
        """Return whether a word has changed since the last beat; others are forgotten.

        Before the next beat is due nothing is read, but of containers that are new here: what is
        said of them the first time is to be true.
        """
        now, before = self._clock(), self._felt
        is_due = now >= self._next_at
        if not is_due and containers.keys() <= before.keys():
            return False
        begin = self._cost()
        self._felt = {
            id_: before.get(id_, Felt()).after(self._read(ref.path), now)
            if is_due or id_ not in before
            else before[id_]
            for id_, ref in containers.items()
        }
        if is_due:
            self._next_at = now + max(BEAT_S, (self._cost() - begin) * _REST)
        self._count()
        return any(felt.word is not _word(before.get(id_)) for id_, felt in self._felt.items())

    def _count(self) -> None:
        found = Counter(felt.word for felt in self._felt.values())
        for word in Pressure:
            self._metrics.memory_pressure.labels(word).set(found[word])


def _word(felt: Felt | None) -> Pressure:
    return Pressure.UNKNOWN if felt is None else felt.word
