# SPDX-License-Identifier: Apache-2.0
"""What rules are worked out against on this node: NUMA nodes, tiers, weights, limits."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from memplace.api.v1alpha1 import MemoryTier
from memplace.evidence import Verdict
from memplace.nodes import NumaSet
from memplace.numa import NumaNode
from memplace.topology import BUILTIN_TIERS, nodes_by_tier, resolve_verdicts

from memplace_agent.hostfs import HostFs
from memplace_agent.sysfs import read_numa_nodes
from memplace_agent.sysfs.files import NotClear, entries, integer, numbered

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The node at one moment.

    Attributes:
        numa_nodes: All NUMA nodes.
        verdicts: Of each NUMA node with memory: its tier, and why.
        tiers: Tier name to NUMA nodes.
        known_tiers: Names that are tiers somewhere.
        weights: Of WeightedInterleave, by NUMA node; None when the kernel does not tell.
        max_mappings: vm.max_map_count; 0 when it can't be read.
    """

    numa_nodes: tuple[NumaNode, ...] = ()
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)
    tiers: Mapping[str, NumaSet] = field(default_factory=dict)
    known_tiers: frozenset[str] = BUILTIN_TIERS
    weights: Mapping[int, int] | None = None
    max_mappings: int = 0

    @property
    def sizes(self) -> dict[int, int]:
        """Bytes of each NUMA node."""
        return {node.id: node.total_bytes for node in self.numa_nodes}


def read_machine(
    host: HostFs,
    tiers: Iterable[MemoryTier],
    node_name: str,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Machine:
    """Read it.

    Raises:
        OSError: NUMA nodes can't be read.
    """
    tiers = tuple(tiers)
    numa_nodes = read_numa_nodes(host)
    verdicts = resolve_verdicts(numa_nodes, tiers, node_name, labels)
    return Machine(
        numa_nodes=numa_nodes,
        verdicts=verdicts,
        tiers=nodes_by_tier(verdicts),
        known_tiers=BUILTIN_TIERS | {tier.name for tier in tiers},
        weights=_weights(host),
        max_mappings=_max_mappings(host),
    )


def _weights(host: HostFs) -> dict[int, int] | None:
    # Source: Documentation/ABI/testing/sysfs-kernel-mm-mempolicy-weighted-interleave.
    found = {}
    for number in numbered(entries(host.interleave_weights), "node"):
        try:
            weight = integer(host.interleave_weights / f"node{number}")
        except NotClear:
            return None
        if weight is not None:
            found[number] = weight
    return found or None


def _max_mappings(host: HostFs) -> int:
    try:
        return int((host.proc / "sys/vm/max_map_count").read_text())
    except (OSError, ValueError):
        return 0


def merges_pages(host: HostFs) -> bool:
    """Return whether kernel samepage merging shares pages between processes now."""
    try:
        return int((host.ksm / "pages_sharing").read_text()) > 0
    except FileNotFoundError:
        return False  # a kernel without KSM
    except (OSError, ValueError):
        return True
