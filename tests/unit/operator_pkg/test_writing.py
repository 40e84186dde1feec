# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is, who may write, and what happens when the API server will not have it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest
from memplace.api.conditions import Condition
from memplace.api.v1alpha1 import Placement, PlacementStatus, PodStatus, RuleStatus, TierBytes
from memplace_kube.client import seconds_asked
from memplace_operator import controller as controller_module
from memplace_operator.beats import Beats
from memplace_operator.controller import REST, Controller, Turns
from memplace_operator.events import EVENTS, Series, first_told, make_event
from memplace_operator.feeds import Feeds
from memplace_operator.metrics import Metrics
from memplace_operator.reconcile import Transition
from memplace_operator.world import World
from memplace_operator.writer import Outcome, Write, Writer

from tests.unit.agent_pkg.answers import Api, Request, reply, serving
from tests.unit.operator_pkg.worlds import cluster_placement, placement

WRITTEN = {"metadata": {"resourceVersion": "77", "name": "mp-x7"}}
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def test_each_namespace_has_its_turn() -> None:
    turns = Turns()
    for number in range(1000):
        turns.add("greedy", f"g{number}")
    turns.add("modest", "m0")
    turns.add("modest", "m0")
    turns.add("modest", "m1")
    assert len(turns) == 1002
    assert [turns.next() for _ in range(5)] == ["g0", "m0", "g1", "m1", "g2"]
    rest = 0
    while turns.next() is not None:
        rest += 1
    assert (rest, len(turns)) == (997, 0)


def test_one_that_takes_long_rests_and_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    took: list[float] = []

    def reconcile(subject: Placement, *_: object, **__: object) -> PlacementStatus:
        judged.append(subject.name)
        if subject.name == "vast":
            began = time.monotonic()
            time.sleep(0.03)
            took.append(time.monotonic() - began)
        return subject.status

    monkeypatch.setattr(controller_module, "reconcile", reconcile)
    feeds = Feeds(World(), Beats())
    for subject in (cluster_placement("vast"), placement("small")):
        feeds.world.put_placement(subject)
    controller = Controller(
        feeds, Metrics(), put=lambda _: None, has_room=lambda: True, may_judge=lambda: True
    )
    began = time.monotonic()
    while len(took) < 4:
        assert time.monotonic() < began + 30, "what was put off is judged in the end"
        # Its pods come and go all the time.
        feeds.world.due = {"uid-vast": None, "uid-small": None}
        controller.round(threading.Event())
        time.sleep(0.001)
    assert time.monotonic() - began >= (1 + REST) * sum(took[:-1])
    assert judged.count("small") > 3 * judged.count("vast")


def test_what_nobody_thought_of_is_one_placements_trouble() -> None:
    """A controller that ends for it would be started anew, and end for it again."""
    put: list[str] = []

    def take(write: Write) -> None:
        if write.subject.name == "cursed":
            raise ZeroDivisionError
        put.append(write.subject.name)

    feeds, metrics = Feeds(World(), Beats()), Metrics()
    for name in ("first", "cursed", "last"):
        feeds.world.put_placement(placement(name))
    controller = Controller(feeds, metrics, put=take, has_room=lambda: True, may_judge=lambda: True)
    controller.round(threading.Event())
    controller.round(threading.Event())
    assert put == ["first", "last"]
    errors = metrics.registry.get_sample_value(
        "memplace_operator_reconcile_total", {"result": "error"}
    )
    assert errors == 1, "and not again before its time"


BASE = PlacementStatus(
    conditions=(
        Condition(
            type="Ready",
            status="False",
            reason="Moving",
            message="12Mi still to move",
            last_transition_time=datetime(2026, 11, 27, tzinfo=UTC),
        ),
    ),
    matched_pods=2,
    rules=(RuleStatus(name="heap", bytes=1 << 30),),
    summary="0 of 2 pods placed; 1 GiB on dram",
    pods=(PodStatus(name="p", node="n", reason="Moving", message="12Mi still to move"),),
)


def with_pod(**changes: Any) -> PlacementStatus:
    pods = (msgspec.structs.replace(BASE.pods[0], **changes),)
    return msgspec.structs.replace(BASE, pods=pods)


