# SPDX-License-Identifier: Apache-2.0
"""A line per state, not per pass."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys

import pytest
from memplace_agent.log import JsonFormatter, OncePerState


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def written():
    clock, text = Clock(), io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(OncePerState(clock))
    logger = logging.getLogger("test-once-per-state")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel("INFO")

    def lines():
        return [json.loads(line) for line in text.getvalue().splitlines()]

    return logger, clock, lines


def test_the_same_of_the_same_thing_is_said_once(written) -> None:
    logger, clock, lines = written
    for _ in range(50):
        logger.warning("process failed", extra={"pid": 7, "error": "EACCES"})
        clock.now += 2
    assert len(lines()) == 1
    clock.now += 600
    logger.warning("process failed", extra={"pid": 7, "error": "EACCES"})
    assert len(lines()) == 2


def test_another_state_or_another_thing_is_news(written) -> None:
    logger, _, lines = written
    logger.warning("process failed", extra={"pid": 7, "error": "EACCES"})
    logger.warning("process failed", extra={"pid": 8, "error": "EACCES"})
    logger.warning("process failed", extra={"pid": 7, "error": "EIO"})
    logger.warning("process failed", extra={"pid": 7, "error": "EACCES"})
    assert len(lines()) == 4


def test_another_error_behind_the_same_words_is_news(written) -> None:
    logger, _, lines = written
    for error in (KeyError("a"), KeyError("a"), ValueError("b")):
        try:
            raise error
        except Exception:
            logger.exception("pass failed")
    assert len(lines()) == 2


def test_many_things_fill_no_disk_and_are_counted(written) -> None:
    logger, clock, lines = written
    for pid in range(10_000):
        logger.warning("process failed", extra={"pid": pid, "error": "EACCES"})
    assert len(lines()) == 30
    clock.now += 60
    logger.warning("process failed", extra={"pid": 10_001, "error": "EACCES"})
    assert lines()[-1]["not_written"] == 9970


@pytest.mark.parametrize(("level", "lines"), [("INFO", 1), ("DEBUG", 5)])
def test_the_agent_logs_a_state_once_unless_it_is_debugged(level: str, lines: int) -> None:
    program = (
        f"import logging; from memplace_agent import log; log.configure({level!r})\n"
        "for _ in range(5): logging.getLogger('x').warning('failed', extra={'pid': 7})"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    written = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [(line["message"], line["pid"]) for line in written] == [("failed", 7)] * lines


def test_what_is_said_once_is_said_each_time(written) -> None:
    logger, _, lines = written
    for _ in range(3):
        logger.info("watch works again", extra={"kind": "Pod"})
    assert len(lines()) == 3
