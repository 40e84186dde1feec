# SPDX-License-Identifier: Apache-2.0
"""A real API server (etcd, kube-apiserver) on loopback, with kubectl and helm to talk to it."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplace_lab.base import store
from memplace_lab.base.loopback import free_ports

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ADMIN = "admin-token"
# Cold, on two busy cores; 5 s when nothing else runs.
START_TIMEOUT_S = 120
SERVE_TIMEOUT_S = 30
NEEDED = ("etcd", "helm", "kube-apiserver", "kubectl")

Ran = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Answer:
    """What the API server said: the HTTP status and the body, and its message if refused."""

    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the request did what it was to do."""
        return self.status < 300

    @property
    def message(self) -> str:
        """Why it was refused, in the API server's words; empty if it was not."""
        return "" if self.ok else str(self.body.get("message", ""))


class ApiServer:
    """An API server without nodes or controllers; its data are below `work`.

    Whoever has the token ADMIN may do everything.  Each of `users` has a kubeconfig and may
    do nothing until bound to a role.  `options` are kube-apiserver's.
    """

    def __init__(self, work: Path, *options: str, users: tuple[str, ...] = ()) -> None:
        self.binaries = find_binaries()
        self._work = work
        self._options = options
        self._client, self._peer, self._secure = free_ports(3)
        self.url = f"https://127.0.0.1:{self._secure}"
        # Made by kube-apiserver when it first starts.
        self.ca = work / "certs" / "apiserver.crt"
        self._process: subprocess.Popen[bytes] | None = None
        key = ["openssl", "genrsa", "-out", str(work / "service-accounts.key"), "2048"]
        subprocess.run(key, check=True, capture_output=True)
        lines = [f"{ADMIN},admin,admin,system:masters", *(f"{u}-token,{u},{u}" for u in users)]
        (work / "tokens.csv").write_text("\n".join(lines) + "\n")

    def call(
        self, method: str, path: str, body: Any = None, *, token: str = ADMIN, **query: str
    ) -> Answer:
        """Make one request; a refusal is an answer, not an error."""
        arguments = "&".join(f"{k}={v}" for k, v in query.items())
        status, content = self._request(method, f"{path}?{arguments}", body, token)
        try:
            return Answer(status, json.loads(content))
        except ValueError:
            # Of a group that it does not know it says so in plain text.
            return Answer(status, {"message": content.decode().strip()})

    def kubectl(self, *arguments: str, stdin: str = "", token: str = ADMIN) -> Ran:
        """Run kubectl with nothing of its caller's own configuration."""
        return self._run(
            "kubectl",
            "--kubeconfig=/dev/null",
            f"--server={self.url}",
            f"--certificate-authority={self.ca}",
            f"--token={token}",
            *arguments,
            stdin=stdin,
        )

    def helm(self, *arguments: str | Path) -> Ran:
        """Run helm as administrator."""
        return self._run("helm", f"--kubeconfig={self.kubeconfig('admin')}", *map(str, arguments))

    def _run(self, program: str, *arguments: str, stdin: str = "") -> Ran:
        # What they remember of a server is kept by its port, which others had before.
        env = os.environ | {"KUBECACHEDIR": str(self._work / "discovery")}
        command = [str(self.binaries / program), *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=180, env=env
        )

    def kubeconfig(self, user: str) -> Path:
        """Write a user's kubeconfig."""
        path = self._work / f"{user}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": {"token": f"{user}-token"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        # JSON is YAML, too.
        path.write_text(json.dumps(config))
        return path

    @contextlib.contextmanager
    def running(self) -> Iterator[ApiServer]:
        """Run etcd and kube-apiserver while the block runs."""
        etcd = self._spawn(
            "etcd",
            f"--data-dir={self._work / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{self._client}",
            f"--advertise-client-urls=http://127.0.0.1:{self._client}",
            f"--listen-peer-urls=http://127.0.0.1:{self._peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{self._peer}",
            f"--initial-cluster=default=http://127.0.0.1:{self._peer}",
            "--unsafe-no-fsync",
        )
        try:
            self.start()
            yield self
        finally:
            self.stop()
            etcd.kill()
            etcd.wait()

    def start(self) -> None:
        """Start kube-apiserver and wait until it is ready."""
        key = self._work / "service-accounts.key"
        self._process = self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._client}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._secure}",
            f"--cert-dir={self.ca.parent}",
            f"--token-auth-file={self._work / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            *self._options,
        )
        self._wait_ready(self._process)

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline, found = time.monotonic() + START_TIMEOUT_S, "no answer"
        while time.monotonic() < deadline and process.poll() is None:
            # Its certificate and its port appear some time after the start.
            with contextlib.suppress(OSError):
                # Before it, CRDs and the default roles may not be there yet.
                status, content = self._request("GET", "/readyz")
                if status == 200:
                    return
                found = content.decode()
            time.sleep(0.1)
        log = self._log("kube-apiserver").read_text()
        raise RuntimeError(f"kube-apiserver did not come up: {found}\n{log[-4000:]}")

    def stop(self) -> None:
        """Kill kube-apiserver; etcd and its data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def install_crds(self) -> None:
        """Create the CRDs of the tree and wait until they are served."""
        done = self.kubectl("create", "--validate=strict", f"--filename={store.REPO / 'crds'}")
        assert done.returncode == 0, done.stderr
        for crd in self.call("GET", CRDS).body["items"]:
            self._wait_served(crd)

    def _wait_served(self, crd: dict[str, Any]) -> None:
        spec, version = crd["spec"], crd["spec"]["versions"][0]["name"]
        path = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
        deadline = time.monotonic() + SERVE_TIMEOUT_S
        while self._request("GET", path)[0] != 200:
            name = crd["metadata"]["name"]
            found = self.call("GET", f"{CRDS}/{name}").body.get("status")
            assert time.monotonic() < deadline, f"{name} is not served: {found}"
            time.sleep(0.05)

    def _request(
        self, method: str, path: str, body: Any = None, token: str = ADMIN
    ) -> tuple[int, bytes]:
        patch = "merge-patch+" if method == "PATCH" else ""
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": f"application/{patch}json",
            },
        )
        context = ssl.create_default_context(cafile=str(self.ca))
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as err:
            return err.code, err.read()

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(self.binaries / program), *arguments]
        with self._log(program).open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def _log(self, program: str) -> Path:
        return self._work / f"{program}.log"


def find_binaries() -> Path:
    """Return the directory of the binaries the tests run.

    Raises:
        RuntimeError: Some are missing; the message says what to do.
    """
    where = os.environ.get("MEMPLACE_BIN", "")
    missing = [name for name in NEEDED if not where or not (Path(where) / name).exists()]
    if missing:
        raise RuntimeError(
            f"these tests need {', '.join(missing)} in the directory that MEMPLACE_BIN names "
            f"(it is {where!r}); `make test` builds them and sets it"
        )
    return Path(where)
