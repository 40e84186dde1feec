# SPDX-License-Identifier: Apache-2.0
"""Two tenants on one node, each with a limit of the tier: one asks for more than it may have.

Where the bytes are is read from outside, from the worker's numa_maps. Each test goes on where the
one before it ended.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from memplace_lab.base.steps import LabError, wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import newborn, witness
from memplace_lab.show.newborn import WORKER, Born, container, spec

pytestmark = pytest.mark.timeout(900)
MIB = 1 << 20
A, B = "team-a", "team-b"
PLACEMENT, LABELS = "data-on-cxl", {"memory": "data-on-cxl"}
# The pods have 16 MiB each: of team-a one has room, of team-b both.
TWO = {A: "24Mi", B: "64Mi"}


def tier(limits: Mapping[str, str]) -> str:
    entries = [{"namespace": name, "perNode": size} for name, size in limits.items()]
    meta = {"apiVersion": "memplace.dev/v1alpha1", "kind": "MemoryTier"}
    spec = {"namespaceLimits": entries}
    return json.dumps(meta | {"metadata": {"name": "cxl"}, "spec": spec})


def placement(namespace: str) -> dict[str, Any]:
    rule = {
        "name": "data",
        "regions": [{"type": "Heap"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    return {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "MemoryPlacement",
        "metadata": {"name": PLACEMENT, "namespace": namespace},
        "spec": {"selector": {"matchLabels": LABELS}, "rules": [rule]},
    }


def pod(namespace: str, name: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "labels": LABELS}
    pod_spec = spec(container("main", "touch", "16"))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec}


def start(cluster: Cluster, namespace: str, name: str) -> None:
    """Start a pod and wait until it has its memory."""
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod(namespace, name)))
    where = ("-n", namespace, name)

    def is_done() -> bool:
        statuses = newborn.statuses_in(cluster.get("pod", *where))
        runs = newborn.runs(statuses.get("main", {}))
        with contextlib.suppress(LabError):  # a kubelet that is busy
            return runs and newborn.told(cluster.kubectl("logs", *where)) is not None
        return False

    wait_for(f"{namespace}/{name} has its memory", is_done, timeout_s=240)


def seen(cluster: Cluster, namespace: str, name: str) -> tuple[Born, set[str]]:
    """Where a pod's data are, and which policies it has."""
    statuses = newborn.statuses_in(cluster.get("pod", "-n", namespace, name))
    found = witness.observe(cluster, WORKER, statuses["main"]["containerID"])
    data = {each.policy for each in found.mappings if newborn.keeps_data(each)}
    return newborn.seen(found), data


def on_cxl(cluster: Cluster, namespace: str, *names: str) -> int:
    return sum(seen(cluster, namespace, name)[0].right for name in names)


def conditions(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    status = cluster.get("mp", "-n", namespace, PLACEMENT).get("status", {})
    return {each["type"]: each for each in status.get("conditions", [])}


def until(cluster: Cluster, namespace: str, reason: str, *, placed: int, of: int) -> dict[str, Any]:
    """Wait until so many pods are placed, of so many, and return the status."""

    def holds() -> bool:
        status = cluster.get("mp", "-n", namespace, PLACEMENT).get("status", {})
        found = conditions(cluster, namespace).get("Ready", {}).get("reason")
        told = {each["reason"] for each in status.get("pods", [])}
        counts = (status.get("placedPods"), status.get("matchedPods"))
        return (found, counts) == (reason, (placed, of)) and told <= {"NamespaceLimit"}

    wait_for(
        f"{namespace}: {reason}, {placed} of {of} pods placed",
        holds,
        timeout_s=180,
        hint=lambda: str(cluster.get("mp", "-n", namespace, PLACEMENT).get("status")),
    )
    status: dict[str, Any] = cluster.get("mp", "-n", namespace, PLACEMENT)["status"]
    return status


@pytest.fixture(scope="module")
def tenants(cluster: Cluster) -> Iterator[Cluster]:
    """Both tenants' pods, running; then the limits, then their placements."""
    for namespace in (A, B):
        cluster.kubectl("create", "namespace", namespace)
        for name in ("first", "second"):
            start(cluster, namespace, name)
    cluster.kubectl("apply", "-f", "-", stdin=tier(TWO))
    for namespace in (A, B):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(placement(namespace)))
    yield cluster
    cluster.kubectl("delete", "memorytier", "cxl", "--ignore-not-found")
    for namespace in (A, B):
        where = ("-n", namespace, "--all")
        cluster.kubectl("delete", "mp", *where)
        cluster.kubectl("delete", "pod", *where, "--force", "--grace-period=0")
    cluster.kubectl("delete", "namespace", A, B, "--wait=false")


