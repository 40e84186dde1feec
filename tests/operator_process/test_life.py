# SPDX-License-Identifier: Apache-2.0
"""The operator as a process against a real API server; agents and kubelets are played."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from memplace_lab.product.operating import API, Operator

from tests.support.cluster import Cluster, chore, eventually, result

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]


def test_from_nothing_to_ready(cluster: Cluster, operator: Operator) -> None:
    placement = cluster.apply("mp")
    assert "no pod" in cluster.wait("mp", "Ready", "True", "NoPods")
    pod = cluster.run_pod("redis-0")
    cluster.wait("mp", "Ready", "False", "Pending")
    cluster.report(result(placement, pod, state="Moving"))
    cluster.wait("mp", "Ready", "False", "Moving")
    cluster.report(result(placement, pod))
    waited = cluster.api.kubectl(
        "wait", "mp/mp", "-n", cluster.namespace, "--for=condition=Ready", "--timeout=20s"
    )
    assert waited.returncode == 0, waited.stderr
    status = cluster.get("mp")["status"]
    assert [status[k] for k in ("matchedPods", "placedPods", "unsupportedPods")] == [1, 1, 0]
    assert status["observedGeneration"] == placement["metadata"]["generation"]
    eventually(lambda: cluster.get("mp")["status"]["rules"][0]["bytes"])
    assert cluster.get("mp")["status"]["rules"] == [
        {
            "name": "heap",
            "regions": 2,
            "bytes": 65 << 20,
            "tiers": [{"name": "cxl", "bytes": 64 << 20}, {"name": "other", "bytes": 1 << 20}],
            "misplacedBytes": 0,
        }
    ]
    eventually(
        lambda: (
            cluster.events("mp")
            == [("Normal", "NoPods"), ("Normal", "Pending"), ("Normal", "Placed")]
        )
    )


def test_kubectl_shows_events_as_those_of_any_controller(cluster: Cluster) -> None:
    cluster.apply("mp")
    cluster.wait("mp", "Ready", "True", "NoPods")
    eventually(lambda: cluster.events("mp") == [("Normal", "NoPods")])
    shown = cluster.api.kubectl("get", "events", "-n", cluster.namespace).stdout.splitlines()
    assert shown[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    words = shown[1].split()
    assert words[0] != "<unknown>"
    assert words[1:4] == ["Normal", "NoPods", "memoryplacement/mp"]
    said = cluster.api.kubectl("describe", "mp", "mp", "-n", cluster.namespace).stdout
    assert "memplace.dev/operator" in said.partition("Events:")[2]
    path = f"/apis/events.k8s.io/v1/namespaces/{cluster.namespace}/events"
    (event,) = cluster.api.call("GET", path).body["items"]
    assert event["regarding"]["kind"] == "MemoryPlacement"
    assert event["reportingController"] == "memplace.dev/operator"
    assert event["reportingInstance"]


def test_what_happens_again_is_told_in_the_same_event(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    for _ in range(3):
        cluster.report(result(placement, pod))
        cluster.wait("mp", "Ready", "True", "Placed")
        cluster.report(result(placement, pod, state="Failed", reason="TierFull", message="full"))
        cluster.wait("mp", "Degraded", "True", "TierFull")
    path = f"/apis/events.k8s.io/v1/namespaces/{cluster.namespace}/events"

    def told() -> dict[str, tuple[int, str, str]]:
        found = [e for e in cluster.api.call("GET", path).body["items"] if e.get("series")]
        return {
            e["reason"]: (e["series"]["count"], e["eventTime"], e["series"]["lastObservedTime"])
            for e in found
        }

    eventually(lambda: told().get("TierFull", (0,))[0] == 3)
    assert {reason: count for reason, (count, *_) in told().items()}["Placed"] == 3
    assert all(first < last for _, first, last in told().values())
    assert cluster.events("mp").count(("Warning", "TierFull")) == 1
    for command in (["events"], ["describe", "mp", "mp"]):
        shown = cluster.api.kubectl(*command, "-n", cluster.namespace).stdout
        lines = shown.rpartition("LAST SEEN")[2].rpartition("Events:")[2].splitlines()
        (line,) = [each for each in lines if "TierFull" in each]
        assert "(x3 over " in line


def test_nothing_is_put_on_anybodys_objects(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/redis-0"
    for meta in (cluster.get("mp")["metadata"], cluster.api.call("GET", path).body["metadata"]):
        assert "finalizers" not in meta
        assert "annotations" not in meta


def test_a_changed_spec_is_not_ready_until_the_agent_followed(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    change = {"spec": {"containers": ["redis"]}}
    newer = cluster.api.call("PATCH", cluster.placement_path("mp"), change).body
    cluster.wait("mp", "Ready", "False", "Pending")
    cluster.report(result(newer, pod))
    cluster.wait("mp", "Ready", "True", "Placed")


def test_a_restarted_container_is_not_placed(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    cluster.pod_status("redis-0", pod, number=2)
    cluster.wait("mp", "Ready", "False", "Pending")
    cluster.report(result(placement, pod, number=2))
    cluster.wait("mp", "Ready", "True", "Placed")


def test_the_older_of_two_placements_wins(cluster: Cluster) -> None:
    first = cluster.apply("zz-older")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(first, pod))
    cluster.wait("zz-older", "Ready", "True", "Placed")
    version = cluster.get("zz-older")["metadata"]["resourceVersion"]
    time.sleep(1.1)  # creationTimestamp has whole seconds
    cluster.apply("aa-newer")
    message = cluster.wait("aa-newer", "Degraded", "True", "Conflict")
    assert "zz-older" in message
    assert "redis-0" in message
    assert cluster.get("zz-older")["metadata"]["resourceVersion"] == version
    eventually(lambda: cluster.events("aa-newer") == [("Warning", "Conflict")])
    cluster.api.call("DELETE", cluster.placement_path("zz-older"))
    cluster.wait("aa-newer", "Degraded", "False", "AsExpected")


def test_the_priority_decides_and_can_be_swapped(cluster: Cluster) -> None:
    # Of one second, the name decides.
    first = cluster.apply("aa-old")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(first, pod))
    cluster.wait("aa-old", "Ready", "True", "Placed")
    cluster.apply("zz-new")
    cluster.wait("zz-new", "Degraded", "True", "Conflict")
    change = {"spec": {"priority": 5}}
    newer = cluster.api.call("PATCH", cluster.placement_path("zz-new"), change).body
    message = cluster.wait("aa-old", "Degraded", "True", "Conflict")
    assert "placement zz-new has priority 5, this one 0, and has container redis" in message
    cluster.wait("zz-new", "Ready", "False", "Pending")
    cluster.report(result(newer, pod))
    cluster.wait("zz-new", "Ready", "True", "Placed")
    change = {"spec": {"priority": 6}}
    older = cluster.api.call("PATCH", cluster.placement_path("aa-old"), change).body
    assert "priority 6, this one 5" in cluster.wait("zz-new", "Degraded", "True", "Conflict")
    cluster.report(result(older, pod))
    cluster.wait("aa-old", "Ready", "True", "Placed")


def test_one_that_is_paused_says_so_until_it_goes_on(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    path = cluster.placement_path("mp")
    paused = cluster.api.call("PATCH", path, {"spec": {"paused": True}}).body
    # Until its agent has heard of it, nothing says that the work has stopped.
    cluster.wait("mp", "Ready", "False", "Pending")
    cluster.report(result(paused, pod, state="Paused", reason="Paused"))
    message = cluster.wait("mp", "Ready", "False", "Paused")
    assert "set it to false to go on" in message
    assert cluster.get("mp")["status"]["rules"][0]["bytes"] == 65 << 20
    assert cluster.condition("mp", "Degraded")[:2] == ("False", "AsExpected")
    resumed = cluster.api.call("PATCH", path, {"spec": {"paused": False}}).body
    cluster.wait("mp", "Ready", "False", "Pending")
    cluster.report(result(resumed, pod))
    cluster.wait("mp", "Ready", "True", "Placed")


def test_a_dry_run_tells_what_would_move_until_it_is_meant(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    path = cluster.placement_path("mp")
    dry = cluster.api.call("PATCH", path, {"spec": {"mode": "DryRun"}}).body
    cluster.wait("mp", "Ready", "False", "Pending")
    cluster.report(result(dry, pod, state="DryRun", reason="TierFull"))
    message = cluster.wait("mp", "Ready", "False", "DryRun")
    assert "nothing is changed; " not in message and "none of 65.0 MiB in 1 pod" in message
    assert cluster.condition("mp", "Degraded")[:2] == ("False", "AsExpected")
    meant = cluster.api.call("PATCH", path, {"spec": {"mode": "Enforce"}}).body
    cluster.wait("mp", "Ready", "False", "Pending")
    cluster.report(result(meant, pod))
    cluster.wait("mp", "Ready", "True", "Placed")


def test_a_rule_that_can_never_win(cluster: Cluster) -> None:
    rule = {"regions": [{"type": "Heap"}], "policy": {"mode": "Bind", "tiers": ["cxl"]}}
    cluster.report()
    cluster.apply_rules("mp", [{"name": "first", **rule}, {"name": "second", **rule}])
    message = cluster.wait("mp", "Degraded", "True", "Invalid")
    assert "rule second can never win" in message
    assert cluster.condition("mp")[1] == "Invalid"


def test_a_tier_nobody_has(cluster: Cluster) -> None:
    cluster.report()
    cluster.apply("mp", tiers=("hbm",))
    assert "hbm" in cluster.wait("mp", "Degraded", "True", "TierUnknown")
    body = {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "MemoryTier",
        "metadata": {"name": "hbm"},
        "spec": {"numaNodes": [2]},
    }
    assert cluster.api.call("POST", f"{API}/memorytiers", body).ok
    try:
        cluster.wait("mp", "Degraded", "False", "AsExpected")
    finally:
        cluster.api.call("DELETE", f"{API}/memorytiers/hbm")


def test_a_node_without_the_kernel(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(supported=("False", "KernelWithoutProcessMbind"))
    assert cluster.node in cluster.wait("mp", "Unsupported", "True", "KernelWithoutProcessMbind")
    assert cluster.condition("mp")[:2] == ("False", "Unsupported")
    assert cluster.condition("mp", "Degraded")[:2] == ("False", "AsExpected")
    assert cluster.get("mp")["status"]["unsupportedPods"] == 1
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Unsupported", "False", "AllNodesSupported")


def test_nothing_is_written_when_nothing_changes(cluster: Cluster) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    eventually(lambda: cluster.get("mp")["status"]["rules"][0]["bytes"])
    before = cluster.get("mp")
    for _ in range(6):  # more than one tick of ten seconds
        time.sleep(2)
        cluster.report(result(placement, pod))
    assert cluster.get("mp") == before


def test_a_restarted_operator_finds_nothing_to_write(cluster: Cluster, operator: Operator) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    eventually(lambda: cluster.get("mp")["status"]["rules"][0]["bytes"])
    # An event comes after the status that it is about.
    eventually(lambda: cluster.events("mp")[-1:] == [("Normal", "Placed")])
    before, events = cluster.get("mp"), cluster.events("mp")
    assert operator.stop() == 0
    operator.start()
    eventually(operator.is_ready)
    time.sleep(3)
    assert cluster.get("mp") == before
    assert cluster.events("mp") == events


def test_a_pod_deleted_while_the_operator_was_away(cluster: Cluster, operator: Operator) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    operator.stop()
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/redis-0"
    cluster.api.call("DELETE", path, gracePeriodSeconds="0")
    operator.start()
    cluster.wait("mp", "Ready", "True", "NoPods")


@pytest.mark.timeout(400)
def test_the_api_server_restarts(cluster: Cluster, operator: Operator) -> None:
    placement = cluster.apply("mp")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    process = operator.process.pid
    cluster.api.stop()
    time.sleep(12)
    assert operator.get("/healthz")[0] == 200
    cluster.api.start()
    assert cluster.condition("mp")[:2] == ("True", "Placed")
    cluster.report(result(placement, pod, state="Failed", reason="TierFull", message="full"))
    assert "cxl" in cluster.wait("mp", "Degraded", "True", "TierFull", timeout_s=60)
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    eventually(operator.is_ready)
    assert operator.process.poll() is None
    assert operator.process.pid == process


def test_metrics_and_logs(cluster: Cluster, operator: Operator) -> None:
    cluster.apply("mp")
    cluster.wait("mp", "Ready", "True", "NoPods")
    eventually(
        lambda: 'memplace_operator_placements{reason="NoPods"}' in operator.get("/metrics")[1]
    )
    text = operator.get("/metrics")[1]
    assert 'memplace_operator_reconcile_total{result="success"}' in text
    assert "memplace_operator_reconcile_duration_seconds_count" in text
    assert 'memplace_build_info{component="operator"' in text
    for line in operator.log():
        assert {"message", "severity", "timestamp"} <= line.keys()
    assert not [line for line in operator.log() if "permission" in line["message"].lower()]


def test_selftest(cluster: Cluster, operator: Operator) -> None:
    service = f"http://127.0.0.1:{operator.port}"
    cluster.report(supported=("False", "KernelWithoutProcessMbind"))
    good = chore(cluster.api, "selftest", "--service", service, "--timeout", "20")
    assert good.returncode == 0, good.stdout + good.stderr
    assert f"agent on {cluster.node}  Supported=False" in good.stdout
    cluster.report(age_s=100)
    bad = chore(cluster.api, "selftest", "--service", service, "--timeout", "1")
    assert bad.returncode == 1
    assert bad.stdout.startswith(f"waiting for agent on {cluster.node}: no heartbeat")
    assert f"FAIL  agent on {cluster.node}" in bad.stdout


def test_bad_settings_are_explained(tmp_path: Path) -> None:
    env = os.environ | {"MEMPLACE_HTTP_PORT": "http"}
    command = [sys.executable, "-m", "memplace_operator"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "MEMPLACE_HTTP_PORT: write a port" in done.stderr


def test_on_other_nodes_a_placement_does_not_exist(cluster: Cluster) -> None:
    cluster.join()
    rule = {
        "name": "heap",
        "regions": [{"type": "Heap"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    placement = cluster.apply_rules("mp", [rule], nodeSelector={"pool": cluster.namespace})
    pod = cluster.run_pod("redis-0")
    assert "nodeSelector" in cluster.wait("mp", "Ready", "True", "NoPods")
    node = f"/api/v1/nodes/{cluster.node}"
    labels = {"metadata": {"labels": {"pool": cluster.namespace}}}
    assert cluster.api.call("PATCH", node, labels).ok
    cluster.wait("mp", "Ready", "False", "Pending", timeout_s=10)
    cluster.report(result(placement, pod))
    cluster.wait("mp", "Ready", "True", "Placed")
    assert cluster.api.call("PATCH", node, {"metadata": {"labels": {"pool": None}}}).ok
    cluster.wait("mp", "Ready", "True", "NoPods", timeout_s=10)
