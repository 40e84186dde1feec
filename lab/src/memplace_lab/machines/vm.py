# SPDX-License-Identifier: Apache-2.0
"""A worker as a virtual machine: QEMU's command line, its monitor, snapshots."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplace_lab.base.processes import Processes
from memplace_lab.base.steps import LabError, run
from memplace_lab.machines import qemu
from memplace_lab.machines.accelerator import accelerator
from memplace_lab.machines.network import Network
from memplace_lab.machines.topology import Worker

SNAPSHOT = "ready"


@dataclass(frozen=True, slots=True)
class Boot:
    """A kernel, and an initial RAM disk if the kernel needs one to find its root."""

    kernel: Path
    initrd: Path | None = None


@dataclass(frozen=True, slots=True)
class VirtualMachine:
    """One worker under QEMU; ``directory`` has its disks and its monitor."""

    worker: Worker
    boot: Boot
    directory: Path
    network: Network
    processes: Processes

    @property
    def disk(self) -> Path:
        """The worker's own disk (qcow2 on top of the common image)."""
        return self.directory / f"{self.worker.name}.qcow2"

    @property
    def seed(self) -> Path:
        """The disk that tells the worker who it is."""
        return self.directory / f"{self.worker.name}.seed"

    def create_disk(self, image: Path) -> None:
        """Make the worker's disk as an empty layer over ``image``."""
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, self.disk)

    def start(self, *, from_snapshot: bool = False) -> None:
        """Start QEMU; the machine boots, or goes on from where its snapshot was taken."""
        command = [qemu.PROGRAM, *self._arguments()]
        if from_snapshot:
            command += ["-loadvm", SNAPSHOT]
        self.processes.start(f"qemu-{self.worker.name}", *self.network.inside(*command))

    def _arguments(self) -> list[str]:
        worker, number, hardware = self.worker, self.worker.number, self.worker.hardware
        root = "root=/dev/vda rw rootfstype=ext4 console=ttyS0 net.ifnames=0 mitigations=off quiet"
        tail = "systemd.show_status=false audit=0 nowatchdog numa_balancing=disable"
        if hardware.cxl_device_mib:
            tail += f" {qemu.ONLINE_MOVABLE}"
        return [
            "-name",
            worker.name,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            *_processor(hardware, self.boot.kernel),
            *hardware.arguments(),
            "-kernel",
            str(self.boot.kernel),
            *(["-initrd", str(self.boot.initrd)] if self.boot.initrd else []),
            "-append",
            f"{root} {tail}",
            *_drive("disk", self.disk, "discard=unmap"),
            *_drive("seed", self.seed, "discard=ignore"),
            "-netdev",
            f"tap,id=n0,ifname=tap{number},script=no,downscript=no",
            "-device",
            f"virtio-net-pci,bus=pcie.0,netdev=n0,mac=52:54:00:77:00:{number:02x}",
            "-device",
            "virtio-rng-pci,bus=pcie.0",
            *hardware.devices(),
            "-rtc",
            "base=utc,clock=host",
            "-serial",
            f"file:{self.processes.directory / (worker.name + '.console')}",
            "-qmp",
            f"unix:{self._monitor_path()},server=on,wait=off",
        ]

    def _monitor_path(self) -> Path:
        return self.directory / f"{self.worker.name}.qmp"

    def monitor(self, command: str) -> str:
        """Give QEMU's human monitor a command and return what it prints.

        Raises:
            LabError: QEMU is gone, or printed an error.
        """
        self.processes.expect(f"qemu-{self.worker.name}")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(300)
            connection.connect(str(self._monitor_path()))
            stream = connection.makefile("rw")
            _receive(stream)
            _ask(stream, {"execute": "qmp_capabilities"})
            line = {"command-line": command}
            reply = _ask(stream, {"execute": "human-monitor-command", "arguments": line})
        text = str(reply.get("return", reply))
        if "Error" in text or "error" in reply:
            raise LabError(f"{self.worker.name}: {command}: {text}")
        return text

    def save_and_quit(self) -> None:
        """Save the machine's state into its disk and end it."""
        self.monitor("stop")
        self.monitor(f"savevm {SNAPSHOT}")
        self.processes.stop(f"qemu-{self.worker.name}")


def _drive(name: str, file: Path, option: str) -> list[str]:
    # On a named bus: QEMU would plug it into a CXL host bridge, where it does not fit.
    drive = f"id={name},file={file},if=none,format=qcow2,cache=unsafe,{option}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,bus=pcie.0,drive={name}"]


def _processor(hardware: qemu.Hardware, kernel: Path) -> list[str]:
    *found, model = accelerator(kernel)
    return [*found, hardware.processor(model)]


def _receive(stream: Any) -> dict[str, Any]:
    while True:
        line = stream.readline()
        if not line:
            raise LabError("QEMU closed its monitor")
        message: dict[str, Any] = json.loads(line)
        if "event" not in message:
            return message


def _ask(stream: Any, message: dict[str, Any]) -> dict[str, Any]:
    stream.write(json.dumps(message) + "\n")
    stream.flush()
    return _receive(stream)
