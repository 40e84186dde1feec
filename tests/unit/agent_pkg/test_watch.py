# SPDX-License-Identifier: Apache-2.0
"""Watches against a real HTTP server that answers well, badly, or not at all."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from memplace_agent.cluster.kinds import Kind
from memplace_kube import client, watch
from memplace_kube.watch import Collection, Watcher, as_mapping, retry_delay

from tests.unit.agent_pkg.answers import Request, reply, serving, stream

TIERS = Collection(Kind.TIER, "/apis/memplace.dev/v1alpha1/memorytiers")


def tier(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


def tiers(*names: str, version: int = 7, more: str = "") -> dict[str, Any]:
    meta = {"resourceVersion": str(version), "continue": more}
    return {"metadata": meta, "items": [tier(name, 1) for name in names]}


class Takes:
    """What a watcher found."""

    def __init__(self) -> None:
        self.lists: list[list[str]] = []
        self.events: list[tuple[str, str]] = []

    def replace(self, _: Kind, objects: Any) -> None:
        self.lists.append([obj["metadata"]["name"] for obj in objects])

    def event(self, _: Kind, type_: str, obj: Any) -> None:
        self.events.append((type_, obj["metadata"]["name"]))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pauses be short: what is waited for is the same."""
    monkeypatch.setattr(watch, "SPREAD_S", 0.05)
    monkeypatch.setattr(watch, "_TOO_SHORT_S", 0.0)


@contextlib.contextmanager
def watching(
    api: Any, what: Collection[Kind] = TIERS
) -> Iterator[tuple[Watcher[Kind, Any], Takes, threading.Thread]]:
    takes, stop = Takes(), threading.Event()
    watcher = Watcher(api.server, takes, what, as_mapping)
    thread = threading.Thread(target=watcher.run, args=(stop, lambda: None), daemon=True)
    thread.start()
    try:
        yield watcher, takes, thread
    finally:
        stop.set()


