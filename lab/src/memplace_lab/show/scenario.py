# SPDX-License-Identifier: Apache-2.0
"""The pods of the demo and the tests, and what can be asked of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memplace_lab.base import store
from memplace_lab.base.steps import step, wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import witness
from memplace_lab.show.redisload import RedisLoad
from memplace_lab.show.witness import Observation, Vma

NAMESPACE = "cache"
PODS = ("redis", "workload")
EXAMPLE = store.REPO / "examples" / "heap-on-cxl.yaml"
PLACEMENT = "heap-on-cxl"
REDIS_KEYS = 12_000  # of 4 KiB: 47 MiB of values
DRAM, CXL = 0, 1  # NUMA nodes of a worker


@dataclass(frozen=True, slots=True)
class Pod:
    """A running pod with one container."""

    cluster: Cluster
    name: str
    worker: str
    address: str
    container_id: str

    def observe(self) -> Observation:
        """Read where its bytes are, on its worker."""
        return witness.observe(self.cluster, self.worker, self.container_id)

    def exec(self, *command: str) -> str:
        """Run a program in its container."""
        return self.cluster.kubectl("exec", "-n", NAMESPACE, self.name, "--", *command)

    def restarts(self) -> int:
        """Return how often its container was started again."""
        pod = self.cluster.get("pod", "-n", NAMESPACE, self.name)
        return int(pod["status"]["containerStatuses"][0]["restartCount"])


def start_pods(cluster: Cluster, names: Sequence[str] = PODS) -> dict[str, Pod]:
    """Create the pods and wait until those named run and have their memory; return these by name.

    A container runs from its program's first instruction on. What is said of a program that
    has mapped nothing yet, such as Ready, is soon about something else.
    """
    with step(f"pods nobody prepared: {', '.join(names)}"):
        create_pods(cluster)
        wait = ("wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=240s", "pod")
        cluster.kubectl(*wait, *names)
        if "workload" in names:
            wait_for(
                "the workload has filled its regions",
                lambda: "ready" in cluster.kubectl("logs", "-n", NAMESPACE, "workload"),
                timeout_s=60,
            )
    return {name: find_pod(cluster, name) for name in names}


def create_namespace(cluster: Cluster) -> None:
    """Create the namespace of all pods, if it is not there."""
    namespace, *_ = product.workload_manifest().split("\n---\n")
    cluster.kubectl("apply", "-f", "-", stdin=namespace)


def create_pods(cluster: Cluster) -> None:
    """Create the namespace and the pods of the demo."""
    cluster.kubectl("apply", "-f", "-", stdin=product.workload_manifest())


def find_pod(cluster: Cluster, name: str) -> Pod:
    """Return a running pod as it is now."""
    pod = cluster.get("pod", "-n", NAMESPACE, name)
    container = pod["status"]["containerStatuses"][0]
    return Pod(
        cluster, name, pod["spec"]["nodeName"], pod["status"]["podIP"], container["containerID"]
    )


def fill_redis(pod: Pod) -> RedisLoad:
    """Fill Redis with values and return its client."""
    load = RedisLoad(pod.cluster, pod.address)
    with step(f"{REDIS_KEYS * 4 // 1024} MiB of values into Redis"):
        load.fill(REDIS_KEYS)
    return load


def apply_example(cluster: Cluster) -> None:
    """Apply the example placement."""
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(EXAMPLE))


def wait_ready(cluster: Cluster, name: str = PLACEMENT, *, timeout_s: int = 180) -> None:
    """Wait as a user would: ``kubectl wait --for=condition=Ready``."""
    cluster.kubectl(
        "wait",
        "-n",
        NAMESPACE,
        f"mp/{name}",
        "--for=condition=Ready",
        f"--timeout={timeout_s}s",
        timeout_s=timeout_s + 30,
    )


def status(cluster: Cluster, name: str = PLACEMENT) -> dict[str, Any]:
    """Return the status of a placement."""
    found: dict[str, Any] = cluster.get("mp", "-n", NAMESPACE, name).get("status", {})
    return found


def claimed_tiers(placement_status: Mapping[str, Any]) -> dict[str, int]:
    """Return the bytes per tier that a placement's status claims, over all rules."""
    total: dict[str, int] = {}
    for rule in placement_status.get("rules", []):
        for tier in rule.get("tiers", []):
            total[tier["name"]] = total.get(tier["name"], 0) + int(tier["bytes"])
    return total


def placed_bytes(observation: Observation) -> dict[int, int]:
    """Return the bytes per NUMA node of all regions that carry a policy.

    What several processes of the container map counts once.
    """
    return witness.add_up(m.own for m in observation.mappings if m.policy != "default")


def on_tier(nodes: Mapping[int, int]) -> bool:
    """Return whether there are bytes and all of them are on the CXL node."""
    return nodes.get(CXL, 0) > 0 and nodes.get(DRAM, 0) == 0


def anonymous_share(observation: Observation) -> float:
    """Return which part of the anonymous memory is on the CXL node, from 0 to 1.

    Thread stacks count: to this reader they look like any other anonymous memory.
    """
    nodes = observation.where(lambda m: m.label in ("heap", "anonymous"))
    return nodes.get(CXL, 0) / max(1, sum(nodes.values()))


def grow(pod: Pod) -> float:
    """Have the workload map a region, and return the seconds until it is on the tier."""
    before = time.monotonic()
    pod.exec("/workload", "map")
    wait_for(
        "the new region on the tier",
        lambda: on_tier(pod.observe().labelled("anon:later")),
        timeout_s=60,
        interval_s=0.3,
    )
    return time.monotonic() - before


def fork(pod: Pod) -> float:
    """Have the workload fork, and return the seconds until the child's values are on the tier."""
    known = pod.observe().pids
    before = time.monotonic()
    pod.exec("/workload", "fork")

    def child_is_placed() -> bool:
        found = pod.observe()
        child = found.pids - known
        values = found.where(lambda m: m.pid in child and m.label == "anon:values")
        return bool(child) and on_tier(values)

    wait_for("the new child on the tier", child_is_placed, timeout_s=60, interval_s=0.3)
    return time.monotonic() - before


def wait_policies_back(pods: Mapping[str, Pod], *, timeout_s: float = 60) -> float:
    """Wait until no region of the pods carries a policy; return the seconds."""
    return wait_for(
        "the policies of the regions as they were",
        lambda: not any(_with_policy(pods)),
        timeout_s=timeout_s,
        interval_s=0.5,
        hint=lambda: "\n".join(map(str, _with_policy(pods))),
    )


def _with_policy(pods: Mapping[str, Pod]) -> Iterator[Vma]:
    for pod in pods.values():
        yield from (m for m in pod.observe().mappings if m.policy != "default")
