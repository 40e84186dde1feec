# SPDX-License-Identifier: Apache-2.0
"""Regions of an address space."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field, structs

from memplace.kinds import Mode, Policy, RegionKind
from memplace.objects import ObjectId

_NO_POLICY = Policy(Mode.DEFAULT)


# Not a dataclass: a look makes one or two for each mapping, and a struct is made in a tenth of
# the time. gc=False: nothing that it holds can hold a region.
class Region(Struct, frozen=True, kw_only=True, gc=False):
    """A mapping (VMA) of a process, as read at one moment; the process may change it.

    Attributes:
        start: First address; page aligned.
        end: First address after it: ``[start, end)``.
        kind: What it is; never Heap, which is BRK and ANONYMOUS together.
        shared: MAP_SHARED (``s`` in /proc/PID/maps).
        name: NAME of ``[anon:NAME]`` or ``[anon_shmem:NAME]`` (PR_SET_VMA_ANON_NAME), or empty.
        path: The file's path as the process sees it, without `` (deleted)``, or empty.
        policy: The policy that numa_maps shows: the mapping's own, or the task's.
        pages: Resident bytes per NUMA node, each more than 0.
        special: Never to be touched: [vdso], [vvar], [vsyscall], VM_PFNMAP and VM_IO mappings.
        page_size: Bytes of one page of the mapping (numa_maps ``kernelpagesize_kB``).
        permissions: As in /proc/PID/maps without the last letter, such as ``rw-``.
        own: The policy is the mapping's own, not the task's.
        policy_is_whole: The kernel's text of the policy was not cut off; otherwise it has the
            nodes that are sure.
        object: What it is a mapping of; None for private anonymous memory.
        offset: Where in that it begins, in bytes.
    """

    start: int
    end: int
    kind: RegionKind
    shared: bool = False
    name: str = ""
    path: str = ""
    policy: Policy = _NO_POLICY
    pages: Mapping[int, int] = field(default_factory=dict)
    special: bool = False
    page_size: int = 4096
    permissions: str = "rw-"
    own: bool = False
    policy_is_whole: bool = True
    object: ObjectId | None = None
    offset: int = 0

    @property
    def executable(self) -> bool:
        """Whether the process may run what is in it."""
        return self.permissions.endswith("x")

    @property
    def size(self) -> int:
        """Bytes of address space, resident or not."""
        return self.end - self.start

    @property
    def private_anonymous(self) -> bool:
        """Whether its pages belong to the process alone, or to it and forked children."""
        anonymous = self.kind in (RegionKind.BRK, RegionKind.STACK, RegionKind.ANONYMOUS)
        return anonymous and not self.shared

    @property
    def in_object(self) -> bool:
        """Whether its policy may be that of an object, in force for all who map it.

        Not so huge pages of a pool: there each mapping has its own.
        """
        return self.shared and self.kind is not RegionKind.HUGETLB

    def like(self, policy: Policy) -> Region:
        """Return the same region with this policy."""
        return structs.replace(self, policy=policy)

    def holding(self, pages: Mapping[int, int]) -> Region:
        """Return the same region with these pages."""
        return structs.replace(self, pages=pages)

    def bytes_outside(self, nodes: frozenset[int]) -> int:
        """Return the resident bytes on other nodes than these."""
        return sum(size for node, size in self.pages.items() if node not in nodes)
