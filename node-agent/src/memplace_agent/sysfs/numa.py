# SPDX-License-Identifier: Apache-2.0
"""Read the NUMA nodes of this machine, with all that tells what their memory is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from memplace.nodes import NumaSet
from memplace.numa import UNCLEAR, AddressRange, Figures, NumaNode, holders

from memplace_agent.hostfs import HostFs
from memplace_agent.sysfs.devices import Origins, read_cxl_ranges, read_origins
from memplace_agent.sysfs.files import (
    NotClear,
    entries,
    hint,
    integer,
    names,
    node_list,
    numbered,
    text,
)

_MEM_TOTAL = re.compile(r"Node \d{1,4} MemTotal:\s{1,32}(\d{1,15}) kB", re.ASCII)
_CPU_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
_BLOCK_BYTES = re.compile(r"[0-9a-fA-F]{1,12}", re.ASCII)

# Numbers of kernel tiers and of memory blocks.
_NUMBERS = 10**9
# How often a machine that changes is read again; what goes on changing is as it was last.
_TRIES = 3
# Reads by CPUs first, which also are the kernel's measure; then by the nearest of any kind.
_ACCESS = ("access1", "access0")


@dataclass(frozen=True, slots=True)
class _Machine:
    """What is read once for all nodes."""

    tiers: Mapping[int, int]
    has_cpu: NumaSet
    origins: Origins
    cxl: Sequence[AddressRange]
    block_bytes: int


def read_numa_nodes(host: HostFs) -> tuple[NumaNode, ...]:
    """Return all NUMA nodes by id.

    Memory can be added and removed while the node runs: one that goes while it is read is
    left out, and the others are as they were. A file that is not what it should be makes no
    tier.

    Raises:
        OSError: CPUs or size of a node that is there can't be read, or the agent is out of
            file descriptors or memory: what was known so far is nearer to the truth.
    """
    for _ in range(_TRIES):
        machine = _read_machine(host)
        numbers = numbered(names(host.numa_nodes), "node")
        found = [_read_node(n, host.numa_nodes / f"node{n}", machine) for n in numbers]
        # A device that came meanwhile may have brought the memory of a node that was read.
        if _read_machine(host) == machine:
            break
    return tuple(node for node in found if node is not None)


def _read_machine(host: HostFs) -> _Machine:
    return _Machine(
        tiers=_kernel_tiers(host.memory_tiers),
        has_cpu=_has_cpu(host),
        origins=read_origins(host),
        cxl=read_cxl_ranges(host),
        block_bytes=_block_bytes(host),
    )


def _read_node(number: int, path: Path, machine: _Machine) -> NumaNode | None:
    cpulist, meminfo = text(path / "cpulist"), text(path / "meminfo")
    if cpulist is None or meminfo is None:
        return None
    found = _MEM_TOTAL.search(meminfo)
    total, cpus = int(found[1]) << 10 if found else 0, parse_cpus(cpulist)
    node = NumaNode(
        id=number,
        cpus=cpus,
        total_bytes=total,
        kernel_tier=machine.tiers.get(number),
        has_cpus=number in machine.has_cpu,
        # Hundreds of nodes may have neither CPUs nor memory.
        figures=_figures(path) if cpus or total else None,
    )
    return node if cpus or not total else _with_origin(node, path, machine)


def _with_origin(node: NumaNode, path: Path, machine: _Machine) -> NumaNode:
    """Add what tells a node without CPUs from one of DRAM."""
    listed, origins = entries(path), machine.origins
    dax = origins.dax.get(node.id, ())
    blocks = numbered(listed, "memory", _NUMBERS) if machine.cxl and machine.block_bytes else []
    doubts = [origins.accelerators.get(node.id, ""), _initiator(node.id, path)]
    doubts += origins.unclear if not dax else ()
    return replace(
        node,
        # CPUs that are offline stay linked.
        has_cpus=node.has_cpus or bool(numbered(listed, "cpu", _NUMBERS)),
        dax=dax,
        cxl=holders(blocks, machine.block_bytes, machine.cxl) if blocks else (),
        barred=next(filter(None, doubts), ""),
    )


def _initiator(number: int, path: Path) -> str:
    if number in numbered(entries(path / "access0/initiators"), "node"):
        return "by HMAT an accelerator, or CPUs that are not there, are part of it"
    return ""


def _figures(path: Path) -> Figures | None:
    # Source: Linux Documentation/admin-guide/mm/numaperf.rst.
    for access in _ACCESS:
        initiators = path / access / "initiators"
        try:
            latency = integer(initiators / "read_latency")
            bandwidth = integer(initiators / "read_bandwidth")
        except NotClear:
            return UNCLEAR
        if latency is not None or bandwidth is not None:
            return Figures(latency, bandwidth) if latency and bandwidth else UNCLEAR
    return None


def parse_cpus(cpulist: str) -> frozenset[int] | None:
    """Parse a list of CPUs; it has the format of a list of nodes, and larger numbers.

    Returns:
        None when it is no such list.
    """
    if not cpulist.strip():
        return frozenset()
    cpus: set[int] = set()
    after = 0
    for part in cpulist.strip().split(","):
        match = _CPU_RANGE.fullmatch(part)
        found = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not found or found.start < after:
            return None  # also a guard: few bytes may name each CPU again and again
        cpus.update(found)
        after = found.stop
    return frozenset(cpus)


def _has_cpu(host: HostFs) -> NumaSet:
    try:
        return node_list(host.numa_nodes / "has_cpu")
    except NotClear:
        return frozenset()


def _kernel_tiers(directory: Path) -> dict[int, int]:
    # Source: Linux Documentation/ABI/testing/sysfs-kernel-mm-memory-tiers.
    tiers: dict[int, int] = {}
    twice: set[int] = set()
    for tier in numbered(entries(directory), "memory_tier", _NUMBERS):
        try:
            nodes = node_list(directory / f"memory_tier{tier}/nodelist")
        except NotClear:
            return {}  # it may be dram's, and nothing could be compared
        # One that moves from tier to tier while they are read is in none.
        twice |= nodes & tiers.keys()
        tiers |= dict.fromkeys(nodes, tier)
    return {node: tier for node, tier in tiers.items() if node not in twice}


def _block_bytes(host: HostFs) -> int:
    # In hexadecimal, without 0x.
    try:
        content = hint(host.memory_blocks / "block_size_bytes") or ""
    except NotClear:
        return 0
    found = _BLOCK_BYTES.fullmatch(content.strip())
    return int(found[0], 16) if found else 0
