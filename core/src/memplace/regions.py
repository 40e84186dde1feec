# SPDX-License-Identifier: Apache-2.0
"""Regions of an address space, and which of them an entry of a rule means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from memplace.api.v1alpha1 import RegionEntry, Rule
from memplace.kinds import Mode, Policy, RegionKind

__all__ = ["Region", "RegionKind", "matches", "winner"]

# Shared mappings (MAP_SHARED) keep their policy in the inode, for every process that maps
# it; only these types may mean one.
_MAY_BE_SHARED = frozenset({RegionKind.SHARED, RegionKind.FILE, RegionKind.HUGETLB})


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A mapping (VMA) of a process, as read at one moment; the process may change it.

    Attributes:
        start: First address; page aligned.
        end: First address after it: ``[start, end)``.
        kind: What it is.
        shared: MAP_SHARED (``s`` in /proc/PID/maps).
        name: NAME of ``[anon:NAME]`` or ``[anon_shmem:NAME]`` (PR_SET_VMA_ANON_NAME), or empty.
        path: The file's path as the process sees it, without `` (deleted)``, or empty.
        policy: The policy that numa_maps shows: the mapping's own, or the task's.
        pages: Resident bytes per NUMA node, each more than 0.
        special: Never to be touched: [vdso], [vvar], [vsyscall], VM_PFNMAP and VM_IO mappings.
        page_size: Bytes of one page of the mapping (numa_maps ``kernelpagesize_kB``).
        permissions: As in /proc/PID/maps without the last letter, such as ``rw-``.
        own: The policy is the mapping's own, not the task's.
    """

    start: int
    end: int
    kind: RegionKind
    shared: bool = False
    name: str = ""
    path: str = ""
    policy: Policy = field(default_factory=lambda: Policy(Mode.DEFAULT))
    pages: Mapping[int, int] = field(default_factory=dict)
    special: bool = False
    page_size: int = 4096
    permissions: str = "rw-"
    own: bool = False

    @property
    def executable(self) -> bool:
        """Whether the process may run what is in it."""
        return self.permissions.endswith("x")

    @property
    def size(self) -> int:
        """Bytes of address space, resident or not."""
        return self.end - self.start

    @property
    def touchable(self) -> bool:
        """Whether any rule may ever touch it."""
        return not self.special and (not self.shared or self.kind in _MAY_BE_SHARED)

    @property
    def private_anonymous(self) -> bool:
        """Whether its pages belong to the process alone, or to it and forked children."""
        anonymous = self.kind in (
            RegionKind.HEAP,
            RegionKind.BRK,
            RegionKind.STACK,
            RegionKind.ANONYMOUS,
        )
        return anonymous and not self.shared

    def bytes_outside(self, nodes: frozenset[int]) -> int:
        """Return the resident bytes on other nodes than these."""
        return sum(size for node, size in self.pages.items() if node not in nodes)


def matches(entry: RegionEntry, region: Region) -> bool:
    """Return whether every key of the entry holds for the region.

    ``name`` and ``path`` are shell patterns; ``*`` also matches slashes. ``minSize`` and
    ``maxSize`` are inclusive bounds of the region's address space.
    """
    return (
        entry.type is region.kind
        and (not entry.name or fnmatchcase(region.name, entry.name))
        and (not entry.path or fnmatchcase(region.path, entry.path))
        and entry.min_bytes <= region.size
        and (entry.max_bytes is None or region.size <= entry.max_bytes)
    )


def winner(rules: tuple[Rule, ...], region: Region) -> Rule | None:
    """Return the first rule that means the region, or None.

    A rule means a region when one of its ``regions`` matches and none of its ``exclude``;
    no rule means a region that is not touchable.
    """
    if not region.touchable:
        return None
    return next((rule for rule in rules if _means(rule, region)), None)


def _means(rule: Rule, region: Region) -> bool:
    return any(matches(entry, region) for entry in rule.regions) and not any(
        matches(entry, region) for entry in rule.exclude
    )
