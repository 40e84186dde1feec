# SPDX-License-Identifier: Apache-2.0
"""An API server with the controllers that an uninstall needs; kubelet and agent are played.

The kubelet runs what the Job's pod would, with its account's token.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import yaml
from memplace_lab.product.apiserver import ApiServer

from tests.support.release.installing import NAMESPACE, Json, create, everything, namespace
from tests.support.release.surviving import BASE, WHERE

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
NODE = "n1"


@contextlib.contextmanager
def with_controllers(work: Path) -> Iterator[ApiServer]:
    """Run an API server with the controllers that an uninstall needs, and a node."""
    with ApiServer(work, "--allow-privileged=true").running() as server:
        command = [
            str(server.binaries / "kube-controller-manager"),
            f"--kubeconfig={server.kubeconfig('admin')}",
            "--controllers=job-controller,daemonset-controller,garbage-collector-controller",
            "--leader-elect=false",
            "--secure-port=0",
        ]
        with (work / "controllers.log").open("wb") as log:
            controllers = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
            made = create(server, namespace(NAMESPACE, "privileged"), node)
            assert made.returncode == 0, made.stderr
            labels = {"metadata": {"labels": {"kubernetes.io/os": "linux"}}}
            assert server.call("PATCH", f"/api/v1/nodes/{NODE}", labels).ok
            yield server
        finally:
            controllers.kill()
            controllers.wait()


class Kubelet:
    """Runs the Job's pods, has the agent's pod run, and lets go what is deleted."""

    def __init__(self, cluster: ApiServer, work: Path) -> None:
        self._cluster = cluster
        self._work = work
        self._run: set[str] = set()
        self.said = ""

    def act(self) -> None:
        for pod in self._cluster.call("GET", PODS).body["items"]:
            meta, path = pod["metadata"], f"{PODS}/{pod['metadata']['name']}"
            if meta.get("deletionTimestamp"):
                self._cluster.call("DELETE", path, gracePeriodSeconds="0")
            elif "batch.kubernetes.io/job-name" in meta["labels"] and meta["uid"] not in self._run:
                code = self._container(pod)
                if code and pod["spec"]["restartPolicy"] == "OnFailure":
                    continue
                self._run.add(meta["uid"])
                phase = "Failed" if code else "Succeeded"
                self._cluster.call("PATCH", f"{path}/status", {"status": {"phase": phase}})

    def _container(self, pod: Json) -> int:
        name = pod["spec"]["serviceAccountName"]
        token = self._cluster.kubectl("create", "token", name, *WHERE).stdout.strip()
        config = yaml.safe_load(self._cluster.kubeconfig("admin").read_text())
        config["users"][0]["user"] = {"token": token}
        config["contexts"][0]["context"]["namespace"] = NAMESPACE
        (self._work / "config").write_text(yaml.safe_dump(config))
        env = os.environ | {"KUBECONFIG": str(self._work / "config")}
        args = pod["spec"]["containers"][0]["args"]
        command = [sys.executable, "-m", "memplace_operator", *args]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        self.said = done.stdout + done.stderr
        return done.returncode


class Agent:
    """Makes its NodeMemory while its pod is there, and retires if it can."""

    def __init__(self, cluster: ApiServer, *, retires: bool = True) -> None:
        self._cluster = cluster
        self.retires = retires

    def act(self) -> None:
        if not self.installation():
            return
        path = f"{BASE}/nodememories/{NODE}"
        if not self._cluster.call("GET", path).ok:
            body = {"apiVersion": "memplace.dev/v1alpha1", "kind": "NodeMemory"}
            self._cluster.call("POST", f"{BASE}/nodememories", body | {"metadata": {"name": NODE}})
        done = self.retires and self.mode() == "Retired"
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        condition = {
            "type": "Retired",
            "status": "True" if done else "False",
            "reason": "Retired" if done else "Undoing",
            "message": "",
            "lastTransitionTime": now,
        }
        status = {"conditions": [condition], "heartbeatTime": now}
        self._cluster.call("PATCH", f"{path}/status", {"status": status})

    def mode(self) -> str:
        """Return what the NodeMemory says to agents of this installation."""
        spec = self._cluster.call("GET", f"{BASE}/nodememories/{NODE}").body.get("spec", {})
        meant = spec.get("installation", "") in ("", self.installation())
        return str(spec.get("agent", "")) if meant else "Active"

    def installation(self) -> str:
        """Return the uid of the DaemonSet that its pod is of; empty without a pod."""
        pods = self._cluster.call("GET", PODS).body["items"]
        owners = [o for pod in pods for o in pod["metadata"].get("ownerReferences", ())]
        return next((str(o["uid"]) for o in owners if o["kind"] == "DaemonSet"), "")


@contextlib.contextmanager
def acting(*acts: Callable[[], None]) -> Iterator[None]:
    stop = threading.Event()

    def run(act: Callable[[], None]) -> None:
        while not stop.wait(0.3):
            act()

    threads = [threading.Thread(target=run, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def until(holds: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def left(cluster: ApiServer, before: set[tuple[str, str]]) -> set[tuple[str, str]]:
    made_by_controllers = {"APIService", "ControllerRevision", "Pod", "PodTemplate"}
    return {(k, n) for k, n in everything(cluster) - before if k not in made_by_controllers}
