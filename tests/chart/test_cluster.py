# SPDX-License-Identifier: Apache-2.0
"""The chart on a real API server: it installs, is admitted, keeps to itself, and goes."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.release.installing import NAMESPACE, create, install, namespace, uninstall

Json = dict[str, Any]
ADMISSION_TIMEOUT_S = 30


@pytest.fixture
def installed(prepared: Any, chart: Any) -> Iterator[Any]:
    install(prepared, chart)
    try:
        yield prepared
    finally:
        uninstall(prepared)


def test_the_schema_of_every_object_holds(prepared: Any, chart: Any) -> None:
    found = [
        o
        for o in chart.render("networkPolicy.enabled=true")
        if o["kind"] not in {"CustomResourceDefinition", "ServiceAccount"}
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": found})
    accounts = [o for o in chart.render() if o["kind"] == "ServiceAccount"]
    where = [f"--namespace={NAMESPACE}", "--filename=-", "--validate=strict"]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": accounts})
    try:
        assert prepared.kubectl("create", *where, stdin=listed).returncode == 0
        done = prepared.kubectl("create", *where, "--dry-run=server", stdin=text)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    finally:
        prepared.kubectl("delete", *where[:2], stdin=listed)


def pod_of(found: Json, where: str) -> Json:
    """Return the pod a workload would make, in another namespace and account."""
    pod = copy.deepcopy(found if found["kind"] == "Pod" else found["spec"]["template"])
    pod |= {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] = {"name": found["metadata"]["name"], "namespace": where}
    pod["spec"].pop("priorityClassName", None)
    pod["spec"].pop("serviceAccountName")
    pod["spec"]["automountServiceAccountToken"] = False
    pod["spec"]["restartPolicy"] = "Always"
    return pod


@pytest.fixture(scope="module")
def levels(prepared: Any) -> Any:
    """Return the cluster with a namespace per Pod Security level."""
    for level in ("restricted", "baseline", "privileged"):
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": f"is-{level}"},
        }
        done = create(prepared, namespace(f"is-{level}", level), account)
        assert done.returncode == 0, done.stderr
    return prepared


def test_all_but_the_agent_are_admitted_as_restricted(levels: Any, objects: list[Json]) -> None:
    pods = [o for o in objects if o["kind"] in {"Deployment", "Job", "Pod"}]
    assert len(pods) == 3
    for found in pods:
        done = create(levels, pod_of(found, "is-restricted"), dry_run=True)
        assert done.returncode == 0, done.stderr


def test_the_agent_needs_the_level_the_notes_name(levels: Any, one: Any) -> None:
    agent = one("DaemonSet", "agent")
    refused = create(levels, pod_of(agent, "is-baseline"), dry_run=True).stderr
    # These three, and only these, are why: the container as such is unremarkable.
    for reason in ("host namespaces", "hostPath volumes", "non-default capabilities"):
        assert reason in refused
    assert "privileged: " not in refused.replace("PodSecurity", "")
    assert "seccomp" not in refused.partition("hostPath")[0]
    done = create(levels, pod_of(agent, "is-privileged"), dry_run=True)
    assert done.returncode == 0, done.stderr


def node_memory(name: str) -> str:
    found = {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "NodeMemory",
        "metadata": {"name": name},
        "spec": {},
    }
    return json.dumps(found)


def agent_token(cluster: Any, node: str) -> str:
    """Return the token the kubelet of a node would ask for the agent's pod there."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"agent-{node}", "namespace": NAMESPACE},
        "spec": {
            "nodeName": node,
            "serviceAccountName": "memplace-agent",
            "containers": [{"name": "agent", "image": "none"}],
        },
    }
    made = create(cluster, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}, pod)
    assert made.returncode == 0, made.stderr
    bound = ["--bound-object-kind=Pod", f"--bound-object-name=agent-{node}"]
    where = [f"--namespace={NAMESPACE}"]
    done = cluster.kubectl("create", "token", "memplace-agent", *where, *bound)
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()


@pytest.fixture
def agents(installed: Any) -> Iterator[tuple[Any, dict[str, str]]]:
    """Yield the cluster with two nodes, and the agents' tokens by node."""
    try:
        yield installed, {node: agent_token(installed, node) for node in ("one", "two")}
    finally:
        now = ["--force", "--grace-period=0"]
        gone = installed.kubectl("delete", "pod", "--all", f"--namespace={NAMESPACE}", *now)
        assert gone.returncode == 0, gone.stderr
        installed.kubectl("delete", "node", "one", "two", "--ignore-not-found")


def wait_for_refusal(cluster: Any, token: str, name: str) -> str:
    """Return what the API server says once its new policy is in force."""
    deadline = time.monotonic() + ADMISSION_TIMEOUT_S
    while time.monotonic() < deadline:
        done = cluster.kubectl("create", "--filename=-", stdin=node_memory(name), token=token)
        if "ValidatingAdmissionPolicy" in done.stderr:
            return str(done.stderr)
        cluster.kubectl("delete", "nodememory", name, "--ignore-not-found")
        time.sleep(0.5)
    raise AssertionError(f"the agent of another node could create {name}: {done.stderr}")


