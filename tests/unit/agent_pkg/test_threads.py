# SPDX-License-Identifier: Apache-2.0
"""Threads that hang or end are noticed, and the server tells."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from memplace_agent import threads
from memplace_agent.http import HttpServer
from memplace_agent.threads import Pulse, Threads
from memplace_kube import server as kube_server
from memplace_lab.base.loopback import ask

from tests.unit.agent_pkg.test_watch import eventually


def test_a_thread_that_hangs_is_named() -> None:
    all_ = Threads()
    all_.start(lambda stop, _: stop.wait(), Pulse("hangs", 0.1))

    def ticks(stop, tick):
        while not stop.wait(0.01):
            tick()

    all_.start(ticks, Pulse("ticks", 5))
    eventually(lambda: not all_.is_alive)
    (problem,) = all_.problems()
    assert problem.startswith("hangs: no sign of life")
    all_.stop.set()
    all_.join(2)


def test_a_thread_that_ends_by_an_error_begins_anew(monkeypatch) -> None:
    monkeypatch.setattr(threads, "_PAUSES_S", (0.01,) * 5)
    begun = []

    def run(stop, tick):
        begun.append(1)
        if len(begun) < 3:
            raise KeyError("content-type")
        stop.wait()

    all_ = Threads()
    all_.start(run, Pulse("it", 30))
    eventually(lambda: len(begun) == 3)
    assert all_.is_alive
    all_.stop.set()


def test_one_that_always_ends_is_for_the_kubelet(monkeypatch) -> None:
    monkeypatch.setattr(threads, "_PAUSES_S", (0.01,) * 5)

    def run(stop, tick):
        tick()
        raise RuntimeError

    all_ = Threads()
    all_.start(run, Pulse("it", 30))
    eventually(lambda: not all_.is_alive)
    assert "in a row" in all_.problems()[0]
    all_.stop.set()


@pytest.fixture
def server() -> Iterator[HttpServer]:
    problems = {"health": [], "ready": ["watch of Pod: nothing heard for 101 s"]}
    found = HttpServer(
        0,
        health=lambda: problems["health"],
        readiness=lambda: problems["ready"],
        metrics=lambda: b"up 1\n",
    )
    found.start()
    yield found
    found.stop()


def get(server: HttpServer, path: str) -> tuple[int, str]:
    return ask(server.port, path, timeout_s=10)


def test_the_server_says_what_is_wrong(server: HttpServer) -> None:
    assert get(server, "/healthz") == (200, "ok\n")
    assert get(server, "/readyz") == (503, "watch of Pod: nothing heard for 101 s\n")
    assert get(server, "/metrics?x=1") == (200, "up 1\n")
    assert get(server, "/")[0] == 404


def connect(server: HttpServer, address: str = "127.0.0.2") -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), source_address=(address, 0))


def test_nobody_takes_all_threads(server: HttpServer) -> None:
    """One client holds many connections open and says nothing; the kubelet still gets in."""
    others = threading.active_count()
    held = [connect(server) for _ in range(50)]
    started = time.monotonic()
    assert get(server, "/healthz")[0] == 200
    assert time.monotonic() - started < 3
    assert threading.active_count() - others < 30
    turned_away = sum(not _is_open(s) for s in held)
    # Or more: on a slow machine those that got in have been cut off by now.
    assert turned_away >= 50 - kube_server._PER_ADDRESS
    for each in held:
        each.close()


def _is_open(held: socket.socket) -> bool:
    held.settimeout(0.2)
    try:
        return held.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def test_a_client_that_trickles_is_cut_off(server: HttpServer, monkeypatch) -> None:
    monkeypatch.setattr(kube_server, "_DEADLINE_S", 0.5)
    with connect(server) as slow:
        ended = False
        for _ in range(100):
            try:
                slow.sendall(b"G")
            except OSError:
                ended = True
                break
            if not _is_open(slow):
                ended = True
                break
        assert ended


def test_a_server_whose_address_is_ipv6_only_is_reachable_too(server: HttpServer) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no dual stack")
    with socket.create_connection(("::1", server.port), timeout=5) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.0 200")
