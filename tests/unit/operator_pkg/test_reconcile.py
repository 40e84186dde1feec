# SPDX-License-Identifier: Apache-2.0
"""The verdict on a placement, case by case."""

from __future__ import annotations

import msgspec
import pytest
from memplace.api.v1alpha1 import (
    AgentMode,
    ContainerState,
    NodeMemory,
    NodeMemoryStatus,
    TierBytes,
)
from memplace.kinds import OnUnsupported
from memplace_operator.objects import SeenPod

from tests.unit.operator_pkg.worlds import (
    NOW,
    OLD,
    condition,
    measured,
    message,
    node,
    placement,
    pod,
    pod_report,
    report,
    rule,
    tier,
    truncated,
    verdict,
)

S = ContainerState
PLACED = node(report(pod_report()))
CASES: dict[str, tuple[list[SeenPod], list[NodeMemory], str]] = {
    "no pods at all": ([], [PLACED], "NoPods"),
    "a pod of another namespace": ([pod(namespace="else")], [PLACED], "NoPods"),
    "a pod with other labels": ([pod(app="nginx")], [PLACED], "NoPods"),
    "the only pod has ended": ([pod(life="Ended")], [PLACED], "NoPods"),
    "the only pod is not running yet": ([pod(life="Waiting")], [PLACED], "Pending"),
    "placed": ([pod()], [PLACED], "Placed"),
    "placed beside an ended pod": ([pod(), pod("job", life="Ended")], [PLACED], "Placed"),
    "placed beside a waiting pod": ([pod(), pod("new", life="Waiting")], [PLACED], "Placed"),
    "the agent moves": ([pod()], [node(report(pod_report(state=S.MOVING)))], "Moving"),
    "the agent knows, and waits": ([pod()], [node(report(pod_report(state=S.PENDING)))], "Pending"),
    "the agent does not know the placement": ([pod()], [node()], "Pending"),
    "the agent does not know the pod": ([pod()], [node(report())], "Pending"),
    "an older generation": ([pod()], [node(report(pod_report(), generation=2))], "Pending"),
    "an earlier life of the container": (
        [pod(container="c2")],
        [node(report(pod_report(container="c1")))],
        "Pending",
    ),
    "no container id in the report": ([pod()], [node(report(pod_report(container="")))], "Pending"),
    "a full tier": (
        [pod()],
        [node(report(pod_report(state=S.FAILED, reason="TierFull")))],
        "TierFull",
    ),
    "a full tier while moving": (
        [pod()],
        [node(report(pod_report(state=S.MOVING, reason="TierFull")))],
        "TierFull",
    ),
    "an error of the kernel": (
        [pod()],
        [node(report(pod_report(state=S.FAILED, reason="Whatever")))],
        "Failed",
    ),
    "no such tier on the node": ([pod()], [node(report(reason="TierNotOnNode"))], "TierNotOnNode"),
    "cpuset": (
        [pod()],
        [node(report(pod_report(state=S.FAILED, reason="NotAllowedByCpuset")))],
        "NotAllowedByCpuset",
    ),
    "a node without the kernel": (
        [pod()],
        [node(supported="KernelWithoutProcessMbind")],
        "Unsupported",
    ),
    "a silent agent": ([pod()], [node(report(pod_report()), age_s=91)], "AgentNotReporting"),
    "an agent just in time": ([pod()], [node(report(pod_report()), age_s=90)], "Placed"),
    "another node's agent is silent": ([pod()], [PLACED, node(name="b", age_s=999)], "Placed"),
    "a retired agent": (
        [pod()],
        [node(report(pod_report()), agent=AgentMode.RETIRED)],
        "AgentNotReporting",
    ),
    "an agent of a later installation than the one that retired": (
        [pod()],
        [node(report(pod_report()), agent=AgentMode.RETIRED, installation="ds-1")],
        "Placed",
    ),
    "no agent ever": ([pod()], [], "AgentNotReporting"),
    "an agent without a heartbeat": ([pod()], [node(age_s=None)], "AgentNotReporting"),
    "a spec the agent can't parse": (
        [pod()],
        [node(report(pod_report(), generation=2, reason="NotUnderstood", message="spec.x"))],
        "NotUnderstood",
    ),
    "a placement the report has no room for": ([pod()], [truncated(placements=1)], "Pending"),
    "a pod the report has no room for": ([pod()], [truncated(report(), pods=1)], "Pending"),
    "one of two pods": ([pod(), pod("redis-1")], [PLACED], "Pending"),
    "the worst of two pods speaks": (
        [pod(), pod("redis-1", node="b")],
        [node(report(pod_report(state=S.MOVING))), node(name="b", age_s=100)],
        "AgentNotReporting",
    ),
    "nothing of the pod runs": ([pod(container="")], [PLACED], "NoPods"),
}
PATIENT = {"NoPods", "Pending", "Moving", "Placed", "Unsupported"}


