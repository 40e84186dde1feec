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
    truncated,
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


def test_a_limit_of_the_namespace_is_foreseen_and_not_counted_as_moving() -> None:
    refused = structs.replace(measured(n0=GIB), misplaced_bytes=GIB, withheld_bytes=GIB)
    reports = [
        tried(misplaced=GIB),
        pod_report("redis-1", state=S.DRY_RUN, reason="NamespaceLimit", rules=(refused,)),
    ]
    status = verdict(DRY, [pod(), pod("redis-1")], [node(report(*reports))])
    assert condition(status) == ("False", "DryRun")
    assert condition(status, "Degraded") == ("False", "AsExpected")
    assert (
        "1.0 GiB of 3.0 GiB in 2 pods would move (rule heap 1.0 GiB); 1.0 GiB in 1 pod would "
        in (message(status))
    )
    assert "refused for a limit of the namespace (NamespaceLimit)" in message(status)
    status = verdict(DRY, [pod("redis-1")], [node(report(reports[1]))])
    assert "none of 1.0 GiB in 1 pod would move; 1.0 GiB in 1 pod would stay" in message(status)


ACTS = placement("acts", created=NOW)
HIGH = placement("dry", mode=Enforcement.DRY_RUN, priority=9)


def test_a_dry_run_says_whom_it_would_take_pods_from_and_what_would_move() -> None:
    agent = node(report(pod_report(), name="acts"), report(tried(misplaced=GIB), name="dry"))
    assert condition(verdict(ACTS, [pod()], [agent], others=[HIGH])) == ("True", "Placed")
    status = verdict(HIGH, [pod()], [agent], others=[ACTS])
    assert condition(status) == ("False", "DryRun")
    assert condition(status, "Degraded") == ("False", "AsExpected")
    assert "1.0 GiB of 2.0 GiB in 1 pod would move (rule heap 1.0 GiB); " in message(status)
    assert "it would take containers of 1 pod from placement cache/acts" in message(status)
    assert (status.matched_pods, status.placed_pods) == (1, 0)


def test_before_its_agent_has_looked_nothing_is_foreseen() -> None:
    agent = node(report(pod_report(), name="acts"))
    assert condition(verdict(HIGH, [pod()], [agent], others=[ACTS])) == ("False", "Pending")


def test_a_dry_run_that_would_lose_is_told_to_whom_and_why() -> None:
    dry = placement("dry", mode=Enforcement.DRY_RUN, priority=-1)
    agent = node(report(pod_report(), name="acts"))
    loser = verdict(dry, [pod()], [agent], others=[ACTS])
    assert condition(loser) == ("False", "Conflict")
    assert message(loser) == (
        "container redis of pod redis-0: placement cache/acts has it, and would have it with mode "
        "Enforce, too: it has priority 0, this one -1; narrow spec.selector or spec.containers of "
        "one of the two, change spec.priority, or delete one"
    )


@pytest.mark.parametrize("is_whole", [True, False])
def test_where_the_agent_measures_another_dry_run_or_knows_none_it_is_said(
    *, is_whole: bool
) -> None:
    # Of the agent that is older than this, all of its containers are conflicts.
    reports = [] if is_whole else [tried(name="redis-1")]
    other = structs.replace(report(*reports, name="dry"), conflicts=1)
    if is_whole:
        other = structs.replace(other, reason="Conflict", message="follows placement cache/acts")
    agent = node(report(pod_report(), name="acts"), other)
    status = verdict(HIGH, [pod()], [agent], others=[ACTS])
    assert condition(status) == ("False", "Conflict")
    assert "placement cache/acts has it, and with mode Enforce this one would" in message(status)
    assert "measures another dry run there, or none" in message(status)


def test_a_pod_that_the_report_has_no_room_for_is_pending() -> None:
    other = structs.replace(report(tried(name="redis-1"), name="dry"), conflicts=1)
    agent = truncated(other, pods=1)
    status = verdict(HIGH, [pod()], [agent], others=[ACTS])
    assert condition(status) == ("False", "Pending")


def test_one_that_is_paused_and_dry_is_paused() -> None:
    subject = placement(mode=Enforcement.DRY_RUN, paused=True)
    paused = node(report(pod_report(state=S.PAUSED, reason="Paused")))
    assert condition(verdict(subject, [pod()], [paused])) == ("False", "Paused")
