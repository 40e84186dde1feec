# SPDX-License-Identifier: Apache-2.0
"""Metrics by TLS: who may read them, and what becomes of certificates that are renewed."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from memplace.errors import ValidationError
from memplace_agent.http import HttpServer
from memplace_kube import server as kube_server
from memplace_kube.server import SecureServer
from memplace_kube.serving import SecurePort, ServerTls, secure_port

from tests.support.authority import NAME, Authority, Issued, mount, reader, scrape

pytestmark = pytest.mark.needs_installed("openssl")

UP = b"up 1\n"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("others"), "others")


@pytest.fixture(scope="module")
def first(ours: Authority) -> Issued:
    return ours.server("first")


@pytest.fixture(scope="module")
def prometheus(ours: Authority) -> Issued:
    return ours.client("prometheus")


def files(folder: Path, *, clients: bool = True) -> SecurePort:
    env = {"MEMPLACE_METRICS_TLS": str(folder)}
    if clients:
        env["MEMPLACE_METRICS_CLIENT_CA"] = str(folder / "clients.crt")
    found = secure_port(env)
    assert found is not None
    return found


def serving(folder: Path, *, clients: bool = True) -> SecureServer:
    server = SecureServer(0, lambda: UP, ServerTls(files(folder, clients=clients)))
    server.start()
    return server


@pytest.fixture
def folder(tmp_path: Path, ours: Authority, first: Issued) -> Path:
    mount(tmp_path / "tls", first, ours)
    return tmp_path / "tls"


@pytest.fixture
def server(folder: Path) -> Iterator[SecureServer]:
    found = serving(folder)
    yield found
    found.stop()


def test_who_has_a_certificate_of_the_authority_reads_them(
    server: SecureServer, ours: Authority, prometheus: Issued
) -> None:
    assert scrape(server.port, ours, prometheus) == (200, "up 1\n", "first")


def test_nobody_else_reads_them(
    server: SecureServer, ours: Authority, others: Authority, first: Issued
) -> None:
    with pytest.raises(ssl.SSLError, match="certificate required"):
        scrape(server.port, ours)
    with pytest.raises(ssl.SSLError, match="unknown ca"):
        scrape(server.port, ours, others.client("stranger"))
    # Of the right authority, and of a server: its node could be stolen.
    with pytest.raises(
        ssl.SSLError, match=r"unsupported certificate|unknown ca|certificate unknown"
    ):
        scrape(server.port, ours, first)


def test_who_is_refused_late_can_still_read_why(server: SecureServer, ours: Authority) -> None:
    # Of TLS 1.3, a client has done its part before the server looks at it, and goes on to write.
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        reader(ours).wrap_socket(plain, server_hostname=NAME) as secure,
    ):
        for _ in range(5):
            time.sleep(0.1)
            secure.sendall(b"GET /metrics HTTP/1.0\r\n")
        with pytest.raises(ssl.SSLError, match="certificate required"):
            secure.recv(1)


def test_a_client_can_tell_an_impostor(server: SecureServer, others: Authority) -> None:
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        scrape(server.port, others)


def test_without_an_authority_of_clients_everybody_reads_them(
    tmp_path: Path, ours: Authority, first: Issued
) -> None:
    mount(tmp_path / "tls", first, None)
    server = serving(tmp_path / "tls", clients=False)
    try:
        assert scrape(server.port, ours)[:2] == (200, "up 1\n")
    finally:
        server.stop()


def test_who_speaks_no_tls_reads_nothing(server: SecureServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.request("GET", "/metrics")
        connection.getresponse()


def test_then_the_port_of_the_kubelet_has_none() -> None:
    server = HttpServer(0, health=lambda: (), readiness=lambda: (), metrics=None)
    server.start()
    try:
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 404)):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", path)
            assert connection.getresponse().status == status
    finally:
        server.stop()


def test_a_renewed_certificate_is_shown_without_a_restart(
    server: SecureServer, folder: Path, ours: Authority, prometheus: Issued
) -> None:
    mount(folder, ours.server("second"), ours)
    assert scrape(server.port, ours, prometheus) == (200, "up 1\n", "second")


def test_an_authority_that_was_replaced_is_believed_no_more(
    server: SecureServer,
    folder: Path,
    ours: Authority,
    others: Authority,
    first: Issued,
    *,
    prometheus: Issued,
) -> None:
    assert scrape(server.port, ours, prometheus)[0] == 200
    mount(folder, first, others)
    with pytest.raises(ssl.SSLError, match="unknown ca"):
        scrape(server.port, ours, prometheus)
    assert scrape(server.port, ours, others.client("newer"))[0] == 200


def test_a_session_of_before_is_not_taken_up_again(
    server: SecureServer, folder: Path, ours: Authority, others: Authority, prometheus: Issued
) -> None:
    """Who takes one up shows no certificate."""
    context, where = reader(ours, prometheus), ("127.0.0.1", server.port)

    def read(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
        with (
            socket.create_connection(where, timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=NAME, session=session) as secure,
        ):
            secure.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = b""
            # Not to the end: of a connection that was cut there is no session.
            while not answer.endswith(UP) and (more := secure.recv(1000)):
                answer += more
            return answer, secure.session

    answer, session = read(None)
    assert answer.endswith(UP)
    mount(folder, ours.server("fourth"), others)
    with pytest.raises(ssl.SSLError, match="unknown ca"):
        read(session)


def test_only_the_newest_tls_is_spoken(
    server: SecureServer, ours: Authority, prometheus: Issued
) -> None:
    context = reader(ours, prometheus)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        pytest.raises(ssl.SSLError, match="protocol version"),
    ):
        context.wrap_socket(plain, server_hostname=NAME)


def test_files_that_do_not_belong_together_change_nothing_and_are_told_of_once(
    server: SecureServer,
    folder: Path,
    ours: Authority,
    first: Issued,
    prometheus: Issued,
    *,
    caplog: pytest.LogCaptureFixture,
) -> None:
    second = ours.server("third")
    with caplog.at_level(logging.ERROR):
        mount(folder, Issued(second.certificate, first.key), ours)
        for _ in range(3):
            assert scrape(server.port, ours, prometheus)[2] == "first"
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert str(folder) in said and "the former one is used" in said
    mount(folder, second, ours)
    assert scrape(server.port, ours, prometheus)[2] == "third"


def test_without_a_certificate_all_else_goes_on_until_there_is_one(
    tmp_path: Path, ours: Authority, first: Issued, prometheus: Issued
) -> None:
    server = serving(tmp_path / "tls")
    try:
        with pytest.raises(ssl.SSLError, match="internal error"):
            scrape(server.port, ours, prometheus)
        mount(tmp_path / "tls", first, ours)
        assert scrape(server.port, ours, prometheus)[0] == 200
    finally:
        server.stop()


def test_an_authority_of_clients_that_is_not_there_lets_nobody_in(
    tmp_path: Path, ours: Authority, first: Issued, prometheus: Issued
) -> None:
    mount(tmp_path / "tls", first, None)
    server = serving(tmp_path / "tls")
    try:
        for client in (None, prometheus):
            with pytest.raises(ssl.SSLError, match="internal error"):
                scrape(server.port, ours, client)
        mount(tmp_path / "tls", first, ours)
        assert scrape(server.port, ours, prometheus)[0] == 200
    finally:
        server.stop()


def test_who_shakes_no_hands_is_cut_off_and_keeps_nobody_out(
    server: SecureServer, ours: Authority, prometheus: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_server, "_DEADLINE_S", 0.5)
    where = ("127.0.0.1", server.port)
    held = [socket.create_connection(where, source_address=("127.0.0.2", 0)) for _ in range(20)]
    assert scrape(server.port, ours, prometheus)[0] == 200
    began = time.monotonic()
    for each in held:
        each.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert each.recv(100) == b""
    # Before one read alone is given up, which a client that trickles never lets happen.
    assert time.monotonic() - began < 4
    for each in held:
        each.close()


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"MEMPLACE_METRICS_TLS": "tls"}, "MEMPLACE_METRICS_TLS: write a path that begins with /"),
        (
            {"MEMPLACE_METRICS_TLS": "/tls", "MEMPLACE_METRICS_CLIENT_CA": "ca"},
            "MEMPLACE_METRICS_CLIENT_CA: write a path",
        ),
        ({"MEMPLACE_METRICS_CLIENT_CA": "/ca"}, "set MEMPLACE_METRICS_TLS, too"),
        ({"MEMPLACE_METRICS_PORT": "0"}, "MEMPLACE_METRICS_PORT: write a port"),
        ({"MEMPLACE_METRICS_PORT": "https"}, "MEMPLACE_METRICS_PORT: write a port"),
    ],
)
def test_settings_that_make_no_sense_are_named(env: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        secure_port(env)
    assert says in str(caught.value)


def test_without_settings_there_is_no_tls() -> None:
    assert secure_port({}) is None
