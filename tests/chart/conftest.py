# SPDX-License-Identifier: Apache-2.0
"""The real helm, and a real API server with RBAC and all admission, once per run."""

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "memplace"
NAMESPACE = "memplace-system"
KUBE_VERSION = "1.35.0"
TOKEN = "chart-tests"
# Cold, on two busy cores; 5 s when nothing else runs.
START_TIMEOUT_S = 120
NEEDED = ("helm", "etcd", "kube-apiserver", "kubectl")

Json = dict[str, Any]
Ran = subprocess.CompletedProcess[str]


def find_binaries() -> Path:
    """Return the directory of the binaries the tests run, or say what is missing."""
    where = os.environ.get("MEMPLACE_BIN", "")
    missing = [name for name in NEEDED if not where or not (Path(where) / name).exists()]
    if missing:
        raise RuntimeError(
            f"the chart tests need {', '.join(missing)} in the directory that MEMPLACE_BIN names "
            f"(it is {where!r}); `make test` builds them and sets it"
        )
    return Path(where)


@dataclass(frozen=True)
class Chart:
    """The chart and the helm that reads it."""

    helm: Path
    folder: Path

    def run(self, *arguments: str | Path) -> Ran:
        command = [str(part) for part in (self.helm, *arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def template(self, *settings: str, **options: str) -> Ran:
        """Run `helm template` with `--set-json` settings."""
        sets = [part for setting in settings for part in ("--set-json", setting)]
        where = ["--namespace", NAMESPACE, "--kube-version", options.get("kube", KUBE_VERSION)]
        return self.run("template", options.get("name", "memplace"), self.folder, *where, *sets)

    def render(self, *settings: str, **options: str) -> list[Json]:
        """Return the rendered objects, hooks too, after checking that rendering worked."""
        done = self.template(*settings, **options)
        assert done.returncode == 0, done.stderr
        return [found for found in yaml.safe_load_all(done.stdout) if found]


@pytest.fixture(scope="session")
def chart() -> Chart:
    return Chart(find_binaries() / "helm", CHART)


@pytest.fixture(scope="session")
def objects(chart: Chart) -> list[Json]:
    """Return everything the chart makes of its default values."""
    return chart.render()


@pytest.fixture(scope="session")
def one(objects: list[Json]) -> Callable[[str, str], Json]:
    """Return the object of a kind and name among those of the default values."""

    def find(kind: str, name: str) -> Json:
        wanted = (kind, f"memplace-{name}")
        (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == wanted]
        return found

    return find


@dataclass(frozen=True)
class Cluster:
    """A running API server, without nodes or controllers, and its admin's kubeconfig."""

    binaries: Path
    kubeconfig: Path
    url: str

    def kubectl(self, *arguments: str, stdin: str = "") -> Ran:
        return self._run(["kubectl", f"--kubeconfig={self.kubeconfig}", *arguments], stdin)

    def kubectl_as(self, token: str, *arguments: str, stdin: str = "") -> Ran:
        """Run kubectl with a bearer token and nothing of the admin's."""
        who = [f"--server={self.url}", "--insecure-skip-tls-verify", f"--token={token}"]
        return self._run(["kubectl", "--kubeconfig=/dev/null", *who, *arguments], stdin)

    def patch_as(self, token: str, path: str, body: Json) -> tuple[int, str]:
        """Merge-patch with a bearer token; kubectl would need to read first."""
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/merge-patch+json",
        }
        content = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, headers, method="PATCH")
        # The port is ours, and so is its self-signed certificate.
        context = ssl._create_unverified_context()
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as response:
                return response.status, ""
        except urllib.error.HTTPError as err:
            return err.code, str(json.loads(err.read())["message"])

    def helm(self, *arguments: str | Path) -> Ran:
        return self._run(["helm", f"--kubeconfig={self.kubeconfig}", *map(str, arguments)], "")

    def apply(self, *found: Json, dry_run: bool = False) -> Ran:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": found})
        how = ["--dry-run=server"] if dry_run else []
        return self.kubectl("create", *how, "--filename=-", stdin=text)

    def _run(self, command: list[str], stdin: str) -> Ran:
        command[0] = str(self.binaries / command[0])
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=180)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    binaries, work = find_binaries(), tmp_path_factory.mktemp("cluster")
    client, peer, secure = _free_ports(3)
    key = work / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    (work / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
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
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
    ]
    started = Cluster(binaries, work / "kubeconfig", f"https://127.0.0.1:{secure}")
    _write_kubeconfig(started)
    with _process(etcd, work / "etcd.log"), _process(apiserver, work / "api.log") as process:
        _wait_ready(started, process, work / "api.log")
        yield started


def _write_kubeconfig(cluster: Cluster) -> None:
    server = {"server": cluster.url, "insecure-skip-tls-verify": True}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "admin",
        "clusters": [{"name": "local", "cluster": server}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "admin", "context": {"cluster": "local", "user": "admin"}}],
    }
    cluster.kubeconfig.write_text(json.dumps(config))


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


def _wait_ready(cluster: Cluster, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        # The hooks after the start, which make the default roles, count too.
        if cluster.kubectl("get", "--raw", "/readyz").returncode == 0:
            return
        time.sleep(0.3)
    raise RuntimeError(f"kube-apiserver did not come up:\n{log.read_text()[-4000:]}")
