# SPDX-License-Identifier: Apache-2.0
"""Twenty pods at once, with cgroup events as all that tells the agent of them.

No shim has a default here, and containerd asks nobody: the agent has the time from a container's
cgroup to its program, while programs that compute take the worker's processors from it. Then the
same with the agents upgraded meanwhile: no start may fail, and what was missed is done late.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from memplace_lab.base.steps import say, wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import newborn, scenario
from memplace_lab.show.newborn import WORKER, Born, container, pod, spec

pytestmark = pytest.mark.timeout(3600)
PODS, MIB = 20, 8
GOAL = 0.01
NO_SHIM = ("--set", "agent.shimDefault.enabled=false")
FORCE = ("-n", scenario.NAMESPACE, "--force", "--grace-period=0")
BUSY = "for n in $(seq $(nproc)); do setsid nice -n 10 yes >/dev/null 2>&1 </dev/null & done"


@pytest.fixture(scope="module")
def placed(cluster: Cluster) -> Iterator[Cluster]:
    product.release(cluster, *NO_SHIM)
    newborn.apply_example(cluster)
    here = ("-n", scenario.NAMESPACE, newborn.PLACEMENT)
    cluster.kubectl("wait", "mp", *here, "--for=condition=Ready", "--timeout=120s")
    yield cluster
    cluster.kubectl("delete", "-n", scenario.NAMESPACE, "-f", str(newborn.EXAMPLE))
    product.release(cluster)


@contextmanager
def busy(cluster: Cluster) -> Iterator[None]:
    """Have as many programs compute on the worker as it has processors.

    containerd misses its own deadlines then, and kubelet tries again: which start failed for
    that says nothing of the agent.
    """
    cluster.ssh(WORKER, BUSY)
    try:
        yield
    finally:
        cluster.ssh(WORKER, "pkill -x yes")


@contextmanager
def pods(cluster: Cluster, prefix: str) -> Iterator[list[str]]:
    """Create the pods at once; ends them."""
    names = [f"{prefix}-{number}" for number in range(PODS)]
    args = ("touch", str(MIB))
    newborn.create(cluster, [pod(name, spec(container("main", *args))) for name in names])
    try:
        yield names
    finally:
        cluster.kubectl("delete", "pod", *FORCE, *names)


def touched(cluster: Cluster, names: list[str]) -> Born:
    """Wait until all have touched their memory; an emulated worker takes minutes for so many."""
    where = ("-n", scenario.NAMESPACE, "--for=condition=Ready", "--timeout=1200s")
    cluster.kubectl("wait", *where, *(f"pod/{name}" for name in names), timeout_s=1230)
    found = newborn.touched(cluster, [(name, "main") for name in names]).values()
    return Born(sum(each.wrong for each in found), sum(each.right for each in found))


def failed_starts(cluster: Cluster, names: list[str]) -> list[str]:
    """Return what kubelet tells of starts of these pods that failed."""
    events = cluster.get("events", "-n", scenario.NAMESPACE)["items"]
    about = [each for each in events if each["involvedObject"].get("name") in names]
    return [each["message"] for each in about if each["reason"].startswith("Failed")]


def test_less_than_a_hundredth_is_born_on_the_wrong_tier(placed: Cluster) -> None:
    with busy(placed), pods(placed, "heard") as names:
        born = touched(placed, names)
        say(f"FIGURE {PODS} pods at once, by events, the worker busy: {born}")
    assert born.right
    assert born.share < GOAL


def test_no_start_fails_while_the_agents_are_upgraded(placed: Cluster) -> None:
    daemonset = ("daemonset/memplace-agent", "-n", product.NAMESPACE)
    placed.kubectl("rollout", "restart", *daemonset)
    began = time.monotonic()
    with pods(placed, "meanwhile") as names:
        born = touched(placed, names)
        placed.kubectl("rollout", "status", *daemonset, "--timeout=300s", timeout_s=330)
        took = time.monotonic() - began
        say(f"FIGURE {PODS} pods while the agents are replaced ({took:.0f} s): {born}")
        assert not failed_starts(placed, names)
        assert not restarts(placed, names)
        wait_for(
            "a default in each of them, late",
            lambda: len(with_default(placed)) >= PODS,
            timeout_s=120,
            hint=lambda: f"{len(with_default(placed))} have one",
        )


def restarts(cluster: Cluster, names: list[str]) -> dict[str, int]:
    """Return the pods whose container did not start the first time."""
    counts = {name: newborn.statuses(cluster, name)["main"]["restartCount"] for name in names}
    return {name: count for name, count in counts.items() if count}


def with_default(cluster: Cluster) -> list[str]:
    """Return the workloads of the worker that have a default for mappings to come."""
    command = (
        "for pid in $(pgrep -x workload); do "
        "grep -qs '^Mpol_future:' /proc/$pid/status && echo $pid; done; true"
    )
    return cluster.ssh(WORKER, command).split()
