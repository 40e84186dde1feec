# SPDX-License-Identifier: Apache-2.0
"""Logs: one JSON object per line, with kopf's keys, so that both parts read alike."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

# What each record has; anything else came through `extra` and is part of the line.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# What is said of a thing, as against which thing it is said of.
_STATE = frozenset({"error", "reason", "detail", "state"})

# The same is said again after this time, for those who look at the last lines only.
_AGAIN_S = 600.0
# As many things at once are told apart; how many there are is not the agent's choice.
_THINGS = 4096
# Of one message about different things, in a minute.
_PER_MINUTE = 30


class JsonFormatter(logging.Formatter):
    """Formats a record as timestamp, severity, message, what `extra` holds, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a newline."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": record.levelname.lower(),
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class OncePerState(logging.Filter):
    """Lets a warning or error about a thing pass once, until something else is said of it.

    A pass says the same of a process that fails each time it comes by. Also bounds what many
    things, such as a tenant's processes, can write into the log. DEBUG and INFO always pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._said: OrderedDict[Any, tuple[Any, float]] = OrderedDict()
        self._minutes: dict[Any, tuple[float, int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written; adds how many were not."""
        if record.levelno < logging.WARNING:
            return True
        message = (record.name, record.msg)
        with self._lock:
            return self._is_news(message, record) and self._has_room(message, record)

    def _is_news(self, message: Any, record: logging.LogRecord) -> bool:
        extra = _extra(record)
        thing = (message, str({k: v for k, v in extra.items() if k not in _STATE}))
        state = (
            str({k: v for k, v in extra.items() if k in _STATE}),
            str(record.args),
            repr(record.exc_info[1]) if record.exc_info else "",
        )
        before = self._said.get(thing)
        if before is not None and before[0] == state and self._clock() - before[1] < _AGAIN_S:
            return False
        self._said[thing] = (state, self._clock())
        self._said.move_to_end(thing)
        if len(self._said) > _THINGS:
            self._said.popitem(last=False)
        return True

    def _has_room(self, message: Any, record: logging.LogRecord) -> bool:
        since, count, dropped = self._minutes.get(message, (self._clock(), 0, 0))
        if self._clock() - since >= 60:
            since, count = self._clock(), 0
        if count >= _PER_MINUTE:
            self._minutes[message] = (since, count, dropped + 1)
            return False
        if dropped:
            record.not_written = dropped
        self._minutes[message] = (since, count + 1, 0)
        return True


def configure(level: str) -> None:
    """Send all logs to standard error in that form."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    if level != "DEBUG":
        handler.addFilter(OncePerState())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}
