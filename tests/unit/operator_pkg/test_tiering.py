# SPDX-License-Identifier: Apache-2.0
"""The thread that tells of MemoryTiers outlives what no API server answers, from a real server."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from memplace_kube.client import Server
from memplace_operator import tiering
from memplace_operator.beats import Beats
from memplace_operator.feeds import Feeds
from memplace_operator.kinds import Kind
from memplace_operator.world import World

ODD = (b"[1]", b"null", b'"x"', b'{"items":[1]}', b"[" * 5000, b"{")


class Odd(http.server.BaseHTTPRequestHandler):
    """Gives one odd answer after the other."""

    asked = 0

    def do_GET(self) -> None:
        body = ODD[Odd.asked % len(ODD)]
        Odd.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield Server(host="127.0.0.1", port=listening.server_port)
        listening.shutdown()


def test_it_outlives_answers_that_no_api_server_gives(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiering, "LOOK_S", 0.01)
    feeds = Feeds(World(), Beats(stale_s=90))
    feeds.listed |= set(Kind)
    teller = tiering.TierTeller(server, feeds, may_write=lambda: True)
    stop = threading.Event()
    thread = threading.Thread(target=teller.run, args=(stop,))
    thread.start()
    for _ in range(1000):
        if Odd.asked > 2 * len(ODD) or not thread.is_alive():
            break
        stop.wait(0.01)
    lived = thread.is_alive()
    stop.set()
    thread.join()
    assert lived and Odd.asked > 2 * len(ODD)
