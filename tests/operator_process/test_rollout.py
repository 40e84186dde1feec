# SPDX-License-Identifier: Apache-2.0
"""A roll-out at a real API server: agents are played, and obey the gate that they find there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from memplace.api.objects import parse_placement
from memplace.rollout import position, waits
from memplace_lab.product.operating import Operator

from tests.support.cluster import Cluster, eventually, result

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]

Json = dict[str, Any]


class Fleet:
    """Nodes with one pod each, whose agents do what the placement's status lets them."""

    def __init__(self, cluster: Cluster, count: int, **rollout: Any) -> None:
        self.cluster = cluster
        self.pods: dict[str, Json] = {}
        self.failing: dict[str, str] = {}
        # By node the memory pressure of its pod; without a word the agent has no such field.
        self.pressures: dict[str, str] = {}
        # The same from the first report on in which the node acts.
        self.pressures_acting: dict[str, str] = {}
        for number in range(count):
            cluster.node = f"{cluster.namespace}-{number}"
            self.pods[cluster.node] = cluster.run_pod(f"redis-{number}")
        # What comes while it begins is waited for; here all of it is there.
        eventually(lambda: self.placement.get("status", {}).get("matchedPods") == count)
        self.patch({"spec": {"rollout": rollout}})
        uid = self.placement["metadata"]["uid"]
        self.order = sorted(self.pods, key=lambda node: position(uid, node))

    @property
    def placement(self) -> Json:
        return self.cluster.get("mp")

    @property
    def rollout(self) -> Json:
        found: Json = self.placement.get("status", {}).get("rollout", {})
        return found

    @property
    def released(self) -> list[str]:
        parsed = parse_placement(self.placement)
        return [node for node in self.order if not waits(parsed, node)]

    def patch(self, change: Json) -> Json:
        answer = self.cluster.api.call("PATCH", self.cluster.placement_path("mp"), change)
        assert answer.ok, answer.message
        return answer.body

    def lose_status(self) -> None:
        path = f"{self.cluster.placement_path('mp')}/status"
        assert self.cluster.api.call("PATCH", path, {"status": {"rollout": None}}).ok

    def work(self) -> list[str]:
        """Be all agents once; returns the nodes that act."""
        obj = self.placement
        parsed = parse_placement(obj)
        acting = [node for node in self.order if not waits(parsed, node)]
        for node, pod in self.pods.items():
            state, reason = ("Placed", "") if node in acting else ("AwaitingRollout",) * 2
            if node in acting and node in self.failing:
                state, reason = "Failed", self.failing[node]
            pressures = self.pressures | (self.pressures_acting if node in acting else {})
            said = result(
                obj,
                pod,
                state=state,
                reason=reason,
                message=f"as {state}",
                pressure=pressures.get(node, ""),
            )
            self.cluster.report(said, node=node)
        return acting

    def work_until(self, holds: Callable[[], bool], *, timeout_s: float = 30) -> None:
        def step() -> bool:
            self.work()
            return holds()

        eventually(step, timeout_s=timeout_s)

    def work_until_held(self, reason: str) -> None:
        """Work until that holds it, and not that the first node has no tiers yet."""
        self.work_until(
            lambda: (
                self.said() == ("False", "RolloutHeld")
                and f": {reason}: " in self.cluster.condition("mp", "Progressing")[2]
            )
        )

    def said(self, kind: str = "Progressing") -> tuple[str, str]:
        return self.cluster.condition("mp", kind)[:2]


@pytest.fixture
def fleet(cluster: Cluster) -> Callable[..., Fleet]:
    def make(count: int, **rollout: Any) -> Fleet:
        cluster.apply("mp")
        return Fleet(cluster, count, **rollout)

    return make


def test_step_by_step_to_the_end(fleet: Callable[..., Fleet], operator: Operator) -> None:
    there = fleet(5, maxNodes=2, pauseSeconds=1)
    eventually(lambda: there.released == there.order[:2])
    assert there.said("Ready")[0] == "False"
    seen: list[int] = []
    while there.said() != ("False", "RolledOut"):
        before = len(there.released)
        acting = there.work()
        assert acting == there.order[: len(acting)]
        seen += [len(acting)] if seen[-1:] != [len(acting)] else []
        assert before <= len(there.released)
        time.sleep(0.2)
    assert seen == [2, 4, 5]
    there.work()
    there.cluster.wait("mp", "Ready", "True", "Placed")
    assert "all nodes are released; there were 5" in there.cluster.condition("mp", "Progressing")[2]
    status = there.rollout
    assert (status["state"], status["nodes"], status["releasedNodes"]) == ("Done", 5, 5)
    eventually(lambda: ("Normal", "RolledOut") in there.cluster.events("mp"))
    metric = 'memplace_operator_rollouts{state="Done"} 1.0'
    eventually(lambda: metric in operator.get("/metrics")[1])
    # A node that comes later is not waited for.
    there.cluster.node = f"{there.cluster.namespace}-9"
    there.pods[there.cluster.node] = there.cluster.run_pod("redis-9")
    there.order.append(there.cluster.node)
    assert there.cluster.node in there.work()


