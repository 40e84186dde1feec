# SPDX-License-Identifier: Apache-2.0
"""The heartbeat of an agent."""

from datetime import UTC, datetime, timedelta

import pytest
from memplace.api.liveness import HEARTBEAT_S, STALE_AFTER, renewals, with_renewal
from memplace.api.v1alpha1 import NodeMemory, NodeMemoryStatus

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def node(age_s: float | None) -> NodeMemory:
    heartbeat = None if age_s is None else NOW - timedelta(seconds=age_s)
    status = NodeMemoryStatus(heartbeat_time=heartbeat)
    return NodeMemory(uid="u", name="n", generation=1, status=status)


def test_two_missed_heartbeats_are_no_silence() -> None:
    assert STALE_AFTER.total_seconds() > 2 * HEARTBEAT_S


def lease(name: str, age_s: float) -> dict[str, object]:
    renewed = NOW - timedelta(seconds=age_s)
    return {"metadata": {"name": name}, "spec": {"renewTime": f"{renewed:%Y-%m-%dT%H:%M:%S.%fZ}"}}


@pytest.mark.parametrize(
    ("report_s", "lease_s", "expected_s"),
    [
        (999, 10, 10),
        (10, 999, 10),  # an agent of before Leases, on a node that had a newer one
        (None, 10, 10),
        (999, 999, 999),
    ],
)
def test_the_later_of_report_and_lease_counts(
    report_s: float | None, lease_s: float, expected_s: float
) -> None:
    heard = with_renewal(node(report_s), renewals([lease("n", lease_s), lease("other", 0)]))
    assert heard.status.heartbeat_time == NOW - timedelta(seconds=expected_s)


@pytest.mark.parametrize("odd", [{}, {"metadata": {"name": "n"}}, {"spec": 1}])
def test_a_lease_that_says_nothing_is_left_out(odd: dict[str, object]) -> None:
    assert renewals([odd, lease("n", 5)]).keys() == {"n"}
