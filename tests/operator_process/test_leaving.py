# SPDX-License-Identifier: Apache-2.0
"""Retire, uninstall and resume as processes; agents and the garbage collector are played."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from memplace_lab.product.operating import API

from tests.support.cluster import Cluster, chore, eventually, now

pytestmark = pytest.mark.timeout(180)
DAEMONSETS = "/apis/apps/v1/namespaces/default/daemonsets"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
HELM = {"meta.helm.sh/release-name": "memplace", "meta.helm.sh/release-namespace": "default"}
APPLIED = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}


class Played:
    """Does again and again, until the test ends, what others in a cluster would."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, act: Callable[[], object]) -> None:
        def run() -> None:
            while not self._stop.wait(0.2):
                act()

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def played() -> Iterator[Played]:
    found = Played()
    yield found
    found.stop()


def daemonset(cluster: Cluster, annotations: dict[str, str] | None = None) -> str:
    """Create the agents' DaemonSet as Helm would, or others; returns its uid."""
    labels = {"app": "agent"}
    body = {
        "metadata": {"name": "memplace-agent", "annotations": annotations or {}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "agent", "image": "none"}]},
            },
        },
    }
    answer = cluster.api.call("POST", DAEMONSETS, body)
    assert answer.ok, answer.message
    cluster.made(f"{DAEMONSETS}/memplace-agent")
    return str(answer.body["metadata"]["uid"])


def memory(cluster: Cluster) -> Any:
    return cluster.api.call("GET", f"{API}/nodememories/{cluster.node}")


def retired(cluster: Cluster, *, done: bool = True) -> None:
    """Be the agent: say how far retiring is."""
    condition: dict[str, Any] = {
        "type": "Retired",
        "status": "True" if done else "False",
        "reason": "Retired" if done else "CannotUndo",
        "message": "3 containers carry policies",
        "lastTransitionTime": now(),
    }
    status = {"conditions": [condition], "heartbeatTime": now()}
    path = f"{API}/nodememories/{cluster.node}/status"
    cluster.api.call("PATCH", path, {"status": status})


def agent(cluster: Cluster) -> Callable[[], object]:
    """Return an agent that retires when it is told to."""

    def act() -> None:
        if memory(cluster).body.get("spec", {}).get("agent") == "Retired":
            retired(cluster)

    return act


def garbage_collector(cluster: Cluster, seen: list[int]) -> Callable[[], object]:
    """Return who lets a DaemonSet go once its pods have ended; notes what was there then."""

    def act() -> None:
        found = cluster.api.call("GET", f"{DAEMONSETS}/memplace-agent")
        if found.ok and found.body["metadata"].get("deletionTimestamp"):
            seen.append(memory(cluster).status)
            none = {"metadata": {"finalizers": None}}
            cluster.api.call("PATCH", f"{DAEMONSETS}/memplace-agent", none)

    return act


def hook(cluster: Cluster, *more: str, timeout: str = "20") -> Any:
    return chore(cluster.api, "retire", "--hook", "--timeout", timeout, "--delete=agents", *more)


