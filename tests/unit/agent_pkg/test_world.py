# SPDX-License-Identifier: Apache-2.0
"""What of the API server's news wakes the worker."""

from __future__ import annotations

from typing import Any

import pytest
from memplace_agent.world import Cache, Kind

RUNNING = {"name": "c", "containerID": "containerd://" + "a" * 64, "state": {"running": {}}}
ANEW = RUNNING | {"containerID": "containerd://" + "b" * 64}


def pod(*containers: dict[str, Any], labels: dict[str, str], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": labels},
        "spec": {"nodeName": "n"},
        "status": {"containerStatuses": containers, **status},
    }


@pytest.mark.parametrize(
    ("news", "wakes"),
    [
        (pod(RUNNING, labels={}, phase="Running"), False),
        (pod(RUNNING, labels={}, startTime="2026-11-24T12:00:00Z"), False),
        (pod(ANEW, labels={}), True),
        (pod(labels={}), True),
        (pod(RUNNING, labels={"app": "x"}), True),
    ],
)
def test_only_what_the_agent_acts_on_wakes_it(news: dict[str, Any], wakes: bool) -> None:
    cache = Cache()
    cache.event(Kind.POD, "ADDED", pod(RUNNING, labels={}))
    assert cache.changed.is_set()
    cache.changed.clear()
    cache.event(Kind.POD, "MODIFIED", news)
    assert cache.changed.is_set() is wakes


def test_what_is_no_pod_is_ignored() -> None:
    cache = Cache()
    cache.event(Kind.POD, "ADDED", {"metadata": {"uid": "u", "name": "p"}})
    assert cache.snapshot().pods == ()
