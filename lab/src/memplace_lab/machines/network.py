# SPDX-License-Identifier: Apache-2.0
"""The lab's network: one namespace with a bridge, a tap for each worker.

The namespace is held by a sleeping process and has no name in the file
system: when the process ends, everything in it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from memplace_lab.base.processes import Processes
from memplace_lab.base.steps import run, wait_for

HOST_ADDRESS = "10.77.0.1"
REGISTRY = f"{HOST_ADDRESS}:5000"
SERVICE_CIDR = "10.96.0.0/16"


@dataclass(frozen=True, slots=True)
class Network:
    """The network namespace of a lab."""

    processes: Processes

    def up(self, taps: int) -> None:
        """Make the namespace with bridge ``br0`` and ``tap1`` … ``tapN``."""
        self.processes.start("network", "unshare", "--net", "sleep", "infinity")
        own = run("readlink", "/proc/self/ns/net")
        wait_for(
            "network namespace",
            lambda: self._namespace() not in ("", own),
            timeout_s=10,
            interval_s=0.05,
        )
        commands = [
            "link set lo up",
            "link add br0 type bridge",
            f"address add {HOST_ADDRESS}/24 dev br0",
        ]
        commands += ["link set br0 up"]
        for number in range(1, taps + 1):
            commands += [f"tuntap add tap{number} mode tap", f"link set tap{number} master br0 up"]
            commands += [f"route add {pod_cidr(number)} via {worker_address(number)}"]
        for command in commands:
            run(*self.inside("ip", *command.split()))

    def inside(self, *command: str) -> list[str]:
        """Return a command line that runs a command in the namespace."""
        return ["nsenter", f"--net=/proc/{self.processes.expect('network')}/ns/net", *command]

    def _namespace(self) -> str:
        pid = self.processes.pid("network")
        return run("readlink", f"/proc/{pid}/ns/net") if pid else ""


def worker_address(number: int) -> str:
    """Return the address of worker ``number`` (from 1)."""
    return f"10.77.0.{10 + number}"


def pod_cidr(number: int) -> str:
    """Return the address range of the pods of worker ``number``."""
    return f"10.244.{number}.0/24"
