# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a container are, seen by a reader that is independent of the product.

The reading itself is done on the worker by ``observer.py``, which is sent there as text.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplace_lab.cluster.cluster import Cluster

OBSERVER = Path(__file__).with_name("observer.py")
# Mappings of libraries and the like are too small to have a row each.
_NAMED_ROWS = ("heap", "stack", "anonymous", "file /data")

Bytes = Mapping[str, Mapping[int, int]]  # row -> NUMA node -> bytes


@dataclass(frozen=True, slots=True)
class Vma:
    """One mapping of one process: what it is, its length, policy, and bytes per NUMA node.

    ``share`` is which part of the bytes is the process's: of a page that it has in common with
    one other, one half.
    """

    pid: int
    label: str
    length: int
    policy: str
    nodes: Mapping[int, int]
    share: float

    @property
    def own(self) -> dict[int, int]:
        """The bytes per NUMA node of which the sum over all processes is what there is."""
        return {node: round(size * self.share) for node, size in self.nodes.items()}


@dataclass(frozen=True, slots=True)
class Observation:
    """The mappings of all processes of one container at one time."""

    mappings: tuple[Vma, ...]

    @property
    def pids(self) -> frozenset[int]:
        """The processes seen."""
        return frozenset(m.pid for m in self.mappings)

    def where(self, chosen: Callable[[Vma], bool]) -> dict[int, int]:
        """Return the bytes per NUMA node of the chosen mappings."""
        return add_up(m.nodes for m in self.mappings if chosen(m))

    def total(self) -> dict[int, int]:
        """Return the bytes per NUMA node of all mappings."""
        return add_up(m.nodes for m in self.mappings)

    def labelled(self, label: str) -> dict[int, int]:
        """Return the bytes per NUMA node of the mappings of one name."""
        return self.where(lambda m: m.label == label)

    def policies(self, label: str) -> frozenset[str]:
        """Return the policies that the mappings of one name have."""
        return frozenset(m.policy for m in self.mappings if m.label == label)

    def rows(self) -> Bytes:
        """Return the bytes per row of the table, largest first, the rest last."""
        rows: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for mapping in self.mappings:
            for node, size in mapping.nodes.items():
                rows[_row(mapping)][node] += size
        order = sorted(rows, key=lambda r: (r == "everything else", -sum(rows[r].values())))
        return {row: dict(rows[row]) for row in order}


def add_up(nodes: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Return the sum of bytes per NUMA node."""
    total: dict[int, int] = defaultdict(int)
    for one in nodes:
        for node, size in one.items():
            total[node] += size
    return dict(total)


def _row(mapping: Vma) -> str:
    label = mapping.label
    if label.startswith(("anon:", *_NAMED_ROWS)):
        return label
    return "everything else"


def observe(cluster: Cluster, worker: str, container_id: str) -> Observation:
    """Read the placement of a container's processes on its worker.

    Args:
        cluster: The running cluster.
        worker: The worker's name.
        container_id: As in the pod's status, ``containerd://<64 hex digits>``.
    """
    return observe_all(cluster, worker, [container_id])[container_id]


def observe_all(
    cluster: Cluster, worker: str, container_ids: Iterable[str]
) -> dict[str, Observation]:
    """Do the same for several containers in one go; return it by their ids."""
    plain = {each: each.rpartition("/")[2] for each in container_ids}
    command = " ".join(("python3 -", *plain.values()))
    found = json.loads(cluster.ssh(worker, command, stdin=OBSERVER.read_text()))
    return {each: _observation(found[short]) for each, short in plain.items()}


def _observation(processes: Iterable[Mapping[str, Any]]) -> Observation:
    return Observation(
        tuple(
            Vma(p["pid"], m["label"], m["length"], m["policy"], _bytes(m["nodes"]), m["share"])
            for p in processes
            for m in p["mappings"]
        )
    )


def _bytes(nodes: Mapping[str, int]) -> dict[int, int]:
    return {int(node): size for node, size in nodes.items()}