@pytest.mark.parametrize(
    ("after", "is_at_once"),
    [
        (msgspec.structs.replace(BASE, rules=(RuleStatus(name="heap", bytes=2 << 30),)), False),
        (msgspec.structs.replace(BASE, summary="0 of 2 pods placed; 2 GiB on dram"), False),
        (with_pod(message="8Mi still to move"), False),
        (with_pod(tiers=(TierBytes(name="cxl", bytes=7),)), False),
        (with_pod(reason="Conflict"), True),
        (with_pod(name="q"), True),
        (msgspec.structs.replace(BASE, placed_pods=1), True),
        (msgspec.structs.replace(BASE, conditions=()), True),
    ],
)
def test_figures_are_written_seldom_and_states_at_once(
    monkeypatch: pytest.MonkeyPatch, after: PlacementStatus, *, is_at_once: bool
) -> None:
    """Who watches is sent each status: one per measurement would be one per node and 10 s."""
    desired, put = [BASE], list[Write]()
    monkeypatch.setattr(controller_module, "reconcile", lambda *_, **__: desired[0])
    feeds = Feeds(World(), Beats())
    feeds.world.put_placement(placement("mp"))
    controller = Controller(
        feeds, Metrics(), put=put.append, has_room=lambda: True, may_judge=lambda: True
    )

    def judge(status: PlacementStatus) -> list[PlacementStatus]:
        desired[0] = status
        controller._rests.clear()
        feeds.world.due = {"uid-mp": None}
        controller.round(threading.Event())
        return [write.status for write in put]

    assert judge(BASE) == [BASE]
    controller.done(put[0], Outcome(version=7))
    assert judge(after) == ([BASE, after] if is_at_once else [BASE])
    monkeypatch.setattr(controller_module, "QUIET_S", 0.0)
    assert judge(after) == [BASE, after]


@contextlib.contextmanager
def writing(
    api: Api, may_write: Callable[[], bool] = lambda: True
) -> Iterator[tuple[Writer, list[tuple[str, Outcome]]]]:
    ended: list[tuple[str, Outcome]] = []

    def done(write: Write, outcome: Outcome) -> None:
        ended.append((write.subject.name, outcome))

    writer, stop = Writer(api.server, may_write=may_write, done=done), threading.Event()
    for _ in range(3):
        threading.Thread(target=writer.run, args=(stop,), daemon=True).start()
    try:
        yield writer, ended
    finally:
        stop.set()