@pytest.mark.parametrize(("pods", "nodes", "reason"), CASES.values(), ids=CASES)
def test_ready(pods: list[SeenPod], nodes: list[NodeMemory], reason: str) -> None:
    status = verdict(placement(), pods, nodes)
    running = [one for one in pods if one.pod.life == "Running" and one.labels["app"] == "redis"]
    nothing = reason == "NoPods" and not [one for one in running if one.namespace == "cache"]
    assert condition(status) == ("True" if nothing or reason == "Placed" else "False", reason)
    degraded = ("False", "AsExpected") if reason in PATIENT else ("True", reason)
    assert condition(status, "Degraded") == degraded
    assert {c.observed_generation for c in status.conditions} == {status.observed_generation} == {3}
    assert [c.type for c in status.conditions] == ["Ready", "Degraded", "Unsupported"]
    assert all(c.message for c in status.conditions)


def test_counts() -> None:
    pods = [
        pod(),
        pod("moving"),
        pod("odd", node="b"),
        pod("done", life="Ended"),
        pod("new", life="Waiting"),
    ]
    nodes = [
        node(report(pod_report(), pod_report("moving", state=S.MOVING))),
        node(name="b", supported="SeccompFiltered"),
    ]
    status = verdict(placement(), pods, nodes)
    assert (status.matched_pods, status.placed_pods, status.unsupported_pods) == (3, 1, 1)
    assert condition(status, "Unsupported") == ("True", "SeccompFiltered")
    assert "node b" in message(status, "Unsupported")
    assert condition(status) == ("False", "Unsupported")


STOCK = "KernelWithoutProcessMbind"


@pytest.mark.parametrize(
    ("asked", "state", "ready", "counts"),
    [
        ("Fail", S.PLACED_BEST_EFFORT, ("False", "Unsupported"), (1, 0, 2)),
        ("BestEffort", S.PLACED_BEST_EFFORT, ("True", "PlacedBestEffort"), (1, 2, 2)),
        ("BestEffort", S.OBSERVED, ("False", "Observed"), (1, 0, 2)),
        ("BestEffort", S.MOVING, ("False", "Moving"), (1, 0, 2)),
        ("Observe", S.OBSERVED, ("False", "Observed"), (1, 0, 2)),
    ],
)
def test_pods_on_nodes_that_cannot_place(
    asked: str, state: S, ready: tuple[str, str], counts: tuple[int, int, int]
) -> None:
    subject = placement(on_unsupported=OnUnsupported(asked))
    pods = [pod(), pod("b", node="b"), pod("c", node="c")]
    nodes = [node(report(pod_report()))]
    nodes += [
        node(report(pod_report(name, state=state, message="why")), name=name, supported=STOCK)
        for name in ("b", "c")
    ]
    status = verdict(subject, pods, nodes)
    assert condition(status) == ready
    assert condition(status, "Degraded") == ("False", "AsExpected")
    assert condition(status, "Unsupported") == ("True", STOCK)
    assert "2 pods on 2 nodes can't be placed there" in message(status, "Unsupported")
    assert (status.placed_pods, status.best_effort_pods, status.unsupported_pods) == counts