def test_an_agent_writes_for_its_own_node_only(agents: tuple[Any, dict[str, str]]) -> None:
    cluster, tokens = agents
    assert "not two" in wait_for_refusal(cluster, tokens["one"], "two")
    for node, token in tokens.items():
        done = cluster.kubectl("create", "--filename=-", stdin=node_memory(node), token=token)
        assert done.returncode == 0, done.stderr
    base, body = "/apis/memplace.dev/v1alpha1/nodememories", {"status": {"agentVersion": "9"}}
    # Not by kubectl, which would need to read first.
    own = cluster.call("PATCH", f"{base}/one/status", body, token=tokens["one"])
    assert own.ok, own.message
    other = cluster.call("PATCH", f"{base}/two/status", body, token=tokens["one"])
    assert other.status == 403 and "not two" in other.message
    retired = {"spec": {"agent": "Retired"}}
    spec = cluster.call("PATCH", f"{base}/one", retired, token=tokens["one"])
    assert spec.status == 403 and "cannot patch resource" in spec.message


def test_an_agent_renews_the_lease_of_its_own_node_only(
    agents: tuple[Any, dict[str, str]],
) -> None:
    cluster, tokens = agents
    wait_for_refusal(cluster, tokens["one"], "two")
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"

    def lease(name: str) -> Any:
        return {"metadata": {"name": name}, "spec": {"holderIdentity": name}}

    other = cluster.call("POST", leases, lease("two"), token=tokens["one"])
    assert other.status == 403 and "not two" in other.message
    assert cluster.call("POST", leases, lease("two"), token=tokens["two"]).ok
    body = {"spec": {"leaseDurationSeconds": 90}}
    stolen = cluster.call("PATCH", f"{leases}/two", body, token=tokens["one"])
    assert stolen.status == 403 and "not two" in stolen.message
    assert cluster.call("PATCH", f"{leases}/two", body, token=tokens["two"]).ok
    elsewhere = leases.replace(NAMESPACE, "kube-system")
    assert cluster.call("POST", elsewhere, lease("one"), token=tokens["one"]).status == 403
    assert cluster.call("DELETE", f"{leases}/two").ok


def test_a_token_that_names_no_node_writes_nothing(agents: tuple[Any, dict[str, str]]) -> None:
    cluster, tokens = agents
    wait_for_refusal(cluster, tokens["one"], "two")
    done = cluster.kubectl("create", "token", "memplace-agent", f"--namespace={NAMESPACE}")
    refused = wait_for_refusal(cluster, done.stdout.strip(), "one")
    assert "the node its token names" in refused


@pytest.mark.parametrize(
    ("account", "verb", "resource", "answer"),
    [
        ("agent", "list", "pods", "yes"),
        ("agent", "watch", "memoryplacements.memplace.dev", "yes"),
        ("agent", "patch", "nodes", "no"),
        ("agent", "get", "secrets", "no"),
        ("agent", "delete", "pods", "no"),
        ("agent", "patch", "memoryplacements.memplace.dev/status", "no"),
        ("operator", "patch", "memoryplacements.memplace.dev/status", "yes"),
        ("operator", "delete", "memoryplacements.memplace.dev", "no"),
        ("agent", "watch", "clustermemoryplacements.memplace.dev", "yes"),
        ("agent", "watch", "namespaces", "yes"),
        ("agent", "patch", "clustermemoryplacements.memplace.dev/status", "no"),
        ("operator", "patch", "clustermemoryplacements.memplace.dev/status", "yes"),
        ("operator", "delete", "clustermemoryplacements.memplace.dev", "no"),
        ("operator", "patch", "namespaces", "no"),
        ("operator", "create", "pods", "no"),
        ("operator", "delete", "nodes", "no"),
        ("operator", "list", "nodes", "yes"),
        ("agent", "watch", "nodes", "yes"),
        ("agent", "get", "nodes", "no"),
        ("operator", "patch", "nodememories.memplace.dev", "no"),
        ("operator", "get", "secrets", "no"),
        ("selftest", "list", "nodememories.memplace.dev", "yes"),
        ("selftest", "create", "memoryplacements.memplace.dev", "no"),
    ],
)
def test_the_api_server_agrees_on_who_may_what(
    may: Any, account: str, verb: str, resource: str, answer: str
) -> None:
    who = f"--as=system:serviceaccount:{NAMESPACE}:memplace-{account}"
    resource, _, sub = resource.partition("/")
    subresource = [f"--subresource={sub}"] if sub else []
    done = may.kubectl("auth", "can-i", verb, resource, *subresource, "--all-namespaces", who)
    assert done.stdout.strip().splitlines()[-1] == answer, done.stderr


@pytest.fixture(scope="module")
def may(prepared: Any, chart: Any) -> Iterator[Any]:
    """Yield the cluster with the chart installed, for questions only."""
    install(prepared, chart)
    try:
        yield prepared
    finally:
        uninstall(prepared)
