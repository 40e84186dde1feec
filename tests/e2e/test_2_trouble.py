# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in clusters: each ends in a condition with its reason, or heals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from memplace_lab.base.steps import wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import both_kernels, scenario
from memplace_lab.show.scenario import Pod

pytestmark = pytest.mark.timeout(600)
AGENT = "pgrep -f 'python3 -m memplace_agent$'"


def placement(name: str, *, app: str, tier: str = "cxl", mode: str = "PreferredMany") -> str:
    """Return a placement of the named region of one app."""
    return f"""
apiVersion: memplace.dev/v1alpha1
kind: MemoryPlacement
metadata: {{name: {name}, namespace: {scenario.NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  rules:
  - name: values
    regions: [{{type: Anonymous, name: values}}]
    policy: {{mode: {mode}, tiers: [{tier}]}}
"""


def condition(cluster: Cluster, name: str, kind: str) -> dict[str, Any]:
    conditions = scenario.status(cluster, name).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})


def wait_condition(
    cluster: Cluster, name: str, kind: str, status: str, reason: str
) -> dict[str, Any]:
    def holds() -> bool:
        found = condition(cluster, name, kind)
        return (found.get("status"), found.get("reason")) == (status, reason)

    wait_for(
        f"{name}: {kind}={status} {reason}",
        holds,
        timeout_s=90,
        hint=lambda: str(scenario.status(cluster, name)),
    )
    return condition(cluster, name, kind)


@pytest.fixture
def start(cluster: Cluster) -> Iterator[Callable[..., Pod]]:
    """Start workload pods that the test's end removes."""
    scenario.create_namespace(cluster)
    started: list[str] = []

    def start_one(name: str, worker: str = "worker-1", app: str = "workload") -> Pod:
        started.append(name)
        manifest = both_kernels.workload(name, worker=worker, app=app)
        cluster.kubectl("apply", "-f", "-", stdin=manifest)
        cluster.kubectl(
            "wait",
            "-n",
            scenario.NAMESPACE,
            "--for=condition=Ready",
            "--timeout=240s",
            f"pod/{name}",
        )
        return scenario.find_pod(cluster, name)

    yield start_one
    if started:
        how = ("-n", scenario.NAMESPACE, "--ignore-not-found", "--wait=false")
        cluster.kubectl("delete", "pod", *started, *how)


@pytest.fixture
def apply(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """Apply placements that the test's end removes."""
    applied: list[str] = []

    def apply_one(manifest: str) -> None:
        applied.append(manifest)
        cluster.kubectl("apply", "-f", "-", stdin=manifest)

    yield apply_one
    for manifest in applied:
        cluster.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=manifest)


@pytest.fixture(scope="module")
def example(cluster: Cluster, pods: dict[str, Pod]) -> None:
    """Have the example's placement on its pods: the one that trouble elsewhere leaves alone."""
    scenario.apply_example(cluster)
    scenario.wait_ready(cluster)


def values_on_tier(pod: Pod) -> bool:
    return scenario.on_tier(pod.observe().labelled("anon:values"))


def test_a_dry_run_changes_nothing_and_says_what_would_move(
    cluster: Cluster, start: Callable[..., Pod], apply: Callable[[str], None]
) -> None:
    pod = start("tried", app="tried")
    wait_for(
        "values to be there",
        lambda: sum(pod.observe().labelled("anon:values").values()) > 8 << 20,
        timeout_s=60,
    )
    meant = placement("tried", app="tried")
    dry = meant.replace("  rules:", "  mode: DryRun\n  rules:")
    apply(dry)
    found = wait_condition(cluster, "tried", "Ready", "False", "DryRun")
    assert "would move (rule values" in found["message"]
    (rule,) = scenario.status(cluster, "tried")["rules"]
    assert rule["misplacedBytes"] == rule["bytes"] > 8 << 20
    before = pod.observe()
    assert scenario.CXL not in before.labelled("anon:values")
    unplaced = before.policies("anon:values")
    # Meant, and then only tried again: policies go, pages stay.
    apply(meant)
    wait_condition(cluster, "tried", "Ready", "True", "Placed")
    assert values_on_tier(pod) and pod.observe().policies("anon:values") != unplaced
    apply(dry)
    found = wait_condition(cluster, "tried", "Ready", "False", "DryRun")
    assert "would move (rule values" not in found["message"]
    assert values_on_tier(pod) and pod.observe().policies("anon:values") == unplaced


def test_a_stock_kernel_is_named_and_left_alone(
    cluster: Cluster, pods: dict[str, Pod], example: None, start: Callable[..., Pod]
) -> None:
    stranger = start("on-stock-kernel", worker="worker-2")
    found = wait_condition(
        cluster, scenario.PLACEMENT, "Unsupported", "True", "KernelWithoutProcessMbind"
    )
    assert "worker-2" in found["message"]
    observation = stranger.observe()
    assert not scenario.placed_bytes(observation)
    assert scenario.CXL not in observation.labelled("heap")
    assert values_on_tier(pods["workload"])
    node = cluster.get("nodememory", "worker-2")
    assert node["status"]["backend"]["name"] == "MovePages"
    # Without it the placement is ready again.
    cluster.kubectl("delete", "pod", "-n", scenario.NAMESPACE, stranger.name)
    wait_condition(cluster, scenario.PLACEMENT, "Unsupported", "False", "AllNodesSupported")
    scenario.wait_ready(cluster, timeout_s=60)