def test_ready_by_best_effort_says_how_many() -> None:
    subject = placement(on_unsupported=OnUnsupported.BEST_EFFORT)
    best_effort = node(
        report(pod_report("b", state=S.PLACED_BEST_EFFORT)), name="b", supported=STOCK
    )
    status = verdict(subject, [pod(), pod("b", node="b")], [PLACED, best_effort])
    said = message(status)
    assert "all 2 running pods are placed" in said
    assert "1 pod on node b by best effort (onUnsupported)" in said


def test_trouble_of_a_pod_by_best_effort_is_trouble() -> None:
    subject = placement(on_unsupported=OnUnsupported.BEST_EFFORT)
    full = node(
        report(pod_report(state=S.FAILED, reason="TierFull", message="full")), supported=STOCK
    )
    status = verdict(subject, [pod()], [full])
    assert condition(status) == ("False", "TierFull")
    assert condition(status, "Degraded") == ("True", "TierFull")
    assert condition(status, "Unsupported") == ("True", STOCK)


def test_bytes_are_summed_per_tier_of_each_node() -> None:
    nodes = [
        node(report(pod_report(rules=(measured(n0=1, n1=10, n7=100),)))),
        node(report(pod_report("redis-1", rules=(measured(n1=1000),))), name="b"),
    ]
    subject = placement(rules=(rule(), rule("second")))
    status = verdict(subject, [pod(), pod("redis-1", node="b")], nodes)
    first, second = status.rules
    assert (first.regions, first.bytes) == (2, 1111)
    assert first.tiers == (
        TierBytes(name="cxl", bytes=1010),
        TierBytes(name="dram", bytes=1),
        TierBytes(name="other", bytes=100),
    )
    assert (second.name, second.regions, second.bytes, second.tiers) == ("second", 0, 0, ())


@pytest.mark.parametrize(
    "stale",
    [
        node(report(pod_report(rules=(measured(n1=1),)), generation=2)),
        node(report(pod_report(rules=(measured(n1=1),), container="c0"))),
        node(report(pod_report(rules=(measured(n1=1),))), age_s=100),
    ],
)
def test_bytes_of_the_past_do_not_count(stale: NodeMemory) -> None:
    assert verdict(placement(), [pod()], [stale]).rules[0].bytes == 0


def test_the_older_placement_wins_and_hears_nothing() -> None:
    old, new = placement("z-old"), placement("a-new", created=NOW)
    agent = node(report(pod_report(), name="z-old"))
    loser = verdict(new, [pod()], [agent], others=[old])
    assert condition(loser) == ("False", "Conflict")
    assert condition(loser, "Degraded") == ("True", "Conflict")
    assert "z-old" in message(loser)
    assert "redis-0" in message(loser)
    assert (loser.matched_pods, loser.placed_pods) == (1, 0)
    winner = verdict(old, [pod()], [agent], others=[new])
    assert winner == verdict(old, [pod()], [agent])
    assert condition(winner) == ("True", "Placed")


def test_the_higher_priority_wins_and_the_loser_is_told_both() -> None:
    old, new = placement("old", priority=-2), placement("new", created=NOW, priority=3)
    agent = node(report(pod_report(), name="new"))
    assert condition(verdict(new, [pod()], [agent], others=[old])) == ("True", "Placed")
    loser = verdict(old, [pod()], [agent], others=[new])
    assert condition(loser, "Degraded") == ("True", "Conflict")
    assert "placement new has priority 3, this one -2, and has container redis" in message(loser)


PAUSED = node(report(pod_report(state=S.PAUSED, reason="Paused", rules=(measured(n1=7),))))


