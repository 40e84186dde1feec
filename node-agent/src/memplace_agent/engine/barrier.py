# SPDX-License-Identifier: Apache-2.0
"""Holds a container's program back until its process has the default, and not for long.

Who asks is the runtime, by NRI, and it starts no other container of the node meanwhile. So a
container is waited for 200 ms at most (a setting), and if it was in vain twice in a row, none is
for 10 s: 100 pods that start beside an agent in trouble wait less than half a second together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from memplace_agent.containers.names import normal_uid
from memplace_agent.engine.asked import Asked
from memplace_agent.engine.birth import Births
from memplace_agent.nri.messages import Starting
from memplace_agent.nri.plugin import Met

log = logging.getLogger(__name__)

_IN_VAIN = 2
_NOBODY_S = 10.0


class Barrier:
    """See the module; `start` is for one thread.

    Args:
        births: Whom to ask.
        at_most_s: How long a container is held back.
        clock: Seconds, only forward.
    """

    def __init__(
        self,
        births: Births,
        at_most_s: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._births, self._at_most_s, self._clock = births, at_most_s, clock
        self._in_vain = 0
        self._again_at = float("-inf")

    def start(self, starting: Starting) -> Met:
        """Have the process of a container given its default; back within the time."""
        pod_uid = normal_uid(starting.pod_uid)
        newborn = self._births.expects(pod_uid, starting.name)
        if newborn is None:
            return Met.NOTHING
        asked = Asked(pod_uid, starting.container_id, starting.pid, newborn)
        self._births.ask(asked)
        is_ready = asked.wait(self._patience())
        self._learn(is_late=is_ready is None)
        if is_ready is None:
            return Met.LATE
        return Met.READY if is_ready else Met.MISSED

    def _patience(self) -> float:
        return self._at_most_s if self._clock() >= self._again_at else 0.0

    def _learn(self, *, is_late: bool) -> None:
        now = self._clock()
        if not is_late:
            self._in_vain = 0
        elif now >= self._again_at:
            self._in_vain += 1
            if self._in_vain >= _IN_VAIN:
                self._again_at = now + _NOBODY_S
                log.warning("containers are not held back for a while: defaults came too late")
