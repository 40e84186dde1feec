# SPDX-License-Identifier: Apache-2.0
"""The operator is killed again and again while everything changes."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from memplace_lab.product.operating import Operator

from tests.support.cluster import Cluster, eventually, result
from tests.support.trying import tries

pytestmark = [pytest.mark.usefixtures("operator")]

KILLS = tries(12, 100)
PLACEMENTS = 12
LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/memplace-operator"
REASONS = {"Placed": "Placed", "Moving": "Moving", "Failed": "TierFull"}


class Play:
    """Users who make, change and delete placements, and an agent that reports of them."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._random = random.Random(seed)
        self._made = 0
        self._pods: dict[str, Any] = {}
        self.placements: dict[str, Any] = {}
        self.states: dict[str, str] = {}
        for _ in range(PLACEMENTS):
            self._make()

    def _make(self) -> None:
        name = f"mp-{self._made}"
        self._made += 1
        self.placements[name] = self._cluster.apply(name, app=name)
        self._pods[name] = self._cluster.run_pod(f"pod-{name}", app=name)
        self.states[name] = "Moving"

    def step(self) -> None:
        """Do one thing of everything."""
        chosen = self._random.sample(sorted(self.placements), 3)
        self.states[chosen[0]] = self._random.choice(sorted(REASONS))
        change = {"spec": {"priority": self._random.randint(-9, 9)}}
        path = self._cluster.placement_path(chosen[1])
        self.placements[chosen[1]] = self._cluster.api.call("PATCH", path, change).body
        if self._random.random() < 0.3:
            assert self._cluster.api.call("DELETE", self._cluster.placement_path(chosen[2])).ok
            del self.placements[chosen[2]], self.states[chosen[2]]
            self._make()
        self._cluster.report(*(self._report(name) for name in self.placements))

    def _report(self, name: str) -> Any:
        state = self.states[name]
        reason = REASONS[state] if state == "Failed" else ""
        return result(self.placements[name], self._pods[name], state=state, reason=reason)

    def wrong(self) -> list[str]:
        """Return which placements do not have the status that they should have."""
        return [name for name in self.placements if not self._is_right(name)]

    def _is_right(self, name: str) -> bool:
        found, state = self._cluster.get(name), self.states[name]
        status = found.get("status")
        if not status:
            return False
        (ready,) = [each for each in status["conditions"] if each["type"] == "Ready"]
        is_ready = "True" if state == "Placed" else "False"
        return bool(
            (ready["status"], ready["reason"]) == (is_ready, REASONS[state])
            and status["observedGeneration"] == found["metadata"]["generation"]
            and (status["matchedPods"], status["rules"][0]["bytes"]) == (1, 65 << 20)
        )


@pytest.mark.timeout(60 + 12 * KILLS)
def test_killed_while_placements_change(cluster: Cluster, operator: Operator) -> None:
    play, dice = Play(cluster, seed=13), random.Random(14)
    written = 0
    for _ in range(KILLS):
        until = time.monotonic() + dice.uniform(0.3, 4.0)
        while time.monotonic() < until:
            play.step()
            time.sleep(0.05)
        before = {name: cluster.get(name).get("status") for name in play.placements}
        written += sum(status is not None for status in before.values())
        operator.process.kill()
        operator.process.wait()
        # As if it had run out: nobody else would write for 40 seconds.
        cluster.api.call("DELETE", LEASE)
        operator.start()
    assert written, "it was never killed after it had written"
    eventually(lambda: not play.wrong(), timeout_s=60)
    eventually(operator.is_ready)
    names = {item["metadata"]["name"] for item in listed(cluster)}
    assert names == set(play.placements), "nothing is lost, and nothing comes back"
    settled = versions(cluster)
    time.sleep(5)
    assert versions(cluster) == settled, "nothing is written when nothing changes"


def versions(cluster: Cluster) -> dict[str, str]:
    """Return the resourceVersion of each placement."""
    metas = [item["metadata"] for item in listed(cluster)]
    return {meta["name"]: meta["resourceVersion"] for meta in metas}


def listed(cluster: Cluster) -> list[Any]:
    """Return the placements of the namespace."""
    found: list[Any] = cluster.api.call("GET", cluster.placement_path("").rstrip("/")).body["items"]
    return found
