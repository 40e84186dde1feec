# SPDX-License-Identifier: Apache-2.0
"""What is measured: the agent, and memtierd; each in a cgroup of its own, which counts its CPU."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplace_lab.bench import apiserver

from bench.agent.guest import pods

# /var/run of Debian is a link to it.
_ACCOUNT = Path("/run/secrets/kubernetes.io/serviceaccount")
_REPORTS_WITHIN_S = 1200


class Running:
    """A program that was started, and what it takes."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._cgroup = pods.ROOT / f"subject-{name}"
        self._cgroup.mkdir(exist_ok=True)
        self.log = Path(f"/run/{name}.log")
        into = f'echo $$ > "{self._cgroup}/cgroup.procs" && exec "$0" "$@"'
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", into, *command],
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def cpu_s(self) -> float:
        """Return seconds of CPU time since it was started first, to the microsecond.

        Raises:
            RuntimeError: It has ended.
        """
        if self._process.poll() is not None:
            raise RuntimeError(f"it ended: {self.log_end()}")
        text = (self._cgroup / "cpu.stat").read_text()
        return int(text.split()[1]) / 1e6

    def log_end(self) -> str:
        """Return the last that it wrote."""
        return self.log.read_text(errors="replace")[-3000:]

    def rss_mib(self) -> dict[str, float]:
        """Return resident memory now, and the most it was, in MiB."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", text, re.MULTILINE))
        return {name: int(value) / 1024 for name, value in found.items()}

    def stop(self) -> None:
        """End it as a node would."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class Agent:
    """The node agent, as the chart starts it, with its API server."""

    store: apiserver.Store
    port: int
    name: str = "agent"

    def start(self) -> Running:
        """Start one with nothing on /run of an earlier one; returns when it has reported.

        Until then its files are read, which takes an emulated machine as long as it likes.

        Raises:
            RuntimeError: It did not, or it ended.
        """
        for old in Path("/run/memplace").glob("*"):
            old.unlink()
        self.store.discard(apiserver.REPORTS, pods.NODE)
        env = {
            **os.environ,
            "NODE_NAME": pods.NODE,
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.port),
            "MEMPLACE_CGROUP_ROOT": str(pods.ROOT),
            "MEMPLACE_HTTP_PORT": "0",
        }
        running = Running(self.name, (sys.executable, "-m", "memplace_agent"), env)
        end = time.monotonic() + _REPORTS_WITHIN_S
        while not (self.store.get(apiserver.REPORTS, pods.NODE) or {}).get("status"):
            running.cpu_s()
            if time.monotonic() > end:
                running.stop()
                raise RuntimeError(f"no report: {running.log_end()}")
            time.sleep(0.5)
        return running


@dataclass(frozen=True)
class Memtierd:
    """memtierd with a configuration of its own."""

    program: str
    config: str
    name: str = "memtierd"

    def start(self) -> Running:
        """Start it."""
        return Running(self.name, (self.program, "-config", self.config), os.environ)


def log_in(certificate: Path) -> None:
    """Give the agent a ServiceAccount, as a kubelet does."""
    _ACCOUNT.mkdir(parents=True)
    (_ACCOUNT / "token").write_text("bench")
    (_ACCOUNT / "namespace").write_text("memplace-system")
    (_ACCOUNT / "ca.crt").write_bytes(certificate.read_bytes())


def tier() -> dict[str, Any]:
    """Return node 1 as the tier cxl."""
    return {"metadata": {"name": "cxl"}, "spec": {"numaNodes": [1]}}


def placement(name: str, app: str, regions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a placement of regions of an app's pods on the tier."""
    rule = {
        "name": "data",
        "regions": list(regions),
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    return {
        "metadata": {"name": name, "namespace": pods.NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app": app}}, "rules": [rule]},
    }