def test_it_is_shown_in_a_line(fleet: Callable[..., Fleet]) -> None:
    there = fleet(4, maxNodes="50%", pauseSeconds=8)
    there.work_until(lambda: there.rollout.get("settledNodes") == 2)
    there.cluster.wait("mp", "Ready", "False", "AwaitingRollout")
    get = ("get", "mp", "-n", there.cluster.namespace, "-o", "wide")
    wide = there.cluster.api.kubectl(*get).stdout
    assert "Rolling" in wide and "2 of 4 nodes released, all of them done" in wide


def test_it_holds_goes_on_by_itself_and_obeys_while_nobody_leads(
    fleet: Callable[..., Fleet], operator: Operator
) -> None:
    there = fleet(3, maxNodes=1, pauseSeconds=0)
    eventually(lambda: there.released == there.order[:1])
    there.failing = {there.order[0]: "TierFull"}
    there.work_until_held("TierFull")
    assert there.said("Degraded") == ("True", "TierFull")
    message = there.cluster.condition("mp", "Progressing")[2]
    assert message.startswith(f"held, 1 of 3 nodes released: node {there.order[0]}: TierFull: ")
    assert ("Warning", "RolloutHeld") in eventually(lambda: there.cluster.events("mp"))
    held = there.rollout
    assert operator.stop() == 0
    there.failing = {}
    for _ in range(10):
        assert there.work() == there.order[:1]
        time.sleep(0.2)
    assert there.rollout == held
    operator.start()
    there.work_until(lambda: there.said() == ("False", "RolledOut"))


def test_it_holds_on_memory_pressure_that_was_not_there_before(
    fleet: Callable[..., Fleet], operator: Operator
) -> None:
    there = fleet(3, maxNodes=1, pauseSeconds=0)
    first, second, _ = there.order
    there.pressures = dict.fromkeys(there.order, "Low") | {second: "High"}
    there.pressures_acting[first] = "High"
    there.work_until_held("MemoryPressure")
    assert there.said("Degraded") == ("False", "AsExpected")
    message = there.cluster.condition("mp", "Progressing")[2]
    name = there.pods[first]["metadata"]["name"]
    assert message.startswith(
        f"held, 1 of 3 nodes released: node {first}: MemoryPressure: container redis of pod {name} "
    )
    # Who comes later knows it, too.
    assert operator.stop() == 0
    operator.start()
    for _ in range(20):
        assert there.work() == [first]
        time.sleep(0.2)
    there.pressures_acting[first] = "Raised"
    there.work_until(lambda: len(there.released) == 2)
    # The second one had it before its node was released.
    assert there.rollout["pressedBefore"] == [there.pods[second]["metadata"]["uid"]]
    assert operator.stop() == 0
    operator.start()
    there.work_until(lambda: there.said() == ("False", "RolledOut"))
    assert there.rollout["pressedBefore"] == []


def test_it_says_where_memory_pressure_is_not_seen(fleet: Callable[..., Fleet]) -> None:
    there = fleet(3, maxNodes=1, pauseSeconds=5)
    first = there.order[0]
    there.pressures = dict.fromkeys(there.order[1:], "Unknown")
    there.work_until(lambda: there.rollout.get("settledNodes") == 1)
    message = there.cluster.condition("mp", "Progressing")[2]
    assert f"memory pressure is not seen at node {first} (no PSI" in message
    there.work_until(lambda: there.said() == ("False", "RolledOut"), timeout_s=60)


def test_a_hold_is_passed_over_when_somebody_says_so(fleet: Callable[..., Fleet]) -> None:
    there = fleet(2, maxNodes=1, pauseSeconds=0)
    eventually(lambda: there.released == there.order[:1])
    there.failing = dict.fromkeys(there.order, "TierFull")
    there.work_until_held("TierFull")
    there.patch({"spec": {"rollout": {"ignoreHoldOf": there.rollout["generation"]}}})
    there.work_until(lambda: there.said() == ("False", "RolledOut"))
    assert there.said("Degraded") == ("True", "TierFull")
    rule = there.placement["spec"]["rules"][0] | {"existingPages": "Leave"}
    there.patch({"spec": {"rules": [rule]}})
    there.work_until(lambda: there.said() == ("False", "RolloutHeld"))
    assert there.released == there.order[:1]


def test_another_change_starts_again_and_how_it_is_done_does_not(
    fleet: Callable[..., Fleet],
) -> None:
    there = fleet(3, maxNodes=1, pauseSeconds=0)
    there.work_until(lambda: there.said() == ("False", "RolledOut"))
    done = there.rollout
    there.patch({"spec": {"priority": 3, "rollout": {"pauseSeconds": 6}}})
    there.work_until(lambda: there.said("Ready") == ("True", "Placed"))
    assert there.rollout == done
    rule = there.placement["spec"]["rules"][0] | {"existingPages": "Leave"}
    generation = there.patch({"spec": {"rules": [rule]}})["metadata"]["generation"]
    assert there.work() == [], "before the operator has seen it"
    eventually(lambda: there.rollout["generation"] == generation)
    there.work_until(lambda: there.rollout["settledNodes"] == 1)
    time.sleep(1)
    assert there.work() == there.order[:1]
    # Lost, it starts from the beginning, at the same node.
    there.lose_status()
    eventually(lambda: there.released == there.order[:1])
    there.patch({"spec": {"rollout": None}})
    assert there.released == there.order, "who takes it out wants all at once"
    eventually(lambda: not there.rollout and there.said() == ("", ""))
    there.work_until(lambda: there.said("Ready") == ("True", "Placed"))
