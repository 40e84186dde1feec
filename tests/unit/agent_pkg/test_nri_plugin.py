# SPDX-License-Identifier: Apache-2.0
"""The thread that a runtime asks: whatever is at the socket, it lives and answers success.

The other side here is whatever a test makes of it; a runtime's own is in tests/nri."""

import contextlib
import logging
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memplace.errors import ValidationError
from memplace_agent.metrics import Metrics
from memplace_agent.nri import plugin as plugin_module
from memplace_agent.nri.messages import Starting
from memplace_agent.nri.plugin import Met, NriPlugin
from memplace_agent.nri.wire import OF_PLUGIN, OF_RUNTIME, Message, Stream, fields, framed, put
from memplace_agent.settings import settings_from_env

from tests.unit.agent_pkg.test_nri_wire import request, starts


class Peer:
    """What is at the socket."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.listener.settimeout(10)
        self.connection = None

    def accept(self):
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(10)
        self.stream, self.got = Stream(), []
        return self.next()

    def next(self):
        while not self.got:
            data = self.connection.recv(1 << 16)
            if not data:
                raise EOFError
            self.got.extend(self.stream.take(data))
        return self.got.pop(0)

    def send(self, *messages):
        self.connection.sendall(b"".join(map(framed, messages)))

    def ask(self, *args):
        self.send(request(*args))
        return self.next()

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.listener.close()
        self.path.unlink()


@contextlib.contextmanager
def plugin(path, start=lambda _: Met.READY):
    stop, metrics, ticks = threading.Event(), Metrics(), []
    made = NriPlugin(path, start, metrics)
    thread = threading.Thread(target=made.run, args=(stop, lambda: ticks.append(1)))
    thread.start()
    try:
        yield metrics
        assert thread.is_alive()
        assert ticks
    finally:
        stop.set()
        thread.join(15)
    assert not thread.is_alive()


def until(done, seconds=10):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def peer(tmp_path):
    made = Peer(tmp_path / "nri.sock")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _ticks_fast(monkeypatch):
    monkeypatch.setattr(plugin_module, "_TICK_S", 0.05)


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(plugin_module, "_PAUSES_S", (0.01,))


def test_it_registers_and_says_what_it_wants(peer):
    with plugin(peer.path) as metrics:
        first = peer.accept()
        assert first.connection == OF_RUNTIME and b"RegisterPlugin" in first.data
        peer.send(Message(OF_RUNTIME, first.stream, 2, b""))
        assert not metrics.nri_connected._value.get()
        answer = peer.ask("Configure", put(2, "containerd"))
        assert (answer.connection, answer.stream, answer.type) == (OF_PLUGIN, 5, 2)
        until(metrics.nri_connected._value.get)
    assert not metrics.nri_connected._value.get()


def test_a_start_is_answered_when_what_is_to_be_done_is_done(peer):
    done = []

    def start(starting):
        time.sleep(0.05)
        done.append(starting)
        return Met.READY

    with plugin(peer.path, start) as metrics:
        peer.accept()
        answer = peer.ask("StartContainer", starts(1, 2))
        assert done == [Starting("u-1", "c0", "a" * 64, 77)] and answer.data == b""
        until(lambda: metrics.nri_starts.labels("ready")._value.get() == 1)


@pytest.mark.parametrize("error", [OSError("no"), ValueError("no"), RecursionError()])
def test_an_error_is_no_error_answer(peer, error):
    def start(_):
        raise error

    with plugin(peer.path, start) as metrics:
        peer.accept()
        for _ in range(2):
            answer = peer.ask("StartContainer", starts(1, 2))
            assert 1 not in fields(answer.data, 1)
        until(lambda: metrics.nri_starts.labels("failed")._value.get() == 2)


@pytest.mark.parametrize("content", [b"\xff", put(2, 5), b"", put(1, 6) + put(2, b"\x80")])
@pytest.mark.parametrize("method", ["StartContainer", "StateChange", "Configure", "Synchronize"])
def test_a_request_that_makes_no_sense_is_answered(peer, method, content):
    with plugin(peer.path):
        peer.accept()
        answer = peer.ask(method, content)
        assert (answer.stream, answer.type) == (5, 2) and 1 not in fields(answer.data, 1)


def test_several_requests_at_once_are_all_answered(peer):
    with plugin(peer.path):
        peer.accept()
        numbers = range(1, 41, 2)
        peer.send(*(request("StartContainer", starts(1, 2), number) for number in numbers))
        assert [peer.next().stream for _ in numbers] == list(numbers)


def test_it_comes_back_when_the_runtime_is_restarted(tmp_path, quickly):
    path = tmp_path / "nri.sock"
    with plugin(path) as metrics:
        for _ in range(3):
            peer = Peer(path)
            peer.accept()
            peer.ask("Configure")
            until(metrics.nri_connected._value.get)
            peer.close()
            until(lambda: not metrics.nri_connected._value.get())


def test_a_socket_that_is_missing_is_said_once(tmp_path, quickly, caplog):
    with caplog.at_level(logging.INFO, "memplace_agent.nri.plugin"), plugin(tmp_path / "no.sock"):
        time.sleep(0.3)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "docs/nri.md" in record.hint


def test_a_runtime_that_does_not_want_it_is_asked_again(peer, quickly, caplog):
    with plugin(peer.path):
        for _ in range(2):
            first = peer.accept()
            status = put(1, put(1, 2) + put(2, "no plugins today"))
            peer.send(Message(OF_RUNTIME, first.stream, 2, status))
            with pytest.raises(EOFError):
                peer.next()
    assert len([r for r in caplog.records if "no plugins today" in getattr(r, "error", "")]) == 1


def test_a_runtime_that_does_not_go_on_is_left(peer, quickly, monkeypatch):
    monkeypatch.setattr(plugin_module, "_REGISTRATION_S", 0.2)
    with plugin(peer.path):
        peer.accept()
        with pytest.raises(EOFError):
            peer.next()
        peer.accept()


def test_one_that_does_not_read_is_left(peer, quickly):
    many = b"".join(framed(request("Other", b"", number)) for number in range(500))
    with plugin(peer.path) as metrics:
        peer.accept()
        peer.ask("Configure")
        until(metrics.nri_connected._value.get)
        with contextlib.suppress(OSError):
            while True:  # it can't answer any more at some time, and closes
                peer.connection.sendall(many)
        until(lambda: not metrics.nri_connected._value.get())


def test_it_is_off_unless_asked_for():
    env = {"NODE_NAME": "n"}
    assert settings_from_env(env).nri_socket is None
    asked_for = env | {"MEMPLACE_NRI_SOCKET": "/run/nri.sock", "MEMPLACE_NRI_TIMEOUT_MS": "77"}
    found = settings_from_env(asked_for)
    assert (found.nri_socket, found.nri_timeout_s) == (Path("/run/nri.sock"), 0.077)
    with pytest.raises(ValidationError, match="MEMPLACE_NRI_SOCKET"):
        settings_from_env(env | {"MEMPLACE_NRI_SOCKET": "nri.sock"})


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=100),
            st.builds(
                lambda c, t, data: framed(Message(c, 5, t, data)),
                st.integers(0, 3),
                st.integers(0, 4),
                st.binary(max_size=60),
            ),
            st.builds(
                lambda method, data: framed(request(method, data)),
                st.sampled_from(["StartContainer", "StateChange", "Configure"]),
                st.binary(max_size=60),
            ),
        ),
        max_size=6,
    )
)
def test_garbage_ends_the_connection_at_most(quickly, tmp_path, pieces):
    path = tmp_path / "nri.sock"
    peer = Peer(path)
    try:
        with plugin(path):
            peer.accept()
            with contextlib.suppress(OSError):
                for piece in pieces:
                    peer.connection.sendall(piece)
            peer.connection.close()
            peer.accept()
            peer.ask("Configure")
    finally:
        peer.close()