@pytest.mark.parametrize(
    ("pods", "agent", "reason"),
    [
        ([pod()], PAUSED, "Paused"),
        ([], PAUSED, "Paused"),
        ([pod()], node(report(pod_report(), generation=2)), "Pending"),  # not heard of it yet
        ([pod()], node(report(pod_report(state=S.FAILED, reason="Stuck"))), "Stuck"),
        ([pod()], node(supported="SeccompFiltered"), "Unsupported"),
    ],
)
def test_one_that_is_paused_says_so(pods: list[SeenPod], agent: NodeMemory, reason: str) -> None:
    status = verdict(placement(paused=True), pods, [agent])
    assert condition(status) == ("False", reason)
    assert "spec.paused: " in message(status)
    assert status.placed_pods == 0


def test_of_one_that_is_paused_bytes_are_told_and_nothing_is_wrong() -> None:
    status = verdict(placement(paused=True), [pod()], [PAUSED])
    assert condition(status, "Degraded") == ("False", "AsExpected")
    assert status.rules[0].bytes == 7


def test_placements_of_different_containers_do_not_conflict() -> None:
    first, second = placement("first"), placement("second", containers=("sidecar",))
    agent = node(report(pod_report(), name="first"))
    assert condition(verdict(first, [pod()], [agent], others=[second])) == ("True", "Placed")
    lonely = verdict(second, [pod()], [agent], others=[first])
    assert condition(lonely) == ("False", "NoPods")
    assert "spec.containers" in message(lonely)


def test_rules_that_can_never_win_are_invalid() -> None:
    subject = placement(rules=(rule("first"), rule("second")))
    status = verdict(subject, [pod()], [PLACED])
    assert condition(status) == ("False", "Invalid")
    assert condition(status, "Degraded") == ("True", "Invalid")
    assert "second" in message(status)


@pytest.mark.parametrize(
    ("tiers", "reason"),
    [
        (("cxl",), "Placed"),
        (("nosuch",), "TierUnknown"),
        (("hbm",), "TierUnknown"),
        (("cxl", "hbm"), "Placed"),
        (("cxl", "nosuch"), "TierUnknown"),
        (("described",), "Placed"),
    ],
)
def test_tiers_that_exist_nowhere(tiers: tuple[str, ...], reason: str) -> None:
    subject = placement(rules=(rule(tiers=tiers),))
    status = verdict(subject, [pod()], [PLACED], tiers=[tier("described")])
    assert condition(status)[1] == reason
    if reason == "TierUnknown":
        assert tiers[-1] in message(status)
        assert "cxl, described, dram" in message(status)


def test_no_tier_is_unknown_before_the_first_agent_reports() -> None:
    assert condition(verdict(placement()))[1] == "NoPods"
    made_just_now = msgspec.structs.replace(node(), status=NodeMemoryStatus())
    assert condition(verdict(placement(), nodes=[made_just_now]))[1] == "NoPods"


def test_the_first_report_is_waited_for() -> None:
    assert condition(verdict(placement(), [pod()], waited_s=80))[1] == "Pending"
    assert condition(verdict(placement(), [pod()], waited_s=100))[1] == "AgentNotReporting"


def test_a_message_tells_how_many_fare_alike() -> None:
    pods = [pod(f"redis-{i}") for i in range(3)]
    assert message(verdict(placement(), pods, [node()])).endswith("(and 2 more pods)")


def test_a_full_tier_is_named() -> None:
    agent = node(report(pod_report(state=S.FAILED, reason="TierFull", message="node 1 is full")))
    assert "cxl" in message(verdict(placement(), [pod()], [agent]))


def test_times_change_only_with_a_status() -> None:
    first = verdict(placement(), [pod()], [node()], now=OLD)
    moving = node(report(pod_report(state=S.MOVING)))
    second = verdict(placement(status=first), [pod()], [moving])
    assert condition(second)[1] == "Moving"
    assert {c.last_transition_time for c in second.conditions} == {OLD}
    third = verdict(placement(status=second), [pod()], [PLACED])
    assert [c.last_transition_time for c in third.conditions] == [NOW, OLD, OLD]


@pytest.mark.parametrize("short", [truncated(placements=1), truncated(report(), pods=1)])
def test_what_a_report_has_no_room_for_is_said(short: NodeMemory) -> None:
    assert "no room" in message(verdict(placement(), [pod()], [short]))
