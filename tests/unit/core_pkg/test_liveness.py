# SPDX-License-Identifier: Apache-2.0
"""The heartbeat of an agent."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from memplace.api.liveness import HEARTBEAT_S, STALE_AFTER, is_alive, is_silent
from memplace.api.v1alpha1 import NodeMemory, NodeMemoryStatus

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def node(age_s: float | None) -> NodeMemory:
    heartbeat = None if age_s is None else NOW - timedelta(seconds=age_s)
    status = NodeMemoryStatus(heartbeat_time=heartbeat)
    return NodeMemory(uid="u", name="n", generation=1, status=status)


@pytest.mark.parametrize(
    ("age_s", "alive", "silent"),
    [(None, False, False), (-5, True, False), (90, True, False), (90.1, False, True)],
)
def test_by_age(age_s: float | None, alive: bool, silent: bool) -> None:
    assert (is_alive(node(age_s), NOW), is_silent(node(age_s), NOW)) == (alive, silent)


def test_two_missed_heartbeats_are_no_silence() -> None:
    assert STALE_AFTER.total_seconds() > 2 * HEARTBEAT_S


def test_the_crd_says_how_often() -> None:
    text = (Path(__file__).parents[3] / "crds/nodememories.yaml").read_text()
    assert text.count("it does so every") == text.count(f"every {HEARTBEAT_S:.0f} seconds") == 2
