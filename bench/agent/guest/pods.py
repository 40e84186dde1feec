# SPDX-License-Identifier: Apache-2.0
"""Pods as a kubelet and containerd lay them out: a cgroup each, and an object for the API."""

from __future__ import annotations

import hashlib
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NODE = "guest"
NAMESPACE = "bench"
ROOT = Path("/sys/fs/cgroup")
KUBEPODS = ROOT / "kubepods.slice"
BURSTABLE = KUBEPODS / "kubepods-burstable.slice"
CONTROLLERS = "+cpuset +cpu +memory"


def prepare_tree() -> None:
    """Make the slices above the pods'."""
    for above, directory in ((ROOT, KUBEPODS), (KUBEPODS, BURSTABLE)):
        (above / "cgroup.subtree_control").write_text(CONTROLLERS)
        directory.mkdir()
    (BURSTABLE / "cgroup.subtree_control").write_text(CONTROLLERS)


@dataclass(frozen=True)
class Pod:
    """A pod with one container, of one process in most parts.

    Attributes:
        object: As the API server has it.
        cgroup: Of its container.
        process: Its first process; it said "ready".
    """

    object: dict[str, Any]
    cgroup: Path
    process: subprocess.Popen[str]

    def ask(self, line: str = "") -> list[int]:
        """Send the process a line; returns the numbers of its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.object['metadata']['name']} ended: {self.process.wait()}")
        return [int(word) for word in answer.split()]

    def end(self) -> None:
        """Kill all of it and take its cgroups away."""
        (self.cgroup / "cgroup.kill").write_text("1")
        self.process.wait()
        while "populated 1" in (self.cgroup / "cgroup.events").read_text():
            time.sleep(0.01)
        self.cgroup.rmdir()
        self.cgroup.parent.rmdir()


def start(name: str, app: str, *command: str) -> Pod:
    """Start a pod's process; it is in its cgroup before it maps anything."""
    uid = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    container = hashlib.sha256(name.encode()).hexdigest()
    pod = BURSTABLE / f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
    cgroup = pod / f"cri-containerd-{container}.scope"
    pod.mkdir()
    (pod / "cgroup.subtree_control").write_text(CONTROLLERS)
    cgroup.mkdir()
    into = f'echo $$ > "{cgroup}/cgroup.procs" && exec "$0" "$@"'
    process = subprocess.Popen(
        ["/bin/sh", "-c", into, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise RuntimeError(f"{command} did not start: {process.wait()}")
    return Pod(_object(name, app, uid, container), cgroup, process)


def _object(name: str, app: str, uid: str, container: str) -> dict[str, Any]:
    running = {
        "name": "main",
        "containerID": f"containerd://{container}",
        "ready": True,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, "labels": {"app": app}},
        "spec": {"nodeName": NODE, "containers": [{"name": "main"}]},
        "status": {
            "phase": "Running",
            "startTime": "2026-01-01T00:00:00Z",
            "containerStatuses": [running],
        },
    }
