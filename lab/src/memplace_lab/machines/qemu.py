# SPDX-License-Identifier: Apache-2.0
"""A machine as data, and QEMU's arguments for it; no other module knows these arguments.

A machine is its NUMA nodes, what HMAT and SLIT say of them, its processors, and a CXL device.
How it boots, and who talks to it meanwhile, is told by others: `vm`, `microvm`, the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PROGRAM = "qemu-system-x86_64"

# The file system of this machine, read-only, and the kernel's parameters that make it the root.
SHARED_ROOT = (
    *("-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"),
    *("-device", "virtio-9p-pci,fsdev=root,mount_tag=root"),
)
ON_SHARED_ROOT = (
    "root=root rootfstype=9p ro rootflags=trans=virtio,version=9p2000.L,cache=loose,msize=262144"
)
# For memory that is plugged in: the kernel's own data stay out of what can be taken away.
ONLINE_MOVABLE = "memhp_default_state=online_movable"
_MOST_WITH_PLUGGED = "4G"


@dataclass(frozen=True, slots=True)
class Node:
    """One NUMA node.

    Attributes:
        mib: Its memory; 0 for none.
        cpus: Its processors as QEMU takes them, "0-1"; "" for none.
        latency_ns: What HMAT says of it from node 0; 0 for nothing.
        bandwidth_mbs: The same, in MiB/s.
        distance: What SLIT says of it from node 0, and back; 0 for what QEMU takes, 20.
        plugged: Its memory comes as a DIMM: all of it can be onlined as movable.
    """

    mib: int
    cpus: str = ""
    latency_ns: int = 0
    bandwidth_mbs: int = 0
    distance: int = 0
    plugged: bool = False


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine.

    Attributes:
        nodes: Its NUMA nodes, from node 0.
        smp: Its processors as QEMU takes them: "2", "4,sockets=2".
        distances: What SLIT says beside the nodes' own, by (from, to).
        cxl_device_mib: Size of an emulated CXL Type-3 device; 0 for none. It becomes a node
            when its region is created. Each access to it leaves the emulated processor:
            some MiB are a lot there. QEMU does not save its contents in snapshots.
    """

    nodes: tuple[Node, ...]
    smp: str = "2"
    distances: Mapping[tuple[int, int], int] = field(default_factory=dict)
    cxl_device_mib: int = 0

    def arguments(self) -> list[str]:
        """Return QEMU's arguments for the board, processors and memory; see `devices`."""
        size = f"{sum(node.mib for node in self.nodes if not node.plugged)}M"
        if slots := sum(node.plugged for node in self.nodes):
            size += f",slots={slots},maxmem={_MOST_WITH_PLUGGED}"
        return ["-machine", self._board(), "-smp", self.smp, "-m", size, *self._numa()]

    def devices(self) -> list[str]:
        """Return QEMU's arguments for what is plugged in: DIMMs, and the CXL device."""
        found: list[str] = []
        for number, node in enumerate(self.nodes):
            if node.plugged:
                found += ["-object", f"memory-backend-ram,id=d{number},size={node.mib}M"]
                found += ["-device", f"pc-dimm,id=dimm{number},memdev=d{number},node={number}"]
        return [*found, *(_cxl_device(self.cxl_device_mib) if self.cxl_device_mib else [])]

    def processor(self, model: str) -> str:
        """Return a model of processor ("max", "host") as this machine needs it."""
        # Linux creates CXL regions only where it can flush the caches for all processors, which
        # it takes no virtual machine's word for.
        return f"{model},hypervisor=off" if self.cxl_device_mib else model

    def _has_hmat(self) -> bool:
        return any(node.latency_ns for node in self.nodes)

    def _board(self) -> str:
        board = "q35,hmat=on" if self._has_hmat() else "q35"
        if self.cxl_device_mib:
            # A window of host-managed memory, in which the device's region lies.
            board += ",cxl=on,cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.size=1G"
        return board

    def _numa(self) -> list[str]:
        # QEMU wants all nodes first, then distances, then HMAT.
        distances = {(0, n): node.distance for n, node in enumerate(self.nodes) if node.distance}
        return [
            *(word for n, node in enumerate(self.nodes) for word in self._node(n, node)),
            *(
                word
                for (here, there), value in {**distances, **self.distances}.items()
                for word in ("-numa", f"dist,src={here},dst={there},val={value}")
            ),
            *_hmat(self.nodes),
        ]

    def _node(self, number: int, node: Node) -> list[str]:
        told = f"node,nodeid={number}"
        memory: list[str] = []
        if node.mib and not node.plugged:
            memory = ["-object", f"memory-backend-ram,id=m{number},size={node.mib}M"]
            told += f",memdev=m{number}"
        if node.cpus:
            told += f",cpus={node.cpus}"
        elif self._has_hmat():
            told += ",initiator=0"
        return [*memory, "-numa", told]


def _hmat(nodes: Sequence[Node]) -> list[str]:
    args: list[str] = []
    for number, node in enumerate(nodes):
        if node.latency_ns:
            base = f"hmat-lb,initiator=0,target={number},hierarchy=memory,data-type=access"
            args += ["-numa", f"{base}-latency,latency={node.latency_ns}"]
            args += ["-numa", f"{base}-bandwidth,bandwidth={node.bandwidth_mbs}M"]
    return args


def _cxl_device(mib: int) -> list[str]:
    """Return the arguments for host bridge, root port and memory of a CXL device."""
    return [
        *("-object", f"memory-backend-ram,id=cxl-mem,share=on,size={mib}M"),
        *("-device", "pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.1"),
        *("-device", "cxl-rp,port=0,bus=cxl.1,id=rp0,chassis=0,slot=2"),
        *("-device", "cxl-type3,bus=rp0,volatile-memdev=cxl-mem,id=cxl0,sn=0x1"),
    ]