def test_a_tier_that_no_node_has(
    cluster: Cluster, example: None, start: Callable[..., Pod], apply: Callable[[str], None]
) -> None:
    pod = start("wants-hbm", app="wants-hbm")
    apply(placement("on-hbm", app="wants-hbm", tier="hbm"))
    found = wait_condition(cluster, "on-hbm", "Degraded", "True", "TierUnknown")
    assert "hbm" in found["message"]
    assert not scenario.placed_bytes(pod.observe())
    scenario.wait_ready(cluster, timeout_s=5)


def test_two_placements_of_one_pod(
    cluster: Cluster, example: None, apply: Callable[[str], None]
) -> None:
    apply(placement("too-late", app="workload", tier="dram"))
    found = wait_condition(cluster, "too-late", "Degraded", "True", "Conflict")
    assert scenario.PLACEMENT in found["message"]
    scenario.wait_ready(cluster, timeout_s=5)


def test_a_pod_that_vanishes(
    cluster: Cluster, example: None, start: Callable[..., Pod], apply: Callable[[str], None]
) -> None:
    start("short-lived", app="short-lived")
    apply(placement("of-short-lived", app="short-lived"))
    cluster.kubectl(
        "delete", "pod", "-n", scenario.NAMESPACE, "short-lived", "--grace-period=0", "--force"
    )
    wait_condition(cluster, "of-short-lived", "Ready", "True", "NoPods")
    scenario.wait_ready(cluster, timeout_s=5)


def test_a_full_tier(
    cluster: Cluster, start: Callable[..., Pod], apply: Callable[[str], None]
) -> None:
    pod = start("comes-late", app="comes-late")
    # Preferred, not bound: what does not fit goes to node 0, and nobody is killed for room.
    cluster.ssh(
        "worker-1",
        "systemd-run --unit=hog --quiet numactl --preferred=1 python3 -c '"
        'import mmap,time\nwith open("/sys/devices/system/node/node1/meminfo") as f: '
        'free=int(next(l for l in f if "MemFree" in l).split()[3])*1024\n'
        "m=mmap.mmap(-1,free)\nfor i in range(0,len(m),4096): m[i]=1\n"
        'open("/run/hog","w").close()\ntime.sleep(600)\'',
    )
    try:
        wait_for(
            "tier 1 to be full", lambda: "hog" in cluster.ssh("worker-1", "ls /run"), timeout_s=120
        )
        apply(placement("on-full-tier", app="comes-late"))
        found = wait_condition(cluster, "on-full-tier", "Degraded", "True", "TierFull")
        assert "cxl" in found["message"]
        assert pod.restarts() == 0
    finally:
        cluster.ssh("worker-1", "systemctl stop hog; rm -f /run/hog")
    wait_condition(cluster, "on-full-tier", "Ready", "True", "Placed")


def test_the_agent_places_without_the_operator(
    cluster: Cluster, example: None, start: Callable[..., Pod]
) -> None:
    deployment = ("deployment/memplace-operator", "-n", product.NAMESPACE)
    cluster.kubectl("scale", *deployment, "--replicas=0")
    try:
        pod = start("without-operator")
        wait_for("the new pod on the tier", lambda: values_on_tier(pod), timeout_s=60)
    finally:
        cluster.kubectl("scale", *deployment, "--replicas=1")
    cluster.kubectl("rollout", "status", *deployment, "--timeout=120s")


def test_the_agent_killed_in_the_middle_of_a_move(
    cluster: Cluster, start: Callable[..., Pod], apply: Callable[[str], None]
) -> None:
    pod = start("moved-twice", app="moved-twice")
    killer = (
        "for i in $(seq 600); do "
        rf"grep -qE 'prefer \(many\)(=static)?:1' /proc/{min(pod.observe().pids)}/numa_maps"
        f" && kill -9 $({AGENT}) && echo killed && exit; sleep 0.01; done"
    )
    cluster.ssh("worker-1", f"nohup sh -c {_quoted(killer)} > /run/killer 2>&1 &")
    apply(placement("of-moved-twice", app="moved-twice"))
    wait_for(
        "the agent's death",
        lambda: "killed" in cluster.ssh("worker-1", "cat /run/killer"),
        timeout_s=60,
    )
    wait_condition(cluster, "of-moved-twice", "Ready", "True", "Placed")
    assert values_on_tier(pod)
    assert pod.restarts() == 0
    cluster.kubectl("delete", "mp", "-n", scenario.NAMESPACE, "of-moved-twice")
    scenario.wait_policies_back({"moved-twice": pod})


def _quoted(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"


def test_the_api_server_restarted(
    cluster: Cluster, start: Callable[..., Pod], apply: Callable[[str], None]
) -> None:
    apply(placement("through-restart", app="through-restart"))
    cluster.control_plane.restart_apiserver()
    pod = start("through-restart", app="through-restart")
    # Still filling its memory when it starts: Ready may be true before there are any values.
    wait_for("the new pod on the tier", lambda: values_on_tier(pod), timeout_s=60)
    wait_condition(cluster, "through-restart", "Ready", "True", "Placed")


def test_agents_heartbeat_and_the_cluster_is_calm(cluster: Cluster, example: None) -> None:
    """No status is written, and no event posted, when nothing changes."""
    scenario.wait_ready(cluster)
    # Figures of what changed before are written within 20 s.
    time.sleep(25)
    version = cluster.get("mp", "-n", scenario.NAMESPACE, scenario.PLACEMENT)["metadata"][
        "resourceVersion"
    ]
    time.sleep(25)
    again = cluster.get("mp", "-n", scenario.NAMESPACE, scenario.PLACEMENT)["metadata"][
        "resourceVersion"
    ]
    assert again == version
