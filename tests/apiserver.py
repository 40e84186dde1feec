# SPDX-License-Identifier: Apache-2.0
"""A real API server (etcd, kube-apiserver) on loopback that can be stopped and started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ADMIN = "admin-token"
# Cold, on two busy cores; 5 s when nothing else runs.
START_TIMEOUT_S = 120
NEEDED = ("etcd", "kube-apiserver", "kubectl")


@dataclass(frozen=True)
class Answer:
    """What the API server said: the HTTP status and the body, and its message if refused."""

    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def message(self) -> str:
        return "" if self.ok else str(self.body.get("message", ""))


class ApiServer:
    """An API server with RBAC; `users` maps a token to a user's name.

    The token ADMIN is an administrator's; all other users may do nothing until they are
    bound to a role.
    """

    def __init__(self, binaries: Path, work: Path, users: dict[str, str]) -> None:
        self.binaries = binaries
        self.ca = work / "certs" / "apiserver.crt"
        self._work = work
        self._client, self._peer, self._secure = _free_ports(3)
        self.url = f"https://127.0.0.1:{self._secure}"
        self._log = work / "apiserver.log"
        self._process: subprocess.Popen[bytes] | None = None
        key = ["openssl", "genrsa", "-out", str(work / "service-accounts.key"), "2048"]
        subprocess.run(key, check=True, capture_output=True)
        lines = [f"{ADMIN},admin,admin,system:masters", *(f"{t},{u},{u}" for t, u in users.items())]
        (work / "tokens.csv").write_text("\n".join(lines) + "\n")

    def call(self, method: str, path: str, body: Any = None, **query: str) -> Answer:
        """Make one request as administrator; a refusal is an answer, not an error."""
        arguments = "&".join(f"{k}={v}" for k, v in query.items())
        patch = "merge-patch+" if method == "PATCH" else ""
        request = urllib.request.Request(
            f"{self.url}{path}?{arguments}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {ADMIN}",
                "Content-Type": f"application/{patch}json",
            },
        )
        context = ssl.create_default_context(cafile=str(self.ca))
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as response:
                return Answer(response.status, json.loads(response.read()))
        except urllib.error.HTTPError as err:
            return Answer(err.code, json.loads(err.read()))

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator."""
        command = [
            str(self.binaries / "kubectl"),
            f"--server={self.url}",
            f"--certificate-authority={self.ca}",
            f"--token={ADMIN}",
            *arguments,
        ]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)

    def kubeconfig(self, token: str) -> Path:
        """Write a kubeconfig of the user with that token."""
        path = self._work / f"{token}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def start(self) -> None:
        """Start kube-apiserver and wait until it answers."""
        keys = self._work / "service-accounts.key"
        command = [
            str(self.binaries / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self._client}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._secure}",
            f"--cert-dir={self._work / 'certs'}",
            f"--token-auth-file={self._work / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys}",
            f"--service-account-signing-key-file={keys}",
        ]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        self._wait_ready()

    def stop(self) -> None:
        """Kill kube-apiserver; etcd and its data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @contextlib.contextmanager
    def running(self) -> Iterator[ApiServer]:
        """Run etcd and kube-apiserver while the block runs."""
        command = [
            str(self.binaries / "etcd"),
            f"--data-dir={self._work / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{self._client}",
            f"--advertise-client-urls=http://127.0.0.1:{self._client}",
            f"--listen-peer-urls=http://127.0.0.1:{self._peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{self._peer}",
            f"--initial-cluster=default=http://127.0.0.1:{self._peer}",
            "--unsafe-no-fsync",
        ]
        with (self._work / "etcd.log").open("wb") as output:
            etcd = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            self.start()
            yield self
        finally:
            self.stop()
            etcd.send_signal(signal.SIGKILL)
            etcd.wait()

    def install_crds(self) -> None:
        """Apply the CRDs of the tree and wait until they are served."""
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            crd = yaml.safe_load(path.read_text())
            answer = self.call("POST", CRDS, crd, fieldValidation="Strict")
            assert answer.ok, answer.message
        done = self.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
        assert done.returncode == 0, done.stderr

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        assert self._process is not None
        while time.monotonic() < deadline and self._process.poll() is None:
            # Its certificate and its port appear some time after the start.
            with contextlib.suppress(OSError):
                if self._is_ready():
                    return
            time.sleep(0.1)
        raise RuntimeError(f"kube-apiserver did not come up:\n{self._log.read_text()[-4000:]}")

    def _is_ready(self) -> bool:
        # Not JSON, so not call(); before it, CRDs and RBAC may not be there yet.
        context = ssl.create_default_context(cafile=str(self.ca))
        with urllib.request.urlopen(f"{self.url}/readyz", context=context, timeout=5) as response:
            return bool(response.status == 200)


def find_binaries() -> Path:
    """Return the directory of the control plane's binaries.

    Raises:
        RuntimeError: There is none; the message says what to do.
    """
    where = os.environ.get("MEMPLACE_BIN", "")
    missing = [name for name in NEEDED if not where or not (Path(where) / name).exists()]
    if missing:
        raise RuntimeError(
            f"these tests need {', '.join(missing)} in the directory that MEMPLACE_BIN names "
            f"(it is {where!r}); `make test` builds them and sets it"
        )
    return Path(where)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
