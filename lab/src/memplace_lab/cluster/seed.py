# SPDX-License-Identifier: Apache-2.0
"""The second disk of a worker: its name, its address, its certificates."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from memplace_lab.base.steps import run
from memplace_lab.cluster.pki import Pki
from memplace_lab.machines.network import REGISTRY, pod_cidr, worker_address
from memplace_lab.machines.rootdisk import make_ext4
from memplace_lab.machines.topology import Worker

_SECRET = 0o600


def write(target: Path, worker: Worker, workers: tuple[Worker, ...], pki: Pki) -> None:
    """Make the seed disk of one of the ``workers`` (qcow2 with ext4, a few hundred KiB)."""
    _issue(worker, pki)
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        _fill(tree, worker, workers, pki)
        raw = target.with_suffix(".raw")
        make_ext4(tree, raw, "4M")
        # A snapshot needs every writable disk to be qcow2.
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, target)
        raw.unlink()


def _issue(worker: Worker, pki: Pki) -> None:
    names = [f"IP:{worker_address(worker.number)}", f"DNS:{worker.name}"]
    pki.issue(worker.name, f"system:node:{worker.name}", group="system:nodes", names=names)
    if not pki.path("ssh").exists():
        for key in ("ssh", "ssh-host"):
            run(
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "memplace-lab",
                "-f",
                pki.path(key),
            )


def _fill(tree: Path, worker: Worker, workers: tuple[Worker, ...], pki: Pki) -> None:
    others = [w for w in workers if w != worker]
    routes = " ".join(f"{pod_cidr(w.number)}@{worker_address(w.number)}" for w in others)
    address = worker_address(worker.number)
    (tree / "network").write_text(f'NAME={worker.name}\nADDRESS={address}\nROUTES="{routes}"\n')
    files = tree / "files"
    _write(
        files / "etc/kubernetes/kubelet.env",
        f"KUBELET_ARGS=--node-ip={address} --hostname-override={worker.name}\n"
        f"PROXY_ARGS=--hostname-override={worker.name}\n",
    )
    certificates = files / "etc/kubernetes/pki"
    certificates.mkdir(parents=True)
    for source, name in (
        ("ca.crt", "ca.crt"),
        (f"{worker.name}.crt", "kubelet.crt"),
        (f"{worker.name}.key", "kubelet.key"),
    ):
        shutil.copy(pki.path(source), certificates / name)
    for name, place in ((worker.name, "kubelet.kubeconfig"), ("proxy", "proxy.kubeconfig")):
        _write(
            files / "etc/kubernetes" / place, pki.kubeconfig(name, inline=True).read_text(), _SECRET
        )
    _write(files / "etc/cni/net.d/10-lab.conflist", json.dumps(_cni(worker)))
    _write(files / f"etc/containerd/certs.d/{REGISTRY}/hosts.toml", _hosts_toml())
    _write(files / "etc/ssh/ssh_host_ed25519_key", pki.path("ssh-host").read_text(), _SECRET)
    _write(files / "root/.ssh/authorized_keys", pki.path("ssh.pub").read_text(), _SECRET)


def _cni(worker: Worker) -> dict[str, object]:
    ranges = {
        "type": "host-local",
        "ranges": [[{"subnet": pod_cidr(worker.number)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "ipam": ranges,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "lab", "plugins": [bridge, ports]}


def _hosts_toml() -> str:
    # `server =` alone is not enough for a registry that speaks plain HTTP.
    return f'[host."http://{REGISTRY}"]\n  capabilities = ["pull", "resolve"]\n'


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
