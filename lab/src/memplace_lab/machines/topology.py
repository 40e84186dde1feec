# SPDX-License-Identifier: Apache-2.0
"""The topologies of the lab: the workers of each cluster, and their memory.

Which latency and bandwidth make which tier is told by docs/tiers.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from memplace_lab.machines.qemu import Hardware, Node


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker.

    Attributes:
        number: From 1.
        hardware: Its memory and processors.
        stock_kernel: Boots Debian's kernel instead of ours.
    """

    number: int
    hardware: Hardware
    stock_kernel: bool = False

    @property
    def name(self) -> str:
        """The Kubernetes node's name."""
        return f"worker-{self.number}"


def _dram(mib: int) -> Node:
    return Node(mib, cpus="0-1", latency_ns=80, bandwidth_mbs=20_000)


def _cxl(mib: int) -> Node:
    """Return memory only, that looks to HMAT like a CXL expander behind one switchless link."""
    return Node(mib, latency_ns=250, bandwidth_mbs=8_000, distance=30)


TOPOLOGIES: dict[str, tuple[Worker, ...]] = {
    # One worker with DRAM and a slower tier.
    "hmat": (Worker(1, Hardware((_dram(2560), _cxl(1024)))),),
    # The same and one on Debian's stock kernel.
    "two": (
        Worker(1, Hardware((_dram(2560), _cxl(1024)))),
        Worker(2, Hardware((_dram(1536), _cxl(512))), stock_kernel=True),
    ),
    # One worker with a CXL device that is brought up as on real hardware.
    "cxl": (Worker(1, Hardware((_dram(2560),), cxl_device_mib=256)),),
}
