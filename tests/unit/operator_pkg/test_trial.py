# SPDX-License-Identifier: Apache-2.0
"""A placement in mode DryRun: what it would do, and whom it waits for."""

from __future__ import annotations

import pytest
from memplace.api.v1alpha1 import ContainerState, PodReport, RuleReport
from memplace.kinds import Enforcement
from msgspec import structs

from tests.unit.operator_pkg.worlds import (
    NOW,
    condition,
    measured,
    message,
    node,
    placement,
    pod,
    pod_report,
    report,
    verdict,
)

S = ContainerState
DRY = placement(mode=Enforcement.DRY_RUN)
GIB = 1 << 30


def tried(*, name: str = "redis-0", reason: str = "DryRun", misplaced: int = 0) -> PodReport:
    rules = (structs.replace(measured(n0=GIB, n1=GIB), misplaced_bytes=misplaced),)
    return pod_report(name, state=S.DRY_RUN, reason=reason, rules=rules)


@pytest.mark.parametrize(
    ("pods", "reports", "says"),
    [
        ([], [], "nothing is changed, and nothing is measured yet"),
        (["redis-0"], [tried()], "none of 2.0 GiB in 1 pod would move"),
        (
            ["redis-0", "redis-1"],
            [tried(misplaced=GIB), tried(name="redis-1", misplaced=GIB, reason="TierFull")],
            "2.0 GiB of 4.0 GiB in 2 pods would move (rule heap 2.0 GiB); in 1 of the pods not "
            "all of it would fit",
        ),
    ],
)
def test_a_dry_run_says_what_would_move(
    pods: list[str], reports: list[PodReport], says: str
) -> None:
    status = verdict(DRY, [pod(name) for name in pods], [node(report(*reports))])
    assert condition(status) == ("False", "DryRun")
    assert says in message(status) and message(status).startswith("mode DryRun: ")
    assert condition(status, "Degraded") == ("False", "AsExpected")
    assert status.placed_pods == 0
    assert status.rules[0].misplaced_bytes == sum(r.misplaced_bytes for r in _rules_of(reports))


def _rules_of(reports: list[PodReport]) -> list[RuleReport]:
    return [rule for pod in reports for each in pod.containers for rule in each.rules]


def test_a_dry_run_waits_behind_who_acts_and_is_told_why() -> None:
    acts = placement("acts", created=NOW)
    dry = placement("dry", mode=Enforcement.DRY_RUN, priority=9)
    agent = node(report(pod_report(), name="acts"))
    assert condition(verdict(acts, [pod()], [agent], others=[dry])) == ("True", "Placed")
    loser = verdict(dry, [pod()], [agent], others=[acts])
    assert condition(loser) == ("False", "Conflict")
    assert "placement acts acts, this one only tells (mode DryRun), and has" in message(loser)
    assert "spec.priority" not in message(loser)


def test_one_that_is_paused_and_dry_is_paused() -> None:
    subject = placement(mode=Enforcement.DRY_RUN, paused=True)
    paused = node(report(pod_report(state=S.PAUSED, reason="Paused")))
    assert condition(verdict(subject, [pod()], [paused])) == ("False", "Paused")
