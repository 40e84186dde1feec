# SPDX-License-Identifier: Apache-2.0
"""What is taken from the API server, and what of it wakes the controller."""

from __future__ import annotations

from typing import Any

import pytest
from memplace.errors import ValidationError
from memplace_operator.cache import Cache
from memplace_operator.events import make_event
from memplace_operator.kinds import Kind
from memplace_operator.reconcile import Transition
from memplace_operator.settings import Backoffs, Settings, from_environment
from memplace_operator.world import Unreadable

from tests.unit.operator_pkg.worlds import NOW, placement


def meta(name: str, version: int = 1, **more: Any) -> dict[str, Any]:
    created = "2026-11-24T12:00:00Z"
    return {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "creationTimestamp": created,
        **more,
    }


def a_node(version: int, heartbeat: str, **status: Any) -> dict[str, Any]:
    return {"metadata": meta("a", version), "status": {"heartbeatTime": heartbeat, **status}}


def a_pod(version: int = 1, **status: Any) -> dict[str, Any]:
    return {
        "metadata": meta("redis-0", version, namespace="cache", labels={"app": "redis"}),
        "spec": {"nodeName": "a", "containers": [{"name": "redis"}]},
        "status": status,
    }


async def test_a_heartbeat_alone_wakes_nobody() -> None:
    cache = Cache()
    cache.put(Kind.NODE, a_node(1, "2026-11-24T12:00:00Z"))
    assert cache.changed.is_set()
    cache.changed.clear()
    cache.put(Kind.NODE, a_node(2, "2026-11-24T12:00:30Z"))
    assert not cache.changed.is_set()
    assert str(cache.nodes()[0].status.heartbeat_time) == "2026-11-24 12:00:30+00:00"
    cache.put(Kind.NODE, a_node(3, "2026-11-24T12:00:30Z", agentVersion="2"))
    assert cache.changed.is_set()


async def test_old_news_is_no_news() -> None:
    cache = Cache()
    cache.put(Kind.NODE, a_node(5, "2026-11-24T12:00:30Z"))
    cache.put(Kind.NODE, a_node(4, "2026-11-24T12:00:00Z"))
    assert str(cache.nodes()[0].status.heartbeat_time) == "2026-11-24 12:00:30+00:00"


async def test_an_answer_does_not_bring_back_what_is_gone() -> None:
    cache = Cache()
    cache.put(Kind.NODE, a_node(1, "2026-11-24T12:00:00Z"))
    cache.drop(Kind.NODE, "uid-a")
    cache.put(Kind.NODE, a_node(2, "2026-11-24T12:00:00Z"), only_known=True)
    assert cache.nodes() == ()


async def test_an_audit_drops_only_what_was_there_before_it() -> None:
    cache = Cache()
    cache.put(Kind.POD, a_pod())
    before = cache.uids(Kind.POD)
    cache.put(Kind.NODE, a_node(1, "2026-11-24T12:00:00Z"))
    cache.keep(Kind.NODE, set(), of=set())
    assert len(cache.nodes()) == 1
    cache.keep(Kind.POD, {"another"}, of=before)
    assert cache.uids(Kind.POD) == frozenset()


async def test_a_placement_stored_under_other_rules() -> None:
    cache = Cache()
    bad = {"metadata": meta("mp", namespace="cache", generation=2), "spec": {"selector": {}}}
    cache.put(Kind.PLACEMENT, bad)
    (found,) = cache.placements()
    assert isinstance(found, Unreadable)
    assert "rules" in found.problem
    assert (found.namespace, found.name, found.generation) == ("cache", "mp", 2)


def test_an_event() -> None:
    event = make_event(placement(), Transition(True, "TierFull", "x" * 2000), NOW)
    assert event["involvedObject"]["uid"] == "uid-mp"
    assert event["metadata"]["namespace"] == "cache"
    assert (event["type"], event["reason"], len(event["message"])) == ("Warning", "TierFull", 1024)
    assert event["firstTimestamp"] == "2026-11-24T12:00:00Z"


def test_settings() -> None:
    assert from_environment({}) == Settings("INFO", 8080)
    given = {"MEMPLACE_LOG_LEVEL": "debug", "MEMPLACE_HTTP_PORT": "9000"}
    assert from_environment(given) == Settings("DEBUG", 9000)
    with pytest.raises(ValidationError, match="MEMPLACE_LOG_LEVEL"):
        from_environment({"MEMPLACE_LOG_LEVEL": "loud"})


def test_attempts_never_end() -> None:
    first = [delay for delay, _ in zip(Backoffs(), range(100), strict=False)]
    assert first[:5] == [1, 2, 3, 5, 5]
    assert len(first) == 100
