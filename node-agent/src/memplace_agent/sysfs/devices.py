# SPDX-License-Identifier: Apache-2.0
"""Read where memory comes from: dax devices, regions and windows of CXL, accelerators."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from memplace.nodes import MAX_NODES, NumaSet
from memplace.numa import AddressRange, DaxDevice, DaxKind

from memplace_agent.hostfs import HostFs
from memplace_agent.sysfs.files import NotClear, entries, hint, integer, link_parts, node_list

_DAX = re.compile(r"dax\d{1,6}\.\d{1,6}", re.ASCII)
_REGION = re.compile(r"region\d{1,9}", re.ASCII)
_DECODER = re.compile(r"decoder\d{1,6}\.\d{1,6}", re.ASCII)
_ROOT = re.compile(r"root\d{1,6}", re.ASCII)
# A CXL region of persistent memory is an NVDIMM too, below a bridge of this name.
_CXL = re.compile(rf"{_DECODER.pattern}|nvdimm-bridge\d{{1,6}}", re.ASCII)
_NVDIMM = re.compile(r"ndbus\d{1,6}", re.ASCII)
_GPU = re.compile(r"[0-9a-fA-F:.]{7,16}", re.ASCII)
_GPU_NODE = re.compile(r"^Node:\s{1,32}(-1|\d{1,4})$", re.ASCII | re.MULTILINE)

# Of each kind; a machine has a few. More are a sign of something else.
_RANGES_MAX = 256
_ADDRESSES = 1 << 64


@dataclass(frozen=True, slots=True)
class Origins:
    """Which devices NUMA nodes have their memory from.

    Attributes:
        dax: The dax devices that are used as memory, by node.
        accelerators: Why the memory of a node is an accelerator's own, by node.
        unclear: What may be about any node, for it can't be understood; empty for nothing.
    """

    dax: dict[int, tuple[DaxDevice, ...]] = field(default_factory=dict)
    accelerators: dict[int, str] = field(default_factory=dict)
    unclear: tuple[str, ...] = ()


def read_origins(host: HostFs) -> Origins:
    """Read them.

    Source: linux ``Documentation/ABI/testing/sysfs-bus-dax``; ``drivers/base/node.c``,
    has_generic_initiator; ACPI, "Generic Initiator Affinity Structure"; NVIDIA's open kernel
    modules, nv-procfs.c.
    """
    unclear: list[str] = []
    dax: dict[int, tuple[DaxDevice, ...]] = {}
    for name in sorted(filter(_DAX.fullmatch, entries(host.dax_memory))):
        link = host.dax_memory / name
        try:
            node = _target_node(link / "target_node")
        except NotClear:
            unclear.append(f"its memory may be that of {name}, whose node can't be told")
        else:
            if node is not None:
                dax[node] = (*dax.get(node, ()), DaxDevice(name, _kind(link_parts(link))))
    accelerators: dict[int, str] = {}
    try:
        initiators = _initiators(host)
        accelerators |= dict.fromkeys(
            initiators, "an accelerator is part of it (has_generic_initiator)"
        )
    except NotClear:
        unclear.append("an accelerator may be part of it (has_generic_initiator is not clear)")
    for name in sorted(filter(_GPU.fullmatch, entries(host.nvidia_gpus))):
        try:
            node = _gpu_node(host.nvidia_gpus / name / "numa_status")
        except NotClear:
            unclear.append(f"it may be the memory of GPU {name}, whose node can't be told")
        else:
            if node is not None:
                accelerators[node] = f"it is the memory of GPU {name}"
    return Origins(dax, accelerators, tuple(unclear))


def _target_node(path: Path) -> int | None:
    node = integer(path)
    if node is not None and node >= MAX_NODES:
        raise NotClear(path)
    return node


def _kind(parts: tuple[str, ...]) -> DaxKind:
    # Source: linux drivers/dax/cxl.c, drivers/dax/pmem.c and drivers/dax/hmem/hmem.c.
    if any(map(_CXL.fullmatch, parts)):
        return DaxKind.CXL
    return DaxKind.PERSISTENT if any(map(_NVDIMM.fullmatch, parts)) else DaxKind.OTHER


def _initiators(host: HostFs) -> NumaSet:
    path = host.numa_nodes / "has_generic_initiator"
    if hint(path) == "":
        raise NotClear(path)  # an empty list is an empty line
    return node_list(path)


def _gpu_node(path: Path) -> int | None:
    content = hint(path)
    if content is None:
        return None
    found = _GPU_NODE.search(content)
    if found is None:
        raise NotClear(path)
    return int(found[1])


def read_cxl_ranges(host: HostFs) -> list[AddressRange]:
    """Return the physical addresses of CXL memory: of regions, then of whole windows.

    A region whose memory firmware has put into the memory map has no dax device, and a
    device of CXL 1.1 often has no region: its memory is in a window of its host bridge.

    Source: linux ``Documentation/ABI/testing/sysfs-bus-cxl``; ``drivers/cxl/core/region.c``,
    cxl_region_probe().
    """
    names = sorted(entries(host.cxl_devices))
    regions = [name for name in names if _REGION.fullmatch(name)][:_RANGES_MAX]
    windows = [name for name in names if _is_window(host, name)][:_RANGES_MAX]
    found = [_range(host.cxl_devices / name, "resource") for name in regions]
    found += [_range(host.cxl_devices / name, "start") for name in windows]
    return [each for each in found if each is not None]


def _is_window(host: HostFs, name: str) -> bool:
    # Decoders of ports and endpoints are below them; those of windows below the root.
    if not _DECODER.fullmatch(name):
        return False
    parts = link_parts(host.cxl_devices / name)
    return len(parts) > 1 and _ROOT.fullmatch(parts[-2]) is not None


def _range(device: Path, attribute: str) -> AddressRange | None:
    try:
        start, size = integer(device / attribute), integer(device / "size")
    except NotClear:
        return None
    if start is None or not size or start + size > _ADDRESSES:
        return None  # a region that has no addresses yet begins at the last one
    return AddressRange(device.name, start, size)