def test_an_uninstall_leaves_the_placements_and_nothing_else(
    cluster: Cluster, played: Played
) -> None:
    seen: list[int] = []
    daemonset(cluster, HELM)
    cluster.apply("mp")
    cluster.report()
    played.start(agent(cluster))
    played.start(garbage_collector(cluster, seen))
    done = hook(cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.get("mp")["spec"]["selector"]
    assert memory(cluster).status == 404
    assert not cluster.api.call("GET", f"{DAEMONSETS}/memplace-agent").ok
    # An agent that lives makes its NodeMemory again, so none may.
    assert seen[0] == 200


def test_placements_are_deleted_if_asked_for_and_after_the_agents(
    cluster: Cluster, played: Played
) -> None:
    daemonset(cluster, HELM)
    cluster.apply("mp")
    cluster.report()
    late = hook(cluster, "--delete=placements", timeout="2")
    assert late.returncode == 1
    assert cluster.get("mp")["spec"]["selector"]
    played.start(agent(cluster))
    played.start(garbage_collector(cluster, []))
    done = hook(cluster, "--delete=placements")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.api.call("GET", cluster.placement_path("mp")).status == 404
    assert f"deleted MemoryPlacement {cluster.namespace}/mp" in done.stdout


def test_definitions_are_deleted_if_asked_for(cluster: Cluster, played: Played) -> None:
    daemonset(cluster, HELM)
    cluster.report()
    played.start(agent(cluster))
    played.start(garbage_collector(cluster, []))
    try:
        done = hook(cluster, "--delete=placements", "--delete=crds")
        assert done.returncode == 0, done.stdout + done.stderr
        eventually(lambda: not _crds(cluster))
        again = hook(cluster)
        assert again.returncode == 0, again.stdout + again.stderr
    finally:
        eventually(lambda: not _crds(cluster))
        cluster.api.install_crds()


def _crds(cluster: Cluster) -> list[str]:
    items = cluster.api.call("GET", CRDS).body["items"]
    return [i["metadata"]["name"] for i in items if "memplace.dev" in i["metadata"]["name"]]


def test_a_retirement_that_fails_says_where_and_what_to_do(cluster: Cluster) -> None:
    uid = daemonset(cluster, HELM)
    cluster.apply("mp")
    cluster.report()
    retired(cluster, done=False)
    began = time.monotonic()
    failed = hook(cluster, timeout="3")
    assert time.monotonic() - began < 15
    assert failed.returncode == 1
    assert f"node {cluster.node}: CannotUndo (3 containers carry policies)" in failed.stdout
    for advice in ("Nothing was deleted", "--no-hooks", '{"spec":{"agent":"Active"}}'):
        assert advice in failed.stdout
    assert memory(cluster).body["spec"] == {"agent": "Retired", "installation": uid}
    assert cluster.get("mp")["spec"]["selector"]
    assert cluster.api.call("GET", f"{DAEMONSETS}/memplace-agent").ok


def test_agents_that_cannot_undo_are_not_waited_for_until_the_timeout(cluster: Cluster) -> None:
    daemonset(cluster, HELM)
    cluster.report()
    retired(cluster, done=False)
    began = time.monotonic()
    failed = hook(cluster, timeout="150")
    assert 25 < time.monotonic() - began < 100
    assert failed.returncode == 1
    assert f"node {cluster.node}: CannotUndo (3 containers carry policies)" in failed.stdout
    assert "Nothing was deleted" in failed.stdout
    assert cluster.api.call("GET", f"{DAEMONSETS}/memplace-agent").ok


def test_resume_takes_an_uninstall_back_and_not_an_admins_word(cluster: Cluster) -> None:
    daemonset(cluster, HELM)
    cluster.report()
    hook(cluster, timeout="2")
    assert memory(cluster).body["spec"]["agent"] == "Retired"
    done = chore(cluster.api, "resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert memory(cluster).body["spec"] == {"agent": "Active"}
    path = f"{API}/nodememories/{cluster.node}"
    cluster.api.call("PATCH", path, {"spec": {"agent": "Retired"}})
    assert "stays so" in chore(cluster.api, "resume").stdout
    assert memory(cluster).body["spec"]["agent"] == "Retired"
    chore(cluster.api, "resume", "--all")
    assert memory(cluster).body["spec"]["agent"] == "Active"


@pytest.mark.parametrize(
    ("annotations", "code", "why"),
    [
        # kubectl apply of what helm template renders: a Job like any other, which has to end well.
        ({}, 0, "was not installed by Helm"),
        (HELM | APPLIED, 1, "and then applied by others"),
    ],
    ids=["others", "helm and others"],
)
def test_what_is_no_uninstall_by_helm_does_nothing(
    cluster: Cluster, annotations: dict[str, str], code: int, why: str
) -> None:
    daemonset(cluster, annotations)
    cluster.apply("mp")
    cluster.report()
    done = hook(cluster, "--delete=placements", "--delete=crds", timeout="2")
    assert done.returncode == code
    assert why in done.stdout and "--force" in done.stdout
    assert memory(cluster).body["spec"] == {"agent": "Active"}
    assert cluster.get("mp")["spec"]["selector"]
    assert chore(cluster.api, "retire", "--timeout", "2").returncode == 1
    assert memory(cluster).body["spec"] == {"agent": "Active"}
    forced = chore(cluster.api, "retire", "--force", "--timeout", "2")
    assert "told the agents of 1 nodes" in forced.stdout
    assert memory(cluster).body["spec"]["agent"] == "Retired"


def test_server_side_apply_by_others_is_seen(cluster: Cluster) -> None:
    daemonset(cluster, HELM)
    cluster.report()
    text = (
        "apiVersion: apps/v1\nkind: DaemonSet\n"
        "metadata: {name: memplace-agent, namespace: default, labels: {by: gitops}}\n"
    )
    how = ["apply", "--server-side", "--field-manager=gitops", "--filename=-"]
    assert cluster.api.kubectl(*how, stdin=text).returncode == 0
    done = hook(cluster, timeout="2")
    assert done.returncode == 1 and "applied by others" in done.stdout


def test_without_agents_there_is_nothing_to_do(cluster: Cluster) -> None:
    cluster.apply("mp")
    cluster.report()
    done = hook(cluster, "--delete=placements", timeout="2")
    assert done.returncode == 0 and "no agents" in done.stdout
    assert cluster.get("mp")["spec"]["selector"]


def behind(cluster: Cluster) -> Callable[[], object]:
    """Return an agent on a node whose clock is two minutes behind."""
    cluster.report(age_s=130)
    beats = iter(range(1000))

    def beat() -> None:
        status = {"heartbeatTime": now(-130 + next(beats) / 5)}
        cluster.api.call("PATCH", f"{API}/nodememories/{cluster.node}/status", {"status": status})

    return beat


def test_a_node_whose_clock_is_behind_is_waited_for(cluster: Cluster, played: Played) -> None:
    daemonset(cluster, HELM)
    played.start(behind(cluster))
    late = hook(cluster, timeout="4")
    assert late.returncode == 1
    assert f"node {cluster.node}: its agent has not answered yet" in late.stdout


def test_a_node_whose_clock_is_behind_passes_helm_test(cluster: Cluster, played: Played) -> None:
    played.start(behind(cluster))
    done = chore(cluster.api, "selftest", "--timeout", "30")
    assert done.returncode == 0, done.stdout + done.stderr
