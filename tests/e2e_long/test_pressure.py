# SPDX-License-Identifier: Apache-2.0
"""A pod comes under memory pressure in the first step: no further node until it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from memplace_lab.base.steps import wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.show import scenario
from memplace_lab.show.scenario import Pod

from tests.support.rolling import (
    NAME,
    apply_rollout,
    on_tier,
    rollout,
    set_pause,
    untouched,
    wait_settled,
)

pytestmark = pytest.mark.timeout(1200)
PAUSE_S = 8

# A program in the container's cgroup needs 8 MiB again and again, where there is room for none:
# without swap all it can do is wait.
STRAIN = """
set -- /sys/fs/cgroup/kubepods.slice/*/*/*{id}*
echo "$1" > /run/strain
cat "$1/memory.current" > "$1/memory.high"
cat > /run/strain.sh <<'END'
echo $$ > "$(cat /run/strain)/cgroup.procs"
while [ -e /run/strain ]; do dd if=/dev/zero of=/dev/null bs=8M count=4 status=none; done
END
systemd-run --quiet --collect --unit=strain sh /run/strain.sh
"""
RELAX = """
set -- /sys/fs/cgroup/kubepods.slice/*/*/*{id}*
rm -f /run/strain
echo max > "$1/memory.high"
for _ in $(seq 60); do systemctl is-active --quiet strain || exit 0; sleep 1; done
exit 1
"""


@contextmanager
def strained(cluster: Cluster, pod: Pod) -> Iterator[None]:
    """Have a pod under memory pressure."""
    container = pod.container_id.rpartition("/")[2]
    cluster.ssh(pod.worker, STRAIN.format(id=container))
    try:
        yield
    finally:
        cluster.ssh(pod.worker, RELAX.format(id=container))


def held(cluster: Cluster) -> str:
    """Return why the roll-out is held; nothing if it is not."""
    conditions = scenario.status(cluster, NAME).get("conditions", [])
    return "".join(each["message"] for each in conditions if each["reason"] == "RolloutHeld")


def pressures(cluster: Cluster) -> dict[str, str]:
    """Return by pod the word of its container under the placement."""
    return {
        pod["name"]: pod["containers"][0]["memoryPressure"]
        for node in cluster.get("nodememories")["items"]
        for placement in node["status"].get("placements", [])
        for pod in placement.get("pods", [])
        if placement["name"] == NAME
    }


def hint(cluster: Cluster) -> str:
    return f"{pressures(cluster)} {scenario.status(cluster, NAME)}"


def test_it_holds_while_a_pod_is_under_pressure(cluster: Cluster, both: dict[str, Pod]) -> None:
    # Nobody knows how long a busy machine takes to tell: the pause begins to matter afterwards.
    # Nor is it asked here whether the agent can look at processes that hang in reclaim (Stuck).
    apply_rollout(cluster, pause_s=3600, more=", holdOn: [MemoryPressure]")
    wait_settled(cluster, 1)
    (first,) = on_tier(both)
    (second,) = untouched(both)
    assert pressures(cluster) == {first: "Low", second: "Low"}
    with strained(cluster, both[first]):
        wait_for(
            "the roll-out to be held",
            lambda: f"MemoryPressure: container workload of pod {first} " in held(cluster),
            timeout_s=240,
            hint=lambda: hint(cluster),
        )
        assert pressures(cluster) == {first: "High", second: "Low"}
        set_pause(cluster, PAUSE_S)
        time.sleep(3 * PAUSE_S)
        assert untouched(both) == {second}
        status = rollout(cluster)
        assert (status["state"], status["releasedNodes"]) == ("Holding", 1)
    wait_for(
        "the roll-out to end",
        lambda: rollout(cluster).get("state") == "Done",
        timeout_s=360,
        hint=lambda: hint(cluster),
    )
    scenario.wait_ready(cluster, NAME)
    assert on_tier(both) == set(both)
    assert both[first].restarts() == 0
