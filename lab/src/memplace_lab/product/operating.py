# SPDX-License-Identifier: Apache-2.0
"""The operator as a process at an API server, with exactly the rights that the chart gives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from memplace_lab.base.loopback import ask, free_port
from memplace_lab.product.apiserver import ApiServer

API = "/apis/memplace.dev/v1alpha1"
DEFAULTS = f"{API}/clustermemoryplacements"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


class Operator:
    """The operator as a process of its own; it says what it does in the file `log`.

    Attributes:
        program: What Python is to run.
    """

    program: tuple[str, ...] = ("-m", "memplace_operator")

    def __init__(self, api: ApiServer, log: Path, **env: str) -> None:
        self.port = free_port()
        self._log = log
        self._env = os.environ | {
            "KUBECONFIG": str(api.kubeconfig("operator")),
            "MEMPLACE_HTTP_PORT": str(self.port),
            "PYTHONSAFEPATH": "1",
            **env,
        }
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start it; it is ready some time later."""
        with self._log.open("ab") as output:
            command = [sys.executable, *self.program]
            self.process = subprocess.Popen(command, env=self._env, stderr=output)

    def stop(self) -> int:
        """Ask it to end, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def get(self, path: str) -> tuple[int, str]:
        """Return what its HTTP port says: (status, body); status 0 if nobody is there."""
        return ask(self.port, path)

    def is_ready(self) -> bool:
        """Return whether it says so."""
        return self.get("/readyz")[0] == 200

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of its log."""
        return [json.loads(line) for line in self.raw_log().splitlines()]

    def raw_log(self) -> str:
        """Return its log as it is."""
        return self._log.read_text()
