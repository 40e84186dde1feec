# SPDX-License-Identifier: Apache-2.0
"""The whole agent as a process, on a machine without the call, which is as good for this as any."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from memplace_lab.base.loopback import ask, free_port
from memplace_lab.product.apiserver import ADMIN, ApiServer

_RUN = """
import pathlib, sys
from dataclasses import replace
from memplace_agent import __main__, app
from memplace_kube import watch
from memplace_kube.client import in_cluster
account, how, spread = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
# A proxy on loopback speaks no TLS.
changes = {"context": None} if how == "plain" else {}
app.in_cluster = lambda env: replace(in_cluster(env, account), **changes)
watch.SPREAD_S = spread
sys.exit(__main__.main(["run"]))
"""
_FOLDERS = ("cgroup", "run", "seccomp")


class WholeAgent:
    """An agent that runs.

    Attributes:
        process: It.
        port: Where it says how it is.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port = process, port
        self._log = log

    def get(self, path: str) -> tuple[int, str]:
        """Return the status and the text of an answer; 0 for none."""
        return ask(self.port, path)

    @property
    def is_ready(self) -> bool:
        """Whether it knows what the cluster wants."""
        return self.get("/readyz") == (200, "ok\n")

    @property
    def fds(self) -> list[str]:
        """What it has open."""
        found = []
        for each in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(str(each.readlink()))
        return sorted(found)

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text()


@contextlib.contextmanager
def whole_agent(
    api: ApiServer,
    node: str,
    place: Path,
    *,
    at: int = 0,
    plain: bool = False,
    spread_s: float = 30.0,
    env: Mapping[str, str] | None = None,
) -> Iterator[WholeAgent]:
    """Run an agent while the block runs.

    Args:
        api: The API server.
        node: The node's name.
        place: An empty directory.
        at: The port at which it finds the API server; 0 for its own.
        plain: Whether nobody speaks TLS there.
        spread_s: The longest pause after failures.
        env: More of its environment.
    """
    port = free_port()
    account = _account(api, place)
    server = str(at or api.url.rpartition(":")[2])
    whole = os.environ | {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": server,
        "NODE_NAME": node,
        "MEMPLACE_HTTP_PORT": str(port),
        "MEMPLACE_CGROUP_ROOT": str(place / "cgroup"),
        "MEMPLACE_JOURNAL_DIR": str(place / "run"),
        "MEMPLACE_SECCOMP_DIR": str(place / "seccomp"),
    }
    how = "plain" if plain else "tls"
    command = [sys.executable, "-c", _RUN, str(account), how, str(spread_s)]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, env=whole | dict(env or {}), stderr=log)
    found = WholeAgent(process, port, place / "log")
    try:
        yield found
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in found.log, found.log


def _account(api: ApiServer, place: Path) -> Path:
    account = place / "account"
    account.mkdir(parents=True)
    (account / "token").write_text(ADMIN)
    (account / "namespace").write_text("default")
    (account / "ca.crt").write_bytes(api.ca.read_bytes())
    for name in _FOLDERS:
        (place / name).mkdir()
    return account
