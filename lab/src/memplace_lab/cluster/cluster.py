# SPDX-License-Identifier: Apache-2.0
"""A whole cluster: control plane and workers, from nothing or from a snapshot."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplace_lab.base import store
from memplace_lab.base.processes import Processes
from memplace_lab.base.steps import LabError, run, say, step, tail, wait_for
from memplace_lab.cluster import binaries, guest, seed
from memplace_lab.cluster.controlplane import SERVER, ControlPlane
from memplace_lab.cluster.pki import Pki
from memplace_lab.machines import kernel
from memplace_lab.machines.accelerator import accelerator
from memplace_lab.machines.network import REGISTRY, Network, worker_address
from memplace_lab.machines.topology import TOPOLOGIES, Worker
from memplace_lab.machines.vm import Boot, VirtualMachine

RUN = store.CACHE / "run"
BOOT_TIMEOUT_S = 600

_PACKAGE = Path(__file__).parents[1]
# What decides over the contents of a snapshot.
_SAVED_BY = (
    *("cluster/cluster", "cluster/controlplane", "cluster/pki", "cluster/seed"),
    *("machines/accelerator", "machines/network", "machines/qemu", "machines/topology"),
    "machines/vm",
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster of one topology; all it has lies in ``directory``."""

    topology: str
    directory: Path

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers of the topology."""
        return TOPOLOGIES[self.topology]

    @property
    def processes(self) -> Processes:
        """The programs of this cluster."""
        return Processes(self.directory / "processes")

    @property
    def network(self) -> Network:
        """The network namespace of this cluster."""
        return Network(self.processes)

    @property
    def control_plane(self) -> ControlPlane:
        """The control plane of this cluster."""
        return ControlPlane(
            binaries=binaries.build_binaries(),
            state=self.directory,
            registry=store.CACHE / "registry",
            pki=Pki(self.directory / "pki", SERVER),
            network=self.network,
            processes=self.processes,
        )

    def machine(self, worker: Worker) -> VirtualMachine:
        """Return the virtual machine of a worker."""
        return VirtualMachine(
            worker, _boot_of(worker), self.directory, self.network, self.processes
        )

    # -- talking to it

    def kubectl(self, *args: str, stdin: str | None = None, timeout_s: float = 300) -> str:
        """Run kubectl as administrator and return its output."""
        return run(*self.control_plane.kubectl(*args), stdin=stdin, timeout_s=timeout_s)

    def get(self, *args: str) -> dict[str, Any]:
        """Return what ``kubectl get … -o json`` prints."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *args, "-o", "json"))
        return found

    def helm(self, *args: str, timeout_s: float = 900) -> str:
        """Run helm as administrator and return its output."""
        config = f"--kubeconfig={self.control_plane.pki.path('admin.kubeconfig')}"
        program = str(self.control_plane.binaries / "helm")
        return run(*self.network.inside(program, config, *args), timeout_s=timeout_s)

    def ssh(
        self, worker: str, command: str, *, stdin: str | None = None, timeout_s: float = 120
    ) -> str:
        """Run a shell command as root on a worker and return its output."""
        return run(*self.ssh_command(worker), command, stdin=stdin, timeout_s=timeout_s)

    def ssh_command(self, worker: str) -> list[str]:
        """Return the command line that logs in to a worker; one connection serves all calls."""
        number = next(w.number for w in self.workers if w.name == worker)
        # A connection to a machine that was since restored from a snapshot would hang.
        machine = self.processes.expect(f"qemu-{worker}")
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=10",
            "ControlMaster=auto",
            f"ControlPath=/tmp/lab-ssh-{machine}",
            "ControlPersist=60",
        ]
        flags = [word for option in options for word in ("-o", option)]
        key = str(self.directory / "pki" / "ssh")
        return self.network.inside("ssh", "-i", key, *flags, f"root@{worker_address(number)}")

    # -- its life

    def is_up(self) -> bool:
        """Return whether the cluster runs."""
        return self.processes.pid("network") is not None

    def down(self) -> None:
        """End everything; what a snapshot needs is not touched."""
        self.processes.stop_all()
        shutil.rmtree(self.directory, ignore_errors=True)

    def create(self) -> None:
        """Bring up a new cluster and wait until every worker is Ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.network.up(taps=len(self.workers))
        with step("control plane"):
            self.control_plane.create_pki()
            self.control_plane.start()
        disk = guest.build_disk() / "disk.img"
        with step("workers boot and join"):
            for worker in self.workers:
                machine = self.machine(worker)
                seed.write(machine.seed, worker, self.workers, self.control_plane.pki)
                machine.create_disk(disk)
                machine.start()
            self.wait_nodes()
        for worker in self.workers:
            if worker.hardware.cxl_device_mib:
                with step(f"{worker.name}: region of the CXL device"):
                    self._bring_up_cxl(worker)

    def _bring_up_cxl(self, worker: Worker) -> None:
        # What an admin types on real hardware; dax_kmem then brings the memory online.
        create = "cxl create-region --memdevs mem0 --decoder decoder0.0 --type ram"
        self.ssh(worker.name, create, timeout_s=120)
        online = "numactl --hardware | grep -E '^node 1 size: [1-9]'"
        wait_for(
            f"{worker.name}: NUMA node of the CXL device",
            lambda: bool(self.ssh(worker.name, f"{online} || true").strip()),
            timeout_s=120,
            hint=lambda: self.ssh(worker.name, "cxl list -v; daxctl list; numactl --hardware"),
        )

    def wait_nodes(self) -> None:
        """Wait until every worker is a Ready node."""
        for worker in self.workers:
            self._wait(worker, "Ready", self._is_ready, timeout_s=BOOT_TIMEOUT_S)

    def _wait(
        self, worker: Worker, what: str, probe: Callable[[Worker], bool], *, timeout_s: float
    ) -> None:
        wait_for(
            f"{worker.name} {what}",
            lambda: probe(worker),
            timeout_s=timeout_s,
            hint=lambda: self.console(worker.name),
        )

    def console(self, worker: str) -> str:
        """Return the end of what a worker printed on its serial console."""
        return tail(self.processes.directory / f"{worker}.console", 40)

    def _is_ready(self, worker: Worker) -> bool:
        self.processes.expect(f"qemu-{worker.name}")
        try:
            node = self.get("node", worker.name)
        except LabError:
            return False
        return any(
            c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"]
        )

    def save(self, target: Path) -> None:
        """Save the running cluster into a directory and end it."""
        for worker in self.workers:
            self.ssh(worker.name, "sync; echo 3 > /proc/sys/vm/drop_caches; fstrim /")
        for worker in self.workers:
            self.machine(worker).save_and_quit()
        self.processes.stop_all()
        target.mkdir(parents=True, exist_ok=True)
        for item in self.directory.iterdir():
            if item.name != "processes":
                item.rename(target / item.name)

    def restore(self, source: Path) -> None:
        """Bring up the cluster as it was saved."""
        shutil.copytree(source, self.directory, dirs_exist_ok=True)
        self.network.up(taps=len(self.workers))
        for worker in self.workers:
            self.machine(worker).start(from_snapshot=True)
        self.control_plane.start()
        for worker in self.workers:
            self._wait(worker, "answers", self._answers, timeout_s=120)
            # The machine's clock stood still while it was saved.
            self.ssh(worker.name, f"date --utc --set=@{time.time():.3f}")
        self.wait_nodes()

    def _answers(self, worker: Worker) -> bool:
        self.processes.expect(f"qemu-{worker.name}")
        try:
            return self.ssh(worker.name, "echo yes", timeout_s=20).strip() == "yes"
        except LabError:
            return False

    def pull(self, worker: str, images: Sequence[str]) -> None:
        """Pull images on a worker before a pod asks for them."""
        for image in images:
            name = shlex.quote(f"{REGISTRY}/{image}")
            self.ssh(
                worker,
                f"ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d {name}",
                timeout_s=900,
            )


def _boot_of(worker: Worker) -> Boot:
    if worker.stock_kernel:
        directory = guest.build_disk()
        return Boot(directory / "vmlinuz", directory / "initrd.img")
    return Boot(kernel.build_kernel())


def snapshot_key(topology: str, images: Sequence[str]) -> str:
    """Return the key of a snapshot: everything that a saved cluster is made of."""
    sources = [store.code(_PACKAGE / f"{module}.py") for module in _SAVED_BY]
    parts = [
        guest.build_disk().name,
        kernel.build_kernel().parent.name,
        binaries.build_binaries().name,
    ]
    return store.digest(topology, *parts, *images, *sources, *accelerator(kernel.build_kernel()))


Publish = Callable[["Cluster"], None]


def up(topology: str, images: Sequence[str], *, publish: Publish) -> Cluster:
    """Return a fresh running cluster with ``images`` pulled on every worker.

    The first time it boots and takes a snapshot; after that it goes on from there. With a
    CXL device, which no snapshot has in it, it boots every time.

    Args:
        topology: A name in ``TOPOLOGIES``.
        images: ``name:tag`` in the registry; a tag stands for one content.
        publish: Pushes the images into the registry, which starts empty.
    """
    cluster = Cluster(topology, RUN / topology)
    cluster.down()
    if any(worker.hardware.cxl_device_mib for worker in cluster.workers):
        _boot(cluster, images, publish)
    else:
        _restore(cluster, images, publish)
    say("nodes: " + ", ".join(w.name for w in cluster.workers) + " Ready")
    return cluster


def _restore(cluster: Cluster, images: Sequence[str], publish: Publish) -> None:
    saved = store.ensure(
        f"snapshot-{cluster.topology}",
        snapshot_key(cluster.topology, images),
        lambda target: _prepare(cluster, images, publish, target),
        title=f"snapshot of a ready cluster ({cluster.topology})",
    )
    with step("cluster goes on from its snapshot"):
        cluster.restore(saved)
        publish(cluster)


def _boot(cluster: Cluster, images: Sequence[str], publish: Publish) -> None:
    cluster.create()
    publish(cluster)
    for worker in cluster.workers:
        with step(f"{worker.name}: pulling {len(images)} images"):
            cluster.pull(worker.name, images)


def _prepare(cluster: Cluster, images: Sequence[str], publish: Publish, target: Path) -> None:
    try:
        _boot(cluster, images, publish)
        cluster.save(target)
    finally:
        cluster.down()