def test_one_has_room_for_one_pod_and_the_other_for_both(tenants: Cluster) -> None:
    until(tenants, B, "Placed", placed=2, of=2)
    status = until(tenants, A, "NamespaceLimit", placed=1, of=2)
    assert on_cxl(tenants, B, "first", "second") >= 32 * MIB
    assert on_cxl(tenants, A, "first") >= 16 * MIB
    other, policies = seen(tenants, A, "second")
    assert other.right == 0 and policies == {"default"}
    (told,) = status["pods"]
    assert (told["name"], told["reason"]) == ("second", "NamespaceLimit")
    degraded = conditions(tenants, A)["Degraded"]
    assert (degraded["status"], degraded["reason"]) == ("True", "NamespaceLimit")
    assert f"namespace {A} may have 24Mi of tier cxl" in degraded["message"]


def test_a_pod_that_comes_gets_nothing_of_the_tier_from_its_first_page(tenants: Cluster) -> None:
    start(tenants, A, "third")
    status = until(tenants, A, "NamespaceLimit", placed=1, of=3)
    assert {each["name"] for each in status["pods"]} == {"second", "third"}
    born, policies = seen(tenants, A, "third")
    assert born.right == 0 and policies == {"default"}
    assert on_cxl(tenants, A, "first", "second", "third") <= 24 * MIB


def test_a_metric_counts_who_waits(tenants: Cluster) -> None:
    def waiting() -> float:
        pods = ("-n", product.NAMESPACE, "-l", "app.kubernetes.io/component=agent")
        here = ("--field-selector", f"spec.nodeName={WORKER}", "-o", "name")
        name = tenants.kubectl("get", "pod", *pods, *here).strip().removeprefix("pod/")
        path = f"/api/v1/namespaces/{product.NAMESPACE}/pods/{name}:8080/proxy/metrics"
        lines = tenants.kubectl("get", "--raw", path).splitlines()
        line = 'memplace_agent_namespace_limited_containers{tier="cxl"} '
        return float(next((each for each in lines if each.startswith(line)), "0 0").split()[1])

    wait_for("a metric of two", lambda: waiting() == 2, timeout_s=60, hint=lambda: str(waiting()))


def test_a_higher_limit_serves_who_waits(tenants: Cluster) -> None:
    tenants.kubectl("apply", "-f", "-", stdin=tier(TWO | {A: "64Mi"}))
    until(tenants, A, "Placed", placed=3, of=3)
    assert on_cxl(tenants, A, "first", "second", "third") >= 48 * MIB


def test_a_lower_one_moves_nothing_back_and_ends_what_would_bring_more(tenants: Cluster) -> None:
    before = on_cxl(tenants, A, "first", "second", "third")
    tenants.kubectl("apply", "-f", "-", stdin=tier(TWO | {A: "8Mi"}))
    until(tenants, A, "NamespaceLimit", placed=0, of=3)
    for name in ("first", "second", "third"):
        _, policies = seen(tenants, A, name)
        assert policies == {"default"}, name
    assert on_cxl(tenants, A, "first", "second", "third") == before
    until(tenants, B, "Placed", placed=2, of=2)


def test_a_placement_that_is_made_anew_makes_no_room(tenants: Cluster) -> None:
    tenants.kubectl("apply", "-f", "-", stdin=tier(TWO | {A: "48Mi"}))
    tenants.kubectl("delete", "mp", "-n", A, PLACEMENT)
    start(tenants, A, "fourth")
    only = placement(A)
    only["spec"]["selector"] = {"matchLabels": {"only": "fourth"}}
    tenants.kubectl("label", "pod", "-n", A, "fourth", "only=fourth")
    tenants.kubectl("apply", "-f", "-", stdin=json.dumps(only))
    # 48 MiB of three pods that nothing selects any more are still there.
    until(tenants, A, "NamespaceLimit", placed=0, of=1)
    assert on_cxl(tenants, A, "fourth") == 0


def test_a_dry_run_foresees_who_would_be_refused(tenants: Cluster) -> None:
    def mode(name: str) -> None:
        change = json.dumps({"spec": {"mode": name}})
        tenants.kubectl("patch", "mp", "-n", A, PLACEMENT, "--type=merge", "-p", change)

    def says() -> str:
        ready = conditions(tenants, A).get("Ready", {})
        return str(ready.get("message")) if ready.get("reason") == "DryRun" else ""

    def until_said(text: str) -> None:
        wait_for(f"a dry run that says: {text}", lambda: text in says(), timeout_s=120, hint=says)

    mode("DryRun")
    until_said("1 pod would stay where it is, refused for a limit of the namespace")
    assert conditions(tenants, A)["Degraded"]["status"] == "False"
    tenants.kubectl("apply", "-f", "-", stdin=tier(TWO | {A: "128Mi"}))
    until_said("in 1 pod would move (rule data ")
    assert "refused" not in says() and on_cxl(tenants, A, "fourth") == 0
    tenants.kubectl("apply", "-f", "-", stdin=tier(TWO | {A: "48Mi"}))
    until_said("refused for a limit of the namespace")
    mode("Enforce")
    until(tenants, A, "NamespaceLimit", placed=0, of=1)


def test_without_limits_all_is_placed(tenants: Cluster) -> None:
    tenants.kubectl("delete", "memorytier", "cxl")
    until(tenants, A, "Placed", placed=1, of=1)
    assert on_cxl(tenants, A, "fourth") >= 16 * MIB
