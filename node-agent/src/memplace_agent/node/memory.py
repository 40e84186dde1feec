# SPDX-License-Identifier: Apache-2.0
"""Read the room of the NUMA nodes, and what the kernel moves by itself.

Everything is read anew at each call: whoever acts on it asks once per tick.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from memplace.nodes import NumaSet, parse_nodes
from memplace.pacing import NodeState, Room

from memplace_agent.hostfs import HostFs
from memplace_agent.node.psi import node_pressure
from memplace_agent.sysfs.files import numbered

log = logging.getLogger(__name__)

_MEMINFO = re.compile(r"Node \d+ ([\w()]+):\s+(\d+) kB", re.ASCII)
_ZONE = re.compile(r"Node (\d+), zone +\w+$", re.ASCII)
_WATERMARK = re.compile(r" +(min|low|high) +(\d+)$", re.ASCII)

_PAGE = os.sysconf("SC_PAGE_SIZE")

# linux include/linux/sched/sysctl.h: NUMA_BALANCING_NORMAL, NUMA_BALANCING_MEMORY_TIERING
_BALANCING = {1: "Normal", 2: "MemoryTiering"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelMoves:
    """What the kernel moves between NUMA nodes by itself, whatever a policy says.

    Attributes:
        demotion: Reclaim moves cold pages to a lower tier instead of dropping them; it does
            not ask the policy of a mapping.
        numa_balancing: Modes that are on: Normal moves pages to those who use them,
            MemoryTiering promotes hot ones; both leave Bind and PreferredMany alone.
    """

    demotion: bool = False
    numa_balancing: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """What an admin should know of it; empty when there is nothing."""
        parts = []
        if self.demotion:
            parts.append(
                "the kernel demotes cold pages to lower tiers, whatever policy they have "
                "(/sys/kernel/mm/numa/demotion_enabled): rules that want DRAM lose pages to it"
            )
        if self.numa_balancing:
            modes = " and ".join(self.numa_balancing)
            parts.append(
                f"NUMA balancing ({modes}, sysctl kernel.numa_balancing) moves pages of rules "
                "whose mode is not Bind or PreferredMany"
            )
        return "; ".join(parts)


def read_node_state(host: HostFs, now: float) -> NodeState:
    """Return all that moves depend on; a NUMA node that cannot be read has no room."""
    return NodeState(
        rooms=read_rooms(host),
        pressure=node_pressure(host),
        agent_allowed=own_nodes(host),
        at=now,
    )


def read_rooms(host: HostFs) -> dict[int, Room]:
    """Return the room of each NUMA node; one that cannot be read (removed meanwhile) is left out.

    Without a readable /proc/zoneinfo watermarks count as 0.

    Source: linux ``Documentation/admin-guide/sysctl/vm.rst``, min_free_kbytes;
    ``Documentation/ABI/stable/sysfs-devices-node``; zoneinfo in proc(5).
    """
    marks = _watermarks(host.proc / "zoneinfo")
    rooms = {}
    for number in numbered((path.name for path in host.numa_nodes.glob("node*")), "node"):
        try:
            rooms[number] = _room(host.numa_nodes / f"node{number}", marks.get(number, {}))
        except (OSError, ValueError) as err:
            log.debug("NUMA node %d: %s", number, err)
    return rooms


def own_nodes(host: HostFs) -> NumaSet | None:
    """Return the NUMA nodes of the agent's own cpuset; None when it cannot be told."""
    try:
        status = (host.proc / "self/status").read_text()
    except OSError:
        return None
    match = re.search(r"^Mems_allowed_list:[ \t]*([\d,-]+)$", status, re.MULTILINE)
    return parse_nodes(match[1]) if match else None


def read_kernel_moves(host: HostFs) -> KernelMoves:
    """Return what the kernel moves by itself; what cannot be read counts as off.

    Source: linux ``Documentation/ABI/testing/sysfs-kernel-mm-numa``;
    ``Documentation/admin-guide/sysctl/kernel.rst``, numa_balancing.
    """
    demotion = _text(host.sysfs / "kernel/mm/numa/demotion_enabled")
    balancing = _text(host.proc / "sys/kernel/numa_balancing")
    bits = int(balancing) if balancing.isdecimal() else 0
    return KernelMoves(
        demotion=demotion in ("true", "1"),
        numa_balancing=tuple(name for bit, name in _BALANCING.items() if bits & bit),
    )


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _room(path: Path, marks: dict[str, int]) -> Room:
    text = (path / "meminfo").read_text()
    info = {match[1]: int(match[2]) << 10 for match in _MEMINFO.finditer(text)}
    return Room(
        total=info.get("MemTotal", 0),
        free=info.get("MemFree", 0),
        reclaimable=info.get("Inactive(file)", 0),
        minimum=marks.get("min", 0),
        low=marks.get("low", 0),
        high=marks.get("high", 0),
        huge=dict(_pool(pool) for pool in path.glob("hugepages/hugepages-*kB")),
    )


def _pool(path: Path) -> tuple[int, int]:
    size = int(path.name.removeprefix("hugepages-").removesuffix("kB")) << 10
    return size, int((path / "free_hugepages").read_text()) * size


def _watermarks(zoneinfo: Path) -> dict[int, dict[str, int]]:
    # Bytes per NUMA node: the sum over its zones.
    nodes: dict[int, dict[str, int]] = {}
    marks: dict[str, int] = {}
    for line in _text(zoneinfo).splitlines():
        if zone := _ZONE.match(line):
            marks = nodes.setdefault(int(zone[1]), {})
        elif mark := _WATERMARK.match(line):
            marks[mark[1]] = marks.get(mark[1], 0) + int(mark[2]) * _PAGE
    return nodes
