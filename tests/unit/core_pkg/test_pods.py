# SPDX-License-Identifier: Apache-2.0
"""What both shells take from a pod."""

from datetime import UTC, datetime
from typing import Any

import pytest
from memplace.errors import ValidationError
from memplace.pods import bare_id, parse_container_id, parse_pod

A, B = "a" * 64, "b" * 64


def a_pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "redis-0",
            "namespace": "cache",
            "uid": "u",
            "labels": {"app": "redis"},
            "resourceVersion": "1",
        },
        "spec": {"nodeName": "a", "containers": [{"name": "redis"}]},
        "status": status,
    }


def running(name: str, id_: str) -> dict[str, Any]:
    return {"name": name, "containerID": id_, "state": {"running": {}}, "ready": True}


def test_a_pod_is_its_running_containers() -> None:
    stopped = {"name": "old", "containerID": f"containerd://{B}", "state": {"terminated": {}}}
    created = {"name": "new", "containerID": f"containerd://{B}", "state": None}
    pod = parse_pod(
        a_pod(
            phase="Running",
            startTime="2026-11-24T12:00:00Z",
            containerStatuses=[running("redis", f"containerd://{A}"), stopped, created],
            initContainerStatuses=[running("sidecar", f"cri-o://{B}")],
        )
    )
    assert pod.container_ids == {"redis": A, "sidecar": B}
    assert pod.ref.containers == ("sidecar", "redis")
    assert pod.ref.labels == {"app": "redis"}
    started = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert (pod.node, pod.life, pod.started) == ("a", "Running", started)


@pytest.mark.parametrize(
    "text",
    ["", A, f"containerd://{A}/..", "x://y", "x://.." + A, f"x://{A}\n", "x://" + "a" * 129],
)
def test_a_container_that_nobody_can_find_is_none(text: str) -> None:
    assert parse_container_id(text) is None
    pod = parse_pod(a_pod(containerStatuses=[running("c", text)]))
    assert (pod.ref.containers, pod.container_ids) == ((), {})


@pytest.mark.parametrize(
    ("scheme", "id_"),
    [
        ("containerd", A),
        ("cri-o", A),
        ("docker", A),
        ("next.example", A),
        # mirantis/virtlet had UUIDs, automaticserver/lxe names
        ("virtlet.cloud", "8f4a2c9e-5d4b-5f0e-9b1c-0123456789ab"),
        ("lxe", "redis-0.cache_a1b2c3"),
    ],
)
def test_every_runtimes_ids_are_taken(scheme: str, id_: str) -> None:
    pod = parse_pod(a_pod(containerStatuses=[running("c", f"{scheme}://{id_}")]))
    assert pod.container_ids == {"c": id_}


@pytest.mark.parametrize("text", [A, f"containerd://{A}"])
def test_a_report_names_a_container_with_or_without_its_scheme(text: str) -> None:
    assert bare_id(text) == A


@pytest.mark.parametrize(
    ("phase", "deleted", "life"),
    [
        ("Pending", "", "Waiting"),
        ("", "", "Waiting"),
        ("Running", "", "Running"),
        ("Running", "2026-11-24T12:00:00Z", "Ended"),
        ("Succeeded", "", "Ended"),
        ("Failed", "", "Ended"),
    ],
)
def test_the_life_of_a_pod(phase: str, deleted: str, life: str) -> None:
    obj = a_pod(phase=phase)
    obj["metadata"] |= {"deletionTimestamp": deleted} if deleted else {}
    assert parse_pod(obj).life == life


def test_a_pod_that_nobody_has_looked_at() -> None:
    obj = a_pod()
    obj["metadata"]["labels"] = obj["status"] = None
    pod = parse_pod(obj)
    assert (pod.ref.labels, pod.ref.containers, pod.life) == ({}, (), "Waiting")


def test_what_is_no_pod() -> None:
    with pytest.raises(ValidationError):
        parse_pod({"metadata": {"name": "x"}})


def test_a_pod_tells_all_its_containers_before_one_of_them_runs() -> None:
    obj = a_pod(phase="Pending")
    obj["spec"] |= {"initContainers": [{"name": "init"}], "ephemeralContainers": [{"name": "dbg"}]}
    pod = parse_pod(obj)
    assert pod.ref.containers == () and pod.whole.containers == ("init", "redis", "dbg")
    assert parse_pod({**obj, "spec": {"nodeName": "a"}}).declared == ()
