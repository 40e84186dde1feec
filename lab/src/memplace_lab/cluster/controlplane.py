# SPDX-License-Identifier: Apache-2.0
"""The control plane on the host: etcd, API server, controllers, scheduler, registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memplace_lab.base.processes import Processes
from memplace_lab.base.steps import LabError, run, wait_for
from memplace_lab.cluster.pki import Pki
from memplace_lab.machines.network import HOST_ADDRESS, REGISTRY, SERVICE_CIDR, Network

SERVER = f"https://{HOST_ADDRESS}:6443"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The programs of a control plane; ``state`` has etcd's data."""

    binaries: Path
    state: Path
    registry: Path
    pki: Pki
    network: Network
    processes: Processes

    def create_pki(self) -> None:
        """Issue the certificates of the control plane and of its users."""
        pki = self.pki
        pki.create_authority()
        service = ["DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc"]
        addresses = ["IP:10.96.0.1", f"IP:{HOST_ADDRESS}", "IP:127.0.0.1"]
        pki.issue("apiserver", "kube-apiserver", names=[*service, *addresses])
        pki.issue("apiserver-kubelet", "kube-apiserver-kubelet-client", group="system:masters")
        pki.issue("admin", "admin", group="system:masters")
        pki.issue("controller-manager", "system:kube-controller-manager")
        pki.issue("scheduler", "system:kube-scheduler")
        pki.issue("proxy", "system:kube-proxy")
        pki.kubeconfig("admin", inline=True)
        for name in ("controller-manager", "scheduler"):
            pki.kubeconfig(name)

    def start(self) -> None:
        """Start everything and wait until the API server is ready (seconds)."""
        self.start_registry()
        etcd = f"http://{HOST_ADDRESS}:2379"
        self._start(
            "etcd",
            f"--data-dir={self.state / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        self.start_apiserver()
        self._start(
            "kube-controller-manager",
            f"--kubeconfig={self.pki.path('controller-manager.kubeconfig')}",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.pki.path('sa.key')}",
            f"--root-ca-file={self.pki.path('ca.crt')}",
        )
        scheduler = self.pki.path("scheduler.kubeconfig")
        self._start("kube-scheduler", f"--kubeconfig={scheduler}", "--leader-elect=false")

    def start_registry(self) -> None:
        """Start the registry that the workers pull from."""
        self.registry.mkdir(parents=True, exist_ok=True)
        self._start(
            "crane", "registry", "serve", f"--address={REGISTRY}", f"--disk={self.registry}"
        )

    def start_apiserver(self) -> None:
        """Start the API server and wait for /readyz."""
        file = self.pki.path
        self._start(
            "kube-apiserver",
            f"--etcd-servers=http://{HOST_ADDRESS}:2379",
            f"--bind-address={HOST_ADDRESS}",
            f"--advertise-address={HOST_ADDRESS}",
            "--secure-port=6443",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--endpoint-reconciler-type=lease",
            "--kubelet-preferred-address-types=InternalIP",
            f"--client-ca-file={file('ca.crt')}",
            f"--kubelet-certificate-authority={file('ca.crt')}",
            f"--kubelet-client-certificate={file('apiserver-kubelet.crt')}",
            f"--kubelet-client-key={file('apiserver-kubelet.key')}",
            f"--tls-cert-file={file('apiserver.crt')}",
            f"--tls-private-key-file={file('apiserver.key')}",
            f"--service-account-issuer={SERVER}",
            f"--service-account-key-file={file('sa.pub')}",
            f"--service-account-signing-key-file={file('sa.key')}",
        )
        log = self.processes.log("kube-apiserver")
        wait_for("kube-apiserver /readyz", self.is_ready, timeout_s=90, hint=lambda: f"see {log}")

    def restart_apiserver(self) -> None:
        """End the API server the hard way and start it again (for tests)."""
        self.processes.stop("kube-apiserver", signum=9)
        self.start_apiserver()

    def is_ready(self) -> bool:
        """Return whether /readyz answers ok; fails when the API server is dead."""
        self.processes.expect("kube-apiserver")
        try:
            return run(*self.kubectl("get", "--raw", "/readyz"), timeout_s=10).strip() == "ok"
        except LabError:
            return False

    def kubectl(self, *args: str) -> list[str]:
        """Return a kubectl command line with the administrator's rights."""
        config = f"--kubeconfig={self.pki.path('admin.kubeconfig')}"
        return self.network.inside(str(self.binaries / "kubectl"), config, *args)

    def _start(self, program: str, *args: str) -> None:
        self.processes.start(program, *self.network.inside(str(self.binaries / program), *args))
