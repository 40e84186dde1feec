# SPDX-License-Identifier: Apache-2.0
"""What is asked about containers: threads that serve HTTP ask, the one that decides answers.

Nothing is kept for those who may ask some day: an answer is made when it is asked for, at the
next turn of the thread that decides, as text; a few are kept for a moment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from memplace.explained import SCHEMA, ContainerExplained, ContainerListed

log = logging.getLogger(__name__)

# What was asked for just now is not looked at again.
_FRESH_S = 5.0
# Answers are some 100 KiB; who asks about all containers of a node is served one by one.
_MOST_KEPT = 4
_KEPT_S = 60.0
_MOST_ASKED = 16
# Shorter than the deadline of a connection.
_WAIT_S = 4.0

_PATH = "/v1/containers"
_LONGEST_ID = 256
_LIST = ""


class Explains(Protocol):
    """Knows containers. Only the thread that decides asks it."""

    def listed(self) -> Sequence[ContainerListed]:
        """Return the containers that follow a placement."""

    def explained(self, container_id: str) -> ContainerExplained | None:
        """Look at one; None if it follows no placement, or is none."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    made_at: float


class Explainer:
    """See the module."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wait_s: float = _WAIT_S
    ) -> None:
        self._clock = clock
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._asked: dict[str, None] = {}
        self._answers: dict[str, _Answer] = {}

    def route(self, path: str) -> tuple[int, bytes]:
        """Answer an HTTP request: status and body. Reads nothing of any process."""
        if path == _PATH:
            return self._ask(_LIST)
        before, _, container_id = path.rpartition("/")
        if before == _PATH and 0 < len(container_id) <= _LONGEST_ID:
            return self._ask(container_id)
        return _problem(404, f"there are {_PATH} and {_PATH}/ID")

    def serve(self, explains: Explains) -> None:
        """Answer what is asked: the list, and at most one container. Costs nothing unless."""
        now = self._clock()
        with self._changed:
            for key in [k for k, each in self._answers.items() if now - each.made_at > _KEPT_S]:
                del self._answers[key]
            asked = list(self._asked)
        if _LIST in asked:
            self._answer(_LIST, 200, msgspec.json.encode(list(explains.listed())))
        container_id = next((key for key in asked if key != _LIST), None)
        if container_id is not None:
            self._answer(container_id, *_explained(explains, container_id))

    def _answer(self, key: str, status: int, body: bytes) -> None:
        with self._changed:
            self._asked.pop(key, None)
            self._answers.pop(key, None)
            self._answers[key] = _Answer(status, body, self._clock())
            while len(self._answers) > _MOST_KEPT:
                del self._answers[next(iter(self._answers))]
            self._changed.notify_all()

    def _ask(self, key: str) -> tuple[int, bytes]:
        with self._changed:
            if self._fresh(key) is None:
                if len(self._asked) >= _MOST_ASKED:
                    return _problem(503, "too many ask; try again")
                self._asked[key] = None
                self._changed.wait_for(lambda: self._fresh(key) is not None, self._wait_s)
            answer = self._fresh(key)
            now = self._clock()
        if answer is None:
            return _problem(503, "the agent has not looked at it yet; try again (see /readyz)")
        if answer.status != 200:
            return answer.status, answer.body
        name = "containers" if key == _LIST else "container"
        document = {
            "schema": SCHEMA,
            "ageSeconds": round(now - answer.made_at, 1),
            name: msgspec.Raw(answer.body),
        }
        return 200, msgspec.json.encode(document) + b"\n"

    def _fresh(self, key: str) -> _Answer | None:
        answer = self._answers.get(key)
        return answer if answer and self._clock() - answer.made_at <= _FRESH_S else None


def _explained(explains: Explains, container_id: str) -> tuple[int, bytes]:
    try:
        found = explains.explained(container_id)
    except Exception as err:  # whoever asks must not stop the thread that decides
        log.warning("can't be explained", extra={"container": container_id}, exc_info=True)
        return _problem(500, f"it can't be looked at: {err!r}")
    if found is None:
        return _problem(404, f"no container {container_id} on this node follows a placement")
    return 200, msgspec.json.encode(found)


def _problem(status: int, text: str) -> tuple[int, bytes]:
    return status, msgspec.json.encode({"schema": SCHEMA, "problem": text}) + b"\n"