def wait(holds: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def a_write(name: str = "mp", *events: dict[str, Any]) -> Write:
    return Write(placement(name), PlacementStatus(matched_pods=3), events)


def an_event(reason: str = "Placed", *, after_s: float = 0, of: Any = None) -> dict[str, Any]:
    what = Transition(is_warning=False, reason=reason, message=f"said after {after_s} s")
    return make_event(of or placement("mp"), what, NOW + timedelta(seconds=after_s))


def test_a_status_is_written_and_then_told() -> None:
    with serving(lambda _, file: reply(file, WRITTEN)) as api, writing(api) as (writer, ended):
        writer.put(a_write("mp", an_event()))
        wait(lambda: ended and len(api.seen) == 2)
    assert ended == [("mp", Outcome(version=77))]
    patch, event = api.seen
    assert patch.path.endswith("/namespaces/cache/memoryplacements/mp/status")
    assert patch.body["metadata"] == {"uid": "uid-mp"}
    assert patch.body["status"]["matchedPods"] == 3
    assert (event.method, event.path) == ("POST", "/apis/events.k8s.io/v1/namespaces/cache/events")


def test_one_of_the_cluster_is_written_where_it_is_and_told_in_default() -> None:
    with serving(lambda _, file: reply(file, WRITTEN)) as api, writing(api) as (writer, ended):
        told = [an_event(of=cluster_placement())]
        writer.put(Write(cluster_placement(), PlacementStatus(), told))
        wait(lambda: ended and len(api.seen) == 2)
    patch, event = api.seen
    assert patch.path.partition("?")[0] == (
        "/apis/memplace.dev/v1alpha1/clustermemoryplacements/cmp/status"
    )
    assert event.path == "/apis/events.k8s.io/v1/namespaces/default/events"


def _have_ended(ended: list[Any], number: int) -> bool:
    return len(ended) == number


def told(api: Api) -> list[tuple[str, str, Any]]:
    """Return of each request about an event: method, name, and the series that it says."""
    found = [r for r in api.seen if r.path.startswith(EVENTS)]
    return [(r.method, r.path.rpartition("/events")[2], r.body.get("series")) for r in found]


def test_what_is_told_again_is_added_to_the_first() -> None:
    with serving(lambda _, file: reply(file, WRITTEN)) as api, writing(api) as (writer, ended):
        events = [an_event(), an_event(after_s=60), an_event("Moving", after_s=70)]
        # Six minutes after the last one, and not after the first.
        events += [an_event(after_s=400), an_event(after_s=761)]
        for number, event in enumerate(events, start=1):
            writer.put(a_write("mp", event))
            wait(partial(_have_ended, ended, number))
        wait(lambda: len(told(api)) == len(events))
    assert told(api) == [
        ("POST", "", None),
        ("PATCH", "/mp-x7", {"count": 2, "lastObservedTime": "2026-11-27T12:01:00.000000Z"}),
        ("POST", "", None),
        ("PATCH", "/mp-x7", {"count": 3, "lastObservedTime": "2026-11-27T12:06:40.000000Z"}),
        ("POST", "", None),
    ]


def test_of_another_placement_it_is_another() -> None:
    with serving(lambda _, file: reply(file, WRITTEN)) as api, writing(api) as (writer, ended):
        for name in ("mp", "other"):
            writer.put(a_write(name, an_event(of=placement(name))))
        wait(lambda: len(ended) == 2)
    assert [method for method, *_ in told(api)] == ["POST", "POST"]


def test_an_event_that_somebody_deleted_begins_anew() -> None:
    def answer(request: Request, file: Any) -> None:
        is_gone = request.method == "PATCH" and "/events/" in request.path
        reply(file, WRITTEN, "404 Not Found" if is_gone else "200 OK")

    with serving(answer) as api, writing(api) as (writer, ended):
        for number in range(1, 4):
            writer.put(a_write("mp", an_event(after_s=number)))
            wait(partial(_have_ended, ended, number))
    assert [(method, says and says["count"]) for method, _, says in told(api)] == [
        ("POST", None),
        ("PATCH", 2),
        ("POST", None),
        ("PATCH", 2),
        ("POST", None),
    ]


def test_an_event_that_is_refused_is_told_as_new_the_next_time() -> None:
    def answer(request: Request, file: Any) -> None:
        is_first = request.method == "POST" and len(told(api)) == 1
        reply(file, WRITTEN, "403 Forbidden" if is_first else "200 OK")

    with serving(answer) as api, writing(api) as (writer, ended):
        for number in range(1, 4):
            writer.put(a_write("mp", an_event(after_s=number)))
            wait(partial(_have_ended, ended, number))
    assert [method for method, *_ in told(api)] == ["POST", "POST", "PATCH"]


def test_what_is_remembered_of_events_ends() -> None:
    series = Series()
    for number in range(2000):
        for name in (f"mp{number}", "again"):  # one that goes on keeps no other
            event = an_event(after_s=number, of=placement(name))
            series.was_told(event, series.repeated(event) or first_told(event, f"{name}-x"))
            assert series.repeated(event)
    assert len(series._told) == 361 + 1


@pytest.mark.parametrize("status", ["404 Not Found", "409 Conflict"])
def test_what_is_gone_is_no_error(status: str) -> None:
    def answer(_: Request, file: Any) -> None:
        reply(file, {"message": "gone"}, status)

    with serving(answer) as api, writing(api) as (writer, ended):
        writer.put(a_write("mp", an_event()))
        wait(lambda: ended)
    assert ended == [("mp", Outcome())]
    assert len(api.seen) == 1, "nothing is told of what was not written"


def test_a_refusal_is_about_one_and_holds_up_nobody() -> None:
    def answer(request: Request, file: Any) -> None:
        if "/bad/" in request.path:
            reply(file, {"message": "policy says no"}, "422 Unprocessable Entity")
        else:
            reply(file, WRITTEN)

    with serving(answer) as api, writing(api) as (writer, ended):
        for name in ("bad", *(f"good{n}" for n in range(20))):
            writer.put(a_write(name))
        wait(lambda: len(ended) == 21, seconds=3)
    assert dict(ended)["bad"].is_ours
    assert {outcome.version for name, outcome in ended if name != "bad"} == {77}


def test_an_api_server_that_asks_to_wait_is_left_alone_by_all() -> None:
    busy = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"

    def answer(_: Request, file: Any) -> None:
        if len(api.seen) == 1:
            file.write(busy)
        else:
            reply(file, WRITTEN)

    with serving(answer) as api, writing(api) as (writer, ended):
        writer.put(a_write("first"))
        wait(lambda: ended)
        started = time.monotonic()
        assert not ended[0][1].is_ours
        writer.put(a_write("second"))
        time.sleep(1)
        assert len(api.seen) == 1
        wait(lambda: len(ended) == 2)
        assert time.monotonic() - started > 1.5


def test_who_does_not_lead_does_not_write() -> None:
    leads = threading.Event()
    with (
        serving(lambda _, file: reply(file, WRITTEN)) as api,
        writing(api, leads.is_set) as (writer, ended),
    ):
        writer.put(a_write())
        time.sleep(0.7)
        assert api.seen == []
        leads.set()
        wait(lambda: ended)
        # Who was not the one for a while judges anew: another may have gone further.
        assert api.seen == [] and ended[0][1].error and not ended[0][1].is_ours
        writer.put(a_write())
        wait(lambda: len(ended) == 2)
    assert ended[1] == ("mp", Outcome(version=77))


@pytest.mark.parametrize(
    ("said", "waited"),
    [(None, 0), ("", 0), ("2", 2), ("31", 30), ("9" * 400, 30), ("-1", 0), ("Fri, 01 Jan", 0)],
)
def test_nobody_waits_for_years(said: str | None, waited: float) -> None:
    assert seconds_asked(said) == waited
