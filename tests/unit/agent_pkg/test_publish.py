# SPDX-License-Identifier: Apache-2.0
"""Reports and heartbeats against a real HTTP server."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from memplace.api.v1alpha1 import (
    ContainerReport,
    ContainerState,
    NodeMemoryStatus,
    NumaBytes,
    NumaNodeStatus,
    PlacementReport,
    PodReport,
    RuleReport,
)
from memplace_agent.cluster import lease, publish
from memplace_agent.cluster.lease import Heartbeat
from memplace_agent.cluster.publish import Publisher
from memplace_kube import watch

from tests.unit.agent_pkg.answers import Request, reply, serving
from tests.unit.agent_pkg.test_watch import ODD, eventually

LEASE = "/apis/coordination.k8s.io/v1/namespaces/memplace/leases"
STATUS = NodeMemoryStatus(
    agent_version="1",
    numa_nodes=(NumaNodeStatus(id=0),),
    placements=(PlacementReport(uid="u", namespace="ns", name="mp"),),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SPREAD_S", 0.05)


@contextlib.contextmanager
def running(run: Callable[..., None]) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(stop, lambda: None), daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()


@contextlib.contextmanager
def publishing(api: Any, *, beats: bool = False) -> Iterator[tuple[Publisher, threading.Thread]]:
    publisher = Publisher(api.server, "n", lambda: beats)
    with running(publisher.run) as thread:
        yield publisher, thread


def statuses(api: Any) -> list[dict[str, Any]]:
    return [request.body["status"] for request in api.seen if request.method == "PATCH"]


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_the_publisher_survives_an_odd_answer(odd: Callable[[Any], None]) -> None:
    def answer(request: Request, file: Any) -> None:
        if len(api.seen) <= 2:
            odd(file)
        else:
            reply(file, {})

    with serving(answer) as api, publishing(api) as (publisher, thread):
        publisher.publish(STATUS)
        # What an odd answer with status 200 did is not known, but it is no reason to repeat it.
        eventually(lambda: publisher._written is STATUS)
        assert thread.is_alive()


def measured(size: int) -> NodeMemoryStatus:
    rules = (RuleReport(name="heap", regions=1, bytes=size, numa_nodes=(NumaBytes(1, size),)),)
    container = ContainerReport(name="c", state=ContainerState.PLACED, rules=rules)
    pod = PodReport(uid="p", name="p", containers=(container,))
    report = PlacementReport(uid="u", namespace="ns", name="mp", pods=(pod,))
    return msgspec.structs.replace(STATUS, placements=(report,))


def test_a_beat_writes_no_figures_that_are_not_worth_a_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publish, "HEARTBEAT_S", 0.1)
    answer: Callable[[Request, Any], None] = lambda _request, file: reply(file, {})  # noqa: E731
    with serving(answer) as api, publishing(api, beats=True) as (publisher, _):
        publisher.publish(measured(64 << 20))
        eventually(lambda: len(statuses(api)) == 1)
        publisher.publish(measured((64 << 20) + 4096))
        eventually(lambda: len(statuses(api)) >= 3)
        first, *beats = (status["placements"] for status in statuses(api))
    assert all(placements == first for placements in beats)


def test_the_first_report_creates_the_object() -> None:
    there = threading.Event()

    def answer(request: Request, file: Any) -> None:
        if request.method == "POST":
            there.set()
        missing = not there.is_set()
        reply(file, {}, "404 Not Found" if missing else "201 Created")

    with serving(answer) as api, publishing(api) as (publisher, _):
        publisher.publish(STATUS)
        eventually(lambda: publisher._written is STATUS)
    assert [request.method for request in api.seen] == ["PATCH", "POST", "PATCH"]
    written = statuses(api)[-1]
    assert written["placements"][0]["name"] == "mp"
    conditions = {c["type"]: (c["status"], c["reason"]) for c in written["conditions"]}
    assert conditions == {"Complete": ("True", "AsExpected")}


@pytest.mark.parametrize("status", ["413 Too Large", "422 Unprocessable Entity"])
def test_a_refused_report_becomes_a_small_one_that_says_so(status: str) -> None:
    def answer(request: Request, file: Any) -> None:
        refused = bool(request.body["status"]["placements"])
        reply(file, {"message": "too many"}, status if refused else "200 OK")

    with serving(answer) as api, publishing(api) as (publisher, _):
        publisher.publish(STATUS)
        eventually(lambda: publisher._written is STATUS)
    least = statuses(api)[-1]
    assert (least["placements"], least["truncated"]["placements"]) == ([], 1)
    assert least["numaNodes"], "its topology was no trouble"
    (complete,) = least["conditions"]
    assert (complete["status"], complete["reason"]) == ("False", "ReportTooLarge")


def test_even_its_topology_may_be_refused() -> None:
    def answer(request: Request, file: Any) -> None:
        refused = bool(request.body["status"]["numaNodes"])
        reply(file, {}, "422 Unprocessable Entity" if refused else "200 OK")

    with serving(answer) as api, publishing(api) as (publisher, _):
        publisher.publish(STATUS)
        eventually(lambda: publisher._written is STATUS)
    assert statuses(api)[-1]["agentVersion"] == "1"
    assert statuses(api)[-1]["heartbeatTime"]


def test_states_are_written_at_once_but_not_all_of_them() -> None:
    with serving(lambda _, file: reply(file, {})) as api, publishing(api) as (publisher, _):
        end = time.monotonic() + 3
        count = 0
        while time.monotonic() < end:
            count += 1
            publisher.publish(
                NodeMemoryStatus(
                    placements=(PlacementReport(uid=str(count), namespace="ns", name="x"),)
                )
            )
            time.sleep(0.02)
    assert 2 <= len(statuses(api)) <= 3


def heartbeat(api: Any, *, alive: bool = True, owner: str = "uid-n") -> Heartbeat:
    return Heartbeat(api.server, "n", is_alive=lambda: alive, owner=lambda: owner)


def test_a_lease_is_made_and_belongs_to_the_node_memory() -> None:
    def answer(request: Request, file: Any) -> None:
        reply(file, {}, "404 Not Found" if request.method == "PATCH" else "201 Created")

    with serving(answer) as api, running(heartbeat(api).run):
        eventually(lambda: len(api.seen) == 2)
    patch, post = api.seen
    assert (patch.path, post.path) == (f"{LEASE}/n", LEASE)
    assert post.body["metadata"]["ownerReferences"][0]["uid"] == "uid-n"
    assert post.body["spec"]["leaseDurationSeconds"] == 90
    renewed = datetime.fromisoformat(post.body["spec"]["renewTime"])
    assert abs((datetime.now(UTC) - renewed).total_seconds()) < 30


@pytest.mark.parametrize(("alive", "owner"), [(False, "uid-n"), (True, "")])
def test_no_lease_is_renewed_for_an_agent_that_hangs_or_has_not_reported(
    *, alive: bool, owner: str
) -> None:
    with serving(lambda _, file: reply(file, {})) as api:
        with running(heartbeat(api, alive=alive, owner=owner).run):
            time.sleep(0.5)
        assert api.seen == []


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_the_heartbeat_survives_an_odd_answer(odd: Callable[[Any], None]) -> None:
    def answer(request: Request, file: Any) -> None:
        if len(api.seen) <= 2:
            odd(file)
        else:
            reply(file, {})

    with serving(answer) as api:
        beat = heartbeat(api)
        with running(beat.run) as thread:
            eventually(lambda: beat._renewed > 0)
            assert thread.is_alive()


def test_where_leases_do_not_work_the_report_says_that_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The role of an older chart, after a rollback."""
    monkeypatch.setattr(lease, "BOTH_WAYS_S", 0.0)
    with serving(lambda _, file: reply(file, {}, "403 Forbidden")) as api:
        beat = heartbeat(api)
        with running(beat.run):
            eventually(lambda: len(api.seen) > 2)
            assert beat.beats_in_report()
    with serving(lambda _, file: reply(file, {})) as api:
        beat = heartbeat(api)
        with running(beat.run):
            eventually(lambda: beat._renewed > 0)
            assert not beat.beats_in_report()


def test_an_agent_that_is_new_says_it_both_ways() -> None:
    """An operator of before Leases may still be there while the nodes are updated."""
    with serving(lambda _, file: reply(file, {})) as api:
        beat = heartbeat(api)
        with running(beat.run):
            eventually(lambda: beat._renewed > 0)
            assert beat.beats_in_report()
        assert not heartbeat(api, alive=False).beats_in_report()
