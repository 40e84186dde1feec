# SPDX-License-Identifier: Apache-2.0
"""A real API server (etcd, kube-apiserver) on loopback with our CRDs, once per run."""

from __future__ import annotations

import contextlib
import json
import os
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

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TOKEN = "crd-tests"
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


@dataclass(frozen=True)
class ApiServer:
    """A running API server."""

    url: str
    ca: Path
    binaries: Path

    def call(self, method: str, path: str, body: Any = None, **query: str) -> Answer:
        """Make one request; a refusal is an answer, not an error."""
        arguments = "&".join(f"{k}={v}" for k, v in query.items())
        patch = method == "PATCH"
        request = urllib.request.Request(
            f"{self.url}{path}?{arguments}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {TOKEN}",
                "Content-Type": f"application/{'merge-patch+' if patch else ''}json",
            },
        )
        context = ssl.create_default_context(cafile=str(self.ca))
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as response:
                return Answer(response.status, json.loads(response.read()))
        except urllib.error.HTTPError as err:
            return Answer(err.code, json.loads(err.read()))

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl against it."""
        command = [
            str(self.binaries / "kubectl"),
            f"--server={self.url}",
            f"--certificate-authority={self.ca}",
            f"--token={TOKEN}",
            *arguments,
        ]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)


def find_binaries() -> Path:
    """Return the directory of the control plane's binaries.

    Raises:
        RuntimeError: There is none; the message says what to do.
    """
    where = os.environ.get("MEMPLACE_BIN", "")
    missing = [name for name in NEEDED if not where or not (Path(where) / name).exists()]
    if missing:
        raise RuntimeError(
            f"the CRD tests need {', '.join(missing)} in the directory that MEMPLACE_BIN names "
            f"(it is {where!r}); `make test` builds them and sets it"
        )
    return Path(where)


@contextlib.contextmanager
def running(binaries: Path, work: Path) -> Iterator[ApiServer]:
    """Start etcd and kube-apiserver with data below `work`; stop both at the end."""
    client, peer, secure = _free_ports(3)
    key = work / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    (work / "tokens.csv").write_text(f"{TOKEN},tester,tester\n")
    etcd = [
        str(binaries / "etcd"),
        f"--data-dir={work / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",
    ]
    apiserver = [
        str(binaries / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{client}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={secure}",
        f"--cert-dir={work / 'certs'}",
        f"--token-auth-file={work / 'tokens.csv'}",
        "--authorization-mode=AlwaysAllow",
        "--disable-admission-plugins=ServiceAccount",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
    ]
    server = ApiServer(f"https://127.0.0.1:{secure}", work / "certs" / "apiserver.crt", binaries)
    with _process(etcd, work / "etcd.log"), _process(apiserver, work / "apiserver.log") as process:
        _wait_ready(server, process, work / "apiserver.log")
        yield server


@contextlib.contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_ready(server: ApiServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        # Its certificate and its port appear some time after the start.
        with contextlib.suppress(OSError):
            if server.call("GET", "/api/v1/namespaces/default").ok:
                return
        time.sleep(0.1)
    raise RuntimeError(f"kube-apiserver did not come up:\n{log.read_text()[-4000:]}")


@pytest.fixture(scope="session")
def crds() -> dict[str, dict[str, Any]]:
    """Return the CRDs by kind."""
    loaded = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    return {crd["spec"]["names"]["kind"]: crd for crd in loaded}


@pytest.fixture(scope="session")
def api(
    crds: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    """Yield an API server that serves the CRDs."""
    with running(find_binaries(), tmp_path_factory.mktemp("apiserver")) as server:
        for crd in crds.values():
            answer = server.call("POST", CRDS, crd, fieldValidation="Strict")
            assert answer.ok, answer.message
        for crd in crds.values():
            _wait_established(server, crd["metadata"]["name"])
        yield server


def _wait_established(server: ApiServer, name: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status = server.call("GET", f"{CRDS}/{name}").body.get("status", {})
        conditions = {c["type"]: c for c in status.get("conditions", [])}
        if conditions.get("NonStructuralSchema", {}).get("status") == "True":
            break
        plural = name.partition(".")[0]
        served = server.call("GET", f"/apis/memplace.dev/v1alpha1/{plural}").ok
        if conditions.get("Established", {}).get("status") == "True" and served:
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} is not established: {conditions}")
