# SPDX-License-Identifier: Apache-2.0
"""A container that somebody waits for: its program runs when it is answered, or after a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from memplace_agent.engine.expected import Newborn


@dataclass(slots=True, eq=False)
class Asked:
    """What one thread asks and another answers.

    Attributes:
        pod_uid: With dashes.
        container_id: The runtime's.
        pid: Of the process that will execute the program; 0 if that is not known.
        newborn: What the container is to have.
        is_ready: That process has it; None before the answer.
    """

    pod_uid: str
    container_id: str
    pid: int
    newborn: Newborn
    is_ready: bool | None = None
    _answered: threading.Event = field(default_factory=threading.Event)

    def answer(self, *, is_ready: bool) -> None:
        """Let the one who waits go on."""
        self.is_ready = is_ready
        self._answered.set()

    def wait(self, seconds: float) -> bool | None:
        """Return the answer, None if there is none within that time."""
        self._answered.wait(seconds)
        return self.is_ready
