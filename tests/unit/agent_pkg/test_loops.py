# SPDX-License-Identifier: Apache-2.0
"""The whole agent as a process: each of its loops is asked for its pulse."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from memplace_agent.cluster.kinds import Kind
from memplace_lab.base.loopback import ask, free_port

from tests.unit.agent_pkg.answers import Api, Request, reply, serving, stream
from tests.unit.agent_pkg.test_watch import eventually

LOOPS = {
    *(f"watch {kind}" for kind in Kind),
    "publisher",
    "heartbeat",
    "worker",
    "mover",
    "births",
    "nri",
}

# Threads whose loss is no loss of the agent: they make calls that may be given up, or answer.
OTHERS = re.compile(r"MainThread|pool-\d+|births-\d+|http.*|names")

RUN = """
import pathlib, sys, threading, time
from memplace_agent import __main__, app
from memplace_agent.cluster import following, lease
from memplace_agent.cluster.publish import Publisher
from memplace_agent.engine.birth import Births
from memplace_agent.engine.mover import Mover
from memplace_agent.engine.pool import Pool
from memplace_agent.engine.worker import Worker
from memplace_agent.nri import plugin
from memplace_kube import watch
from memplace_kube.client import Server

place, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
app.in_cluster = lambda env: Server(host="127.0.0.1", port=port, namespace="memplace")
app._HANGS_AFTER_S = app.WAITS_S = following.WAITS_S = 8.0
watch.SPREAD_S, watch._TOO_SHORT_S, lease.HEARTBEAT_S = 0.05, 0.0, 1.0
plugin._PAUSES_S = (0.2,)

def hold(class_, method, name):
    real = getattr(class_, method)
    def held(self, *args):
        loop = name if isinstance(name, str) else name(self)
        while (place / "hang").read_text() in (loop, "all"):
            time.sleep(0.05)
        return real(self, *args)
    setattr(class_, method, held)

hold(watch.Watcher, "_watch", lambda self: f"watch {self.kind}")
hold(watch.Watcher, "rest", "watch Namespace")
hold(following.Following, "_look", "watch MemoryPlacement")
hold(Publisher, "_write_if_due", "publisher")
hold(lease.Heartbeat, "_round", "heartbeat")
hold(Worker, "step", "worker")
hold(Mover, "step", "mover")
hold(Births, "step", "births")
hold(plugin.NriPlugin, "_connect", "nri")

Pool.problem = property(lambda _: (place / "pool").read_text())

def names():
    while True:
        found = "\\n".join(each.name for each in threading.enumerate())
        (place / ".threads").write_text(found)
        (place / ".threads").rename(place / "threads")
        time.sleep(0.2)

threading.Thread(target=names, name="names", daemon=True).start()
sys.exit(__main__.main(["run"]))
"""


def empty(request: Request, file: Any) -> None:
    """Answer as an API server that has nothing."""
    if "watch" in request.query:
        time.sleep(0.3)
        stream(file)
    elif request.method == "GET":
        reply(file, {"metadata": {"resourceVersion": "7"}, "items": []})
    else:
        reply(file, {}, "201 Created")


class Agent:
    """The process, and what its port says."""

    def __init__(self, place: Path, api: Api) -> None:
        self.place = place
        self.tell("none")
        (place / "pool").write_text("")
        for name in ("cgroup", "run", "seccomp"):
            (place / name).mkdir()
        self.port = free_port()
        env = os.environ | {
            "NODE_NAME": "n1",
            "MEMPLACE_HTTP_PORT": str(self.port),
            "MEMPLACE_CGROUP_ROOT": str(place / "cgroup"),
            "MEMPLACE_JOURNAL_DIR": str(place / "run"),
            "MEMPLACE_SECCOMP_DIR": str(place / "seccomp"),
            "MEMPLACE_NRI_SOCKET": str(place / "nri.sock"),
        }
        command = [sys.executable, "-c", RUN, str(place), str(api.server.port)]
        self.process = subprocess.Popen(command, env=env)

    def tell(self, loop: str) -> None:
        (self.place / ".hang").write_text(loop)
        (self.place / ".hang").rename(self.place / "hang")

    def get(self, path: str) -> tuple[int, str]:
        return ask(self.port, path)

    @property
    def named(self) -> set[str]:
        """The loops that /healthz says do not go on."""
        status, text = self.get("/healthz")
        return {line.partition(":")[0] for line in text.splitlines()} if status == 503 else set()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with serving(empty) as api:
        found = Agent(tmp_path, api)
        try:
            yield found
        finally:
            found.process.kill()
            found.process.wait(10)


def test_each_loop_that_hangs_is_named_and_there_is_no_other(agent: Agent) -> None:
    eventually(lambda: agent.get("/readyz") == (200, "ok\n"), 60)
    time.sleep(10)  # longer than a loop may be silent
    assert agent.get("/healthz") == (200, "ok\n")
    running = set((agent.place / "threads").read_text().splitlines())
    assert {name for name in running if not OTHERS.fullmatch(name)} == LOOPS
    (agent.place / "pool").write_text("no thread can be started")
    assert agent.get("/readyz") == (503, "no thread can be started\n")
    agent.tell("worker")
    eventually(lambda: agent.named == {"worker"}, 30)
    agent.tell("none")
    eventually(lambda: agent.get("/healthz") == (200, "ok\n"), 30)
    agent.tell("all")
    deadline = time.monotonic() + 30
    while agent.named != LOOPS and time.monotonic() < deadline:
        time.sleep(0.1)
    assert agent.named == LOOPS
