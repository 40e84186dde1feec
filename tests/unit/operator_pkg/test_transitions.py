# SPDX-License-Identifier: Apache-2.0
"""Which changes become events, and who counts as silent."""

from __future__ import annotations

import pytest
from memplace.api.v1alpha1 import ContainerState, PlacementStatus
from memplace_operator.reconcile import transitions, unreadable

from tests.unit.operator_pkg.worlds import (
    NOW,
    condition,
    node,
    placement,
    pod,
    pod_report,
    report,
    verdict,
)

S = ContainerState
NOTHING = PlacementStatus()
NO_PODS = verdict(placement())
PENDING = verdict(placement(), [pod()], [node()])
MOVING = verdict(placement(), [pod()], [node(report(pod_report(state=S.MOVING)))])
PLACED = verdict(placement(), [pod()], [node(report(pod_report()))])
FULL = verdict(placement(), [pod()], [node(report(pod_report(state=S.FAILED, reason="TierFull")))])
SILENT = verdict(placement(), [pod()], [node(age_s=100)])
ODD = verdict(placement(), [pod()], [node(supported="SeccompFiltered")])


PAUSED = verdict(placement(paused=True), [pod()], [node(report(pod_report(state=S.PAUSED)))])


@pytest.mark.parametrize(
    ("old", "new", "events"),
    [
        (PLACED, PAUSED, [(False, "Paused")]),
        (MOVING, PAUSED, []),
        (PAUSED, PLACED, [(False, "Placed")]),
        (NOTHING, NO_PODS, [(False, "NoPods")]),
        (NOTHING, PLACED, [(False, "Placed")]),
        (NOTHING, FULL, [(True, "TierFull")]),
        (PENDING, MOVING, []),
        (MOVING, PLACED, [(False, "Placed")]),
        (PLACED, MOVING, [(False, "Moving")]),
        (PLACED, FULL, [(True, "TierFull")]),
        (FULL, SILENT, [(True, "AgentNotReporting")]),
        (FULL, PLACED, [(False, "AsExpected"), (False, "Placed")]),
        (PLACED, ODD, [(True, "SeccompFiltered"), (True, "Unsupported")]),
        (ODD, PLACED, [(False, "AllNodesSupported"), (False, "Placed")]),
        (PLACED, PLACED, []),
        (NO_PODS, PLACED, [(False, "Placed")]),
        (PLACED, NO_PODS, [(False, "NoPods")]),
        (NO_PODS, FULL, [(True, "TierFull")]),
    ],
)
def test_events(old: PlacementStatus, new: PlacementStatus, events: list[tuple[bool, str]]) -> None:
    assert [(t.is_warning, t.reason) for t in transitions(old, new)] == events


def test_a_placement_that_makes_no_sense() -> None:
    status = unreadable(PLACED, "spec.rules: write one", generation=9, now=NOW)
    assert condition(status) == ("False", "Invalid")
    assert condition(status, "Degraded") == ("True", "Invalid")
    assert status.observed_generation == 9
    assert [t.reason for t in transitions(PLACED, status)] == ["Invalid"]
