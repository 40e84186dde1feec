# SPDX-License-Identifier: Apache-2.0
"""The machines a lab can have: workers, their memory, and how QEMU is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Memory:
    """One NUMA node of a worker: size in MiB, and what HMAT says of it from node 0."""

    size_mib: int
    latency_ns: int
    bandwidth_mbs: int


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker: the first NUMA node has the CPUs, the others are memory only.

    Attributes:
        number: From 1.
        cpus: How many.
        memory: The NUMA nodes that are there at boot.
        stock_kernel: Boots Debian's kernel instead of ours.
        cxl_device_mib: Size of an emulated CXL Type-3 device; 0 for none. It becomes a node
            when its region is created. Each access to it leaves the emulated processor:
            some MiB are a lot there. QEMU does not save its contents in snapshots.
    """

    number: int
    cpus: int
    memory: tuple[Memory, ...]
    stock_kernel: bool = False
    cxl_device_mib: int = 0

    @property
    def name(self) -> str:
        """The Kubernetes node's name."""
        return f"worker-{self.number}"


DRAM_LATENCY_NS, DRAM_BANDWIDTH_MBS = 80, 20_000
# What a CXL expander behind one switchless link looks like to HMAT.
CXL_LATENCY_NS, CXL_BANDWIDTH_MBS = 250, 8_000


def _worker(
    number: int, *, dram_mib: int, cxl_mib: int, cpus: int = 2, stock: bool = False
) -> Worker:
    dram = Memory(dram_mib, DRAM_LATENCY_NS, DRAM_BANDWIDTH_MBS)
    cxl = Memory(cxl_mib, CXL_LATENCY_NS, CXL_BANDWIDTH_MBS)
    return Worker(number, cpus, (dram, cxl), stock_kernel=stock)


TOPOLOGIES: dict[str, tuple[Worker, ...]] = {
    # One worker with DRAM and a slower tier.
    "hmat": (_worker(1, dram_mib=2560, cxl_mib=1024),),
    # The same and one on Debian's stock kernel.
    "two": (
        _worker(1, dram_mib=2560, cxl_mib=1024),
        _worker(2, dram_mib=1536, cxl_mib=512, stock=True),
    ),
    # One worker with a CXL device that is brought up as on real hardware.
    "cxl": (
        Worker(1, 2, (Memory(2560, DRAM_LATENCY_NS, DRAM_BANDWIDTH_MBS),), cxl_device_mib=256),
    ),
}


def machine_argument(worker: Worker) -> str:
    """Return QEMU's machine; with a CXL device, its window of host-managed memory too."""
    if not worker.cxl_device_mib:
        return "q35,hmat=on"
    return "q35,hmat=on,cxl=on,cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.size=1G"


def device_arguments(worker: Worker) -> list[str]:
    """Return QEMU's arguments for a worker's CXL device: host bridge, root port, memory."""
    if not worker.cxl_device_mib:
        return []
    memory = f"memory-backend-ram,id=cxl-mem,share=on,size={worker.cxl_device_mib}M"
    return [
        *("-object", memory),
        *("-device", "pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.1"),
        *("-device", "cxl-rp,port=0,bus=cxl.1,id=rp0,chassis=0,slot=2"),
        *("-device", "cxl-type3,bus=rp0,volatile-memdev=cxl-mem,id=cxl0,sn=0x1"),
    ]


def numa_arguments(worker: Worker) -> list[str]:
    """Return QEMU's arguments for the NUMA nodes of a worker, with HMAT's numbers."""
    args: list[str] = []
    for node, memory in enumerate(worker.memory):
        backend = f"memory-backend-ram,id=m{node},size={memory.size_mib}M"
        cpus = f",cpus=0-{worker.cpus - 1}" if node == 0 else ",initiator=0"
        args += ["-object", backend, "-numa", f"node,nodeid={node},memdev=m{node}{cpus}"]
    for node in range(1, len(worker.memory)):
        args += ["-numa", f"dist,src=0,dst={node},val=30", "-numa", f"dist,src={node},dst=0,val=30"]
    for node, memory in enumerate(worker.memory):
        base = f"hmat-lb,initiator=0,target={node},hierarchy=memory"
        args += ["-numa", f"{base},data-type=access-latency,latency={memory.latency_ns}"]
        args += ["-numa", f"{base},data-type=access-bandwidth,bandwidth={memory.bandwidth_mbs}M"]
    return args
