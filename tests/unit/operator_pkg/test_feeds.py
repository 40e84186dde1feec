# SPDX-License-Identifier: Apache-2.0
"""What is taken from the API server, and whom it concerns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from memplace.api.server import ApiError
from memplace.errors import ValidationError
from memplace_operator.beats import Beats
from memplace_operator.events import make_event
from memplace_operator.feeds import Feeds, News, reader
from memplace_operator.kinds import Kind
from memplace_operator.objects import Unreadable
from memplace_operator.reconcile import Transition
from memplace_operator.settings import Backoffs, Settings, settings_from_env
from memplace_operator.world import World

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


def a_placement(version: int = 1, **more: Any) -> dict[str, Any]:
    rule = {
        "name": "heap",
        "regions": [{"type": "Heap"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    spec = {"selector": {"matchLabels": {"app": "redis"}}, "rules": [rule]}
    return {"metadata": meta("mp", version, namespace="cache", generation=1), "spec": spec, **more}


def a_node(version: int, heartbeat: str, *states: str, **status: Any) -> dict[str, Any]:
    containers = [{"name": "redis", "containerID": "c" * 64, "state": state} for state in states]
    pods = [{"uid": "uid-redis-0", "name": "redis-0", "containers": containers}]
    report = {"uid": "uid-mp", "namespace": "cache", "name": "mp", "pods": pods}
    body = {"heartbeatTime": heartbeat, "placements": [report], **status}
    return {"metadata": meta("a", version), "status": body}


def a_pod(version: int = 1) -> dict[str, Any]:
    return {
        "metadata": meta("redis-0", version, namespace="cache", labels={"app": "redis"}),
        "spec": {"nodeName": "a", "containers": [{"name": "redis"}]},
        "status": {"phase": "Running"},
    }


def news(kind: Kind, obj: Any) -> News:
    return reader(kind)(json.dumps(obj).encode())


@pytest.fixture
def feeds() -> Feeds:
    found = Feeds(World(), Beats())
    found.replace(Kind.PLACEMENT, [news(Kind.PLACEMENT, a_placement())])
    found.replace(Kind.POD, [news(Kind.POD, a_pod())])
    found.world.due = {}
    found.changed.clear()
    return found


def due(feeds: Feeds) -> set[str]:
    found, feeds.world.due = set(feeds.world.due), {}
    feeds.changed.clear()
    return found


def put(feeds: Feeds, kind: Kind, obj: Any) -> set[str]:
    feeds.event(kind, "MODIFIED", news(kind, obj))
    return due(feeds)


def test_a_heartbeat_alone_concerns_nobody(feeds: Feeds) -> None:
    assert put(feeds, Kind.NODE, a_node(1, "2026-11-24T12:00:00Z", "Placed")) == {"uid-mp"}
    assert put(feeds, Kind.NODE, a_node(2, "2026-11-24T12:00:30Z", "Placed")) == set()
    assert not feeds.changed.is_set()
    assert put(feeds, Kind.NODE, a_node(3, "2026-11-24T12:00:30Z", "Moving")) == {"uid-mp"}


def test_a_list_forgets_what_is_not_in_it(feeds: Feeds) -> None:
    feeds.replace(Kind.POD, [])
    assert feeds.world.selection.pod_uids() == []
    assert due(feeds) == {"uid-mp"}


def test_a_list_that_ends_too_early_forgets_nothing(feeds: Feeds) -> None:
    def half() -> Iterator[News]:
        yield from ()
        raise ApiError(410, "continue parameter is too old")

    with pytest.raises(ApiError):
        feeds.replace(Kind.POD, half())
    assert feeds.world.selection.pod_uids() == ["uid-redis-0"]


def test_a_report_of_a_newer_agent_keeps_what_can_be_read(feeds: Feeds) -> None:
    """One word that is not known here used to drop the whole node, with everybody on it."""
    newer = a_node(1, "2026-11-24T12:00:00Z", "Levitating", backend={"name": "Telekinesis"})
    assert put(feeds, Kind.NODE, newer) == {"uid-mp"}
    report = feeds.world.nodes["a"].report("uid-mp")
    assert report is not None
    assert [c.state for pod in report.pods for c in pod.containers] == ["Pending"]


@pytest.mark.parametrize(
    "odd", [[], {}, {"metadata": {}}, {"metadata": {"uid": "uid-a", "name": 3}}, "x", None]
)
@pytest.mark.parametrize("kind", [Kind.PLACEMENT, Kind.NODE, Kind.POD])
def test_nonsense_changes_nothing(feeds: Feeds, kind: Kind, odd: Any) -> None:
    before = feeds.world.placement_uids(), feeds.world.selection.pod_uids()
    assert put(feeds, kind, odd) == set()
    assert (feeds.world.placement_uids(), feeds.world.selection.pod_uids()) == before


def test_an_object_that_became_odd_stays_as_it_was(feeds: Feeds) -> None:
    put(feeds, Kind.NODE, a_node(1, "2026-11-24T12:00:00Z", "Placed"))
    odd = a_node(2, "2026-11-24T12:00:30Z", tiers="many")
    assert put(feeds, Kind.NODE, odd) == set()
    assert set(feeds.world.nodes["a"].reports) == {"uid-mp"}


def test_older_news_of_a_status_that_we_wrote_is_no_news(feeds: Feeds) -> None:
    subject = feeds.world.subject("uid-mp")
    assert subject is not None
    written = type(subject.status)(observed_generation=1, matched_pods=7)
    feeds.world.wrote("uid-mp", written, 50)
    assert put(feeds, Kind.PLACEMENT, a_placement(40)) == set()
    assert feeds.world.subject("uid-mp").status == written  # type: ignore[union-attr]
    echo = a_placement(50, status={"observedGeneration": 1, "matchedPods": 7})
    assert put(feeds, Kind.PLACEMENT, echo) == set()
    other = a_placement(60, status={"matchedPods": 1})
    assert put(feeds, Kind.PLACEMENT, other) == {"uid-mp"}


def test_after_an_etcd_restored_a_list_is_the_truth(feeds: Feeds) -> None:
    subject = feeds.world.subject("uid-mp")
    assert subject is not None
    feeds.world.wrote("uid-mp", type(subject.status)(matched_pods=7), 5000)
    feeds.replace(Kind.PLACEMENT, [news(Kind.PLACEMENT, a_placement(40))])
    assert due(feeds) == {"uid-mp"}


def test_a_placement_stored_under_other_rules(feeds: Feeds) -> None:
    bad = {"metadata": meta("mp", 2, namespace="cache", generation=2), "spec": {"selector": {}}}
    assert put(feeds, Kind.PLACEMENT, bad) == {"uid-mp"}
    found = feeds.world.subject("uid-mp")
    assert isinstance(found, Unreadable)
    assert "rules" in found.problem
    assert (found.namespace, found.name, found.generation) == ("cache", "mp", 2)


def test_tiers_are_taken_whole_and_one_by_one(feeds: Feeds) -> None:
    feeds.replace_tiers({"u1": "cxl", "u2": "hbm"})
    assert due(feeds) == {"uid-mp"}
    feeds.tier(None, "u1", "cxl")
    assert due(feeds) == set()
    feeds.tier("DELETED", "u1", "cxl")
    assert due(feeds) == {"uid-mp"}
    feeds.replace_tiers({})
    assert feeds.world.known_tiers() == set()


def test_an_event() -> None:
    event = make_event(placement(), Transition("TierFull", "x" + "…" * 2000, is_warning=True), NOW)
    assert event["regarding"]["uid"] == "uid-mp"
    assert event["metadata"]["namespace"] == "cache"
    assert (event["type"], event["reason"]) == ("Warning", "TierFull")
    assert len(event["note"].encode()) == 1024
    assert event["eventTime"] == "2026-11-24T12:00:00.000000Z"


def test_settings() -> None:
    assert settings_from_env({}) == Settings("INFO", 8080)
    given = {"MEMPLACE_LOG_LEVEL": "debug", "MEMPLACE_HTTP_PORT": "9000"}
    assert settings_from_env(given) == Settings("DEBUG", 9000)
    with pytest.raises(ValidationError, match="MEMPLACE_LOG_LEVEL"):
        settings_from_env({"MEMPLACE_LOG_LEVEL": "loud"})
    assert settings_from_env({"MEMPLACE_STALE_SECONDS": "7"}).stale_s == 7
    for odd in ("0", "-1", "soon", "1.5"):
        with pytest.raises(ValidationError, match="MEMPLACE_STALE_SECONDS"):
            settings_from_env({"MEMPLACE_STALE_SECONDS": odd})


def test_attempts_never_end() -> None:
    first = [delay for delay, _ in zip(Backoffs(), range(100), strict=False)]
    assert first[:5] == [1, 2, 3, 5, 5]
    assert len(first) == 100