def eventually(holds: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def raw(text: str) -> Callable[[Any], None]:
    return lambda file: file.write(text.encode())


ODD = {
    "no content type": raw("HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n"),
    "text": raw("HTTP/1.1 503 x\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\noops"),
    "no JSON": raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noops"),
    "JSON of another form": raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"),
    "no list": raw('HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"items": 123}'),
    "no HTTP": raw("220 mail.example.org ESMTP\r\n"),
    "nothing": raw(""),
    "half an answer": raw("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"),
    "a redirect": raw("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"),
    "a length that is none": raw("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}"),
    "bytes": lambda file: file.write(bytes(range(256)) * 40),
    "a chunk that is none": raw(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"
    ),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_list_survives_an_odd_answer(odd: Callable[[Any], None]) -> None:
    def answer(request: Request, file: Any) -> None:
        if len(api.seen) <= 3:
            odd(file)
        elif "watch" in request.query:
            time.sleep(0.2)
            stream(file)
        else:
            reply(file, tiers("a"))

    with serving(answer) as api, watching(api) as (_, takes, thread):
        eventually(lambda: takes.lists == [["a"]])
        assert thread.is_alive()


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_watch_survives_an_odd_answer_and_goes_on(odd: Callable[[Any], None]) -> None:
    def answer(request: Request, file: Any) -> None:
        if "watch" not in request.query:
            reply(file, tiers("a", version=7))
        elif len(api.queries(watch=True)) <= 3:
            odd(file)
        else:
            stream(file, {"type": "ADDED", "object": tier("b", 9)})
            time.sleep(0.2)

    with serving(answer) as api, watching(api) as (_, takes, thread):
        eventually(lambda: ("ADDED", "b") in takes.events)
        assert thread.is_alive()
        assert len(takes.lists) == 1
        assert {q["resourceVersion"] for q in api.queries(watch=True)[:4]} == {"7"}


def test_a_cut_watch_goes_on_where_it_was() -> None:
    def answer(request: Request, file: Any) -> None:
        if "watch" not in request.query:
            reply(file, tiers("a", version=7))
        elif request.query["resourceVersion"] == "7":
            stream(file, {"type": "ADDED", "object": tier("b", 8)}, end=False)
        elif request.query["resourceVersion"] == "8":
            bookmark = {"metadata": {"resourceVersion": "20"}}
            stream(file, {"type": "BOOKMARK", "object": bookmark})
        else:
            time.sleep(0.2)
            stream(file)

    with serving(answer) as api, watching(api) as (_, takes, _thread):
        eventually(lambda: len(api.queries(watch=True)) >= 3)
        assert [q["resourceVersion"] for q in api.queries(watch=True)[:3]] == ["7", "8", "20"]
        assert (takes.lists, takes.events) == ([["a"]], [("ADDED", "b")])


def test_lists_are_the_newest_and_come_in_pages_if_the_server_makes_some() -> None:
    def answer(request: Request, file: Any) -> None:
        if "watch" in request.query:
            time.sleep(0.2)
            stream(file)
        elif "continue" in request.query:
            reply(file, tiers("b", version=7))
        else:
            reply(file, tiers("a", more="next"))

    with serving(answer) as api, watching(api) as (_, takes, _thread):
        eventually(lambda: takes.lists == [["a", "b"]])
        assert api.queries(watch=False) == [
            {},  # neither of a version that a server may be behind, nor with a limit
            {"limit": "500", "continue": "next"},
        ]


@pytest.mark.parametrize("way", ["an event", "an answer"])
def test_after_410_it_lists_anew_and_nothing_older(way: str) -> None:
    gone = {"kind": "Status", "code": 410, "message": "too old"}

    def answer(request: Request, file: Any) -> None:
        watches = len(api.queries(watch=True))
        if "watch" not in request.query:
            reply(file, tiers("a", version=7 if watches == 0 else 50))
        elif watches == 1 and way == "an event":
            stream(file, {"type": "ERROR", "object": gone})
        elif watches == 1:
            reply(file, gone, "410 Gone")
        else:
            time.sleep(0.2)
            stream(file)

    with serving(answer) as api, watching(api) as (_, takes, _thread):
        eventually(lambda: len(takes.lists) == 2)
        assert api.queries(watch=False)[1] == {
            "resourceVersion": "7",
            "resourceVersionMatch": "NotOlderThan",
        }
        eventually(lambda: len(api.queries(watch=True)) >= 2)
        assert api.queries(watch=True)[1]["resourceVersion"] == "50"


def test_a_server_that_is_behind_is_asked_for_the_truth() -> None:
    def answer(request: Request, file: Any) -> None:
        if "watch" in request.query:
            time.sleep(0.2)
            stream(file)
        elif "limit" not in request.query:
            reply(file, {"code": 504, "message": "Too large resource version"}, "504 Timeout")
        else:
            reply(file, tiers("a"))

    with serving(answer) as api, watching(api) as (_, takes, _thread):
        eventually(lambda: takes.lists == [["a"]])
        assert api.queries(watch=False)[1] == {"limit": "500"}


def test_a_list_too_large_for_one_answer_is_asked_for_in_pages() -> None:
    def answer(request: Request, file: Any) -> None:
        if "watch" in request.query:
            time.sleep(0.2)
            stream(file)
        else:
            reply(file, tiers("a"))

    large = Collection(Kind.TIER, TIERS.path, is_large=True)
    with serving(answer) as api, watching(api, large) as (_, takes, _thread):
        eventually(lambda: takes.lists == [["a"]])
        assert api.queries(watch=False)[0] == {"limit": "500"}


def test_a_page_that_expired_begins_the_list_anew() -> None:
    """etcd compacts every five minutes; a list of 100,000 may take as long."""

    def answer(request: Request, file: Any) -> None:
        if "watch" in request.query:
            time.sleep(0.2)
            stream(file)
        elif "continue" in request.query and len(api.queries(watch=False)) < 3:
            reply(file, {"code": 410, "message": "continue parameter is too old"}, "410 Gone")
        elif "continue" in request.query:
            reply(file, tiers("b", version=7))
        else:
            reply(file, tiers("a", more="next"))

    with serving(answer) as api, watching(api) as (_, takes, thread):
        eventually(lambda: takes.lists == [["a", "b"]])
        assert thread.is_alive()


def test_a_version_that_went_back_is_another_history() -> None:
    """An etcd restored from a backup: what was seen since may never have been."""

    def answer(request: Request, file: Any) -> None:
        if "watch" not in request.query:
            reply(file, tiers("a", version=100 if not api.queries(watch=True) else 8))
        elif request.query["resourceVersion"] == "100":
            stream(file, {"type": "MODIFIED", "object": tier("a", 8)})
        else:
            time.sleep(0.2)
            stream(file)

    with serving(answer) as api, watching(api) as (_, takes, _thread):
        eventually(lambda: len(takes.lists) == 2)
        eventually(lambda: api.queries(watch=True)[-1]["resourceVersion"] == "8")


def test_whoever_is_asked_to_wait_waits() -> None:
    def answer(request: Request, file: Any) -> None:
        if "watch" in request.query:
            time.sleep(0.2)
            stream(file)
        elif len(api.seen) == 1:
            busy = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
            file.write(busy)
        else:
            reply(file, tiers("a"))

    with serving(answer) as api, watching(api) as (_, takes, _thread):
        started = time.monotonic()
        eventually(lambda: takes.lists == [["a"]])
        assert 2 <= time.monotonic() - started < 6


def test_an_object_nobody_understands_does_not_stop_the_next() -> None:
    events = [
        {"type": "ADDED", "object": tier("b", 8)},
        {"type": "ADDED", "object": tier("c", 9)},
    ]

    def answer(request: Request, file: Any) -> None:
        if "watch" not in request.query:
            reply(file, tiers("a", version=7))
        else:
            time.sleep(0.05)
            stream(file, *events[int(request.query["resourceVersion"]) - 7 :][:2])

    with serving(answer) as api, watching(api) as (_, takes, thread):
        eventually(lambda: ("ADDED", "c") in takes.events)
        assert thread.is_alive()


def test_silence_is_noticed_within_a_minute_and_the_watch_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A balancer that drops what is idle says nothing: no byte comes, nothing is closed."""
    assert watch._SILENCE_S <= 60
    assert watch._SILENCE_S > watch.WATCH_S
    monkeypatch.setattr(watch, "_SILENCE_S", 0.3)
    dropped = threading.Event()

    def answer(request: Request, file: Any) -> None:
        if "watch" not in request.query:
            reply(file, tiers("a", version=7))
        elif len(api.queries(watch=True)) == 1:
            stream(file, end=False)
            dropped.wait(20)
        else:
            stream(file, {"type": "ADDED", "object": tier("b", 8)})
            time.sleep(0.2)

    with serving(answer) as api, watching(api) as (watcher, takes, _thread):
        started = time.monotonic()
        eventually(lambda: takes.events)
        assert time.monotonic() - started < 5
        assert len(takes.lists) == 1
        assert watcher.age_s < 2
        dropped.set()


def test_the_server_is_told_to_end_a_watch_before_it_counts_as_silent() -> None:
    def answer(request: Request, file: Any) -> None:
        if "watch" not in request.query:
            reply(file, tiers("a"))
        else:
            time.sleep(0.01)
            stream(file)

    with serving(answer) as api, watching(api):
        eventually(lambda: len(api.queries(watch=True)) >= 20)
    asked = {int(query["timeoutSeconds"]) for query in api.queries(watch=True)}
    assert max(asked) <= watch.WATCH_S
    assert len(asked) > 1, "agents that started together would come together for ever"
    assert all(query["allowWatchBookmarks"] == "true" for query in api.queries(watch=True))


def test_the_age_of_a_watch_grows_while_nobody_answers() -> None:
    with serving(lambda *_: None) as api, watching(api) as (watcher, _, _thread):
        time.sleep(0.5)
        assert watcher.age_s >= 0.5


def test_a_trickle_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_TOTAL_S", 0.3)

    def answer(request: Request, file: Any) -> None:
        if "watch" not in request.query:
            reply(file, tiers("a", version=7))
            return
        stream(file, end=False)
        for _ in range(100):
            file.write(b"1\r\n \r\n")
            file.flush()
            time.sleep(0.02)

    with serving(answer) as api, watching(api):
        eventually(lambda: len(api.queries(watch=True)) >= 2, seconds=5)


def test_a_line_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LINE_MAX", 100_000)

    def answer(request: Request, file: Any) -> None:
        if "watch" not in request.query:
            reply(file, tiers("a", version=7))
        else:
            stream(file, end=False)
            for _ in range(100):
                file.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    with serving(answer) as api, watching(api):
        eventually(lambda: len(api.queries(watch=True)) >= 2)


def test_agents_come_back_at_different_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SPREAD_S", 30.0)
    delays = sorted(retry_delay(8) for _ in range(1000))
    assert 0 < delays[0] < 3 and 27 < delays[-1] <= 30
    assert 13 < delays[500] < 17
    assert max(retry_delay(0) for _ in range(100)) <= 1
