# SPDX-License-Identifier: Apache-2.0
"""The mappings of a process (VMAs), as many as it has, in little memory.

A view is four arrays and a few classes: what mappings have in common but their addresses.
Whoever asks something of all mappings asks the classes first.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import overload

from memplace.kinds import Policy

from memplace_agent.procfs.numa_maps import parse_policy_and_home
from memplace_agent.syscalls.views import RawClass, RawView

# A view of as many takes 112 MiB. vm.max_map_count is 65,530, or 1,048,576 where games run.
MAX_VMAS = 4 << 20

_LETTERS = ("---", "r--", "-w-", "rw-", "--x", "r-x", "-wx", "rwx")
_SHARED = 8


class PolicySource(IntEnum):
    """Whose policy PROCMAP_QUERY shows, PROCMAP_MPOL_* of the kernel."""

    TASK = 0
    VMA = 1
    SHARED = 2


@dataclass(frozen=True, slots=True)
class VmaClass:
    """What some mappings have in common.

    Attributes:
        permissions: Such as ``rw-``.
        shared: MAP_SHARED.
        inode: 0 without a file.
        device: Major and minor number of the file's file system.
        path: The last column of maps: a path, a name in brackets, or empty. Bytes that are
            no UTF-8 are surrogates (PEP 383).
        unnamed: There is a path, of more than 4,095 bytes, and nobody knows which.
        page_size: Bytes of a page; 0 if the kernel did not tell.
        policy: The policy in force, None if the kernel did not tell.
        home_node: Of the policy, None without one.
        source: Whose policy it is; None without one.
        flags: VmFlags of smaps, letter pairs with blanks between; empty if not told.
    """

    permissions: str
    shared: bool = False
    inode: int = 0
    device: tuple[int, int] = (0, 0)
    path: str = ""
    unnamed: bool = False
    page_size: int = 0
    policy: Policy | None = None
    home_node: int | None = None
    source: PolicySource | None = None
    flags: str = ""

    @property
    def whole_policy(self) -> Policy | None:
        """The policy with its home node, None if the kernel did not tell."""
        return self.policy and replace(self.policy, home_node=self.home_node)


@dataclass(frozen=True, slots=True)
class Vma:
    """One mapping, ``[start, end)``."""

    start: int
    end: int
    of: VmaClass

    @property
    def permissions(self) -> str:
        """Such as ``rw-``."""
        return self.of.permissions

    @property
    def shared(self) -> bool:
        """MAP_SHARED."""
        return self.of.shared

    @property
    def inode(self) -> int:
        """0 without a file."""
        return self.of.inode

    @property
    def path(self) -> str:
        """A path, a name in brackets, or empty."""
        return self.of.path

    @property
    def flags(self) -> str:
        """VmFlags of smaps; empty if not told."""
        return self.of.flags


@dataclass(frozen=True, slots=True)
class Vmas(Sequence[Vma]):
    """The mappings of a process in ascending order, none overlapping another.

    Attributes:
        starts: First addresses.
        ends: First addresses after them.
        class_of: For each the index of its class.
        classes: The classes; equal ones can be there twice.
        offsets: Where in its file each begins, 0 without a file.
        layout: Changes when the process maps, unmaps or names something, or changes
            permissions or a policy; comparable within this run of the agent only.
    """

    starts: array[int]
    ends: array[int]
    class_of: array[int]
    classes: Sequence[VmaClass]
    offsets: array[int]
    layout: int = 0

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Vma: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Vma]: ...
    def __getitem__(self, index: int | slice) -> Vma | Sequence[Vma]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Vma(self.starts[index], self.ends[index], self.classes[self.class_of[index]])

    def __iter__(self) -> Iterator[Vma]:
        classes = tuple(self.classes)
        for start, end, one in zip(self.starts, self.ends, self.class_of, strict=True):
            yield Vma(start, end, classes[one])

    def at(self, address: int) -> int | None:
        """Return the index of the mapping that holds an address, None if there is none."""
        index = bisect_right(self.starts, address) - 1
        return index if index >= 0 and address < self.ends[index] else None

    def of_classes(self, wanted: Iterable[int]) -> list[int]:
        """Return the indices of all mappings of these classes (indices, too), ascending."""
        chosen = frozenset(wanted)
        if not chosen:
            return []
        return [index for index, one in enumerate(self.class_of) if one in chosen]


class _Classes(Sequence[VmaClass]):
    # Made of what the kernel told when somebody asks: a look at what did not change does not.

    __slots__ = ("_made", "_raw")

    def __init__(self, raw: Sequence[RawClass]) -> None:
        self._raw = raw
        self._made: tuple[VmaClass, ...] | None = None

    def __len__(self) -> int:
        return len(self._raw)

    @overload
    def __getitem__(self, index: int) -> VmaClass: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[VmaClass]: ...
    def __getitem__(self, index: int | slice) -> VmaClass | Sequence[VmaClass]:
        if self._made is None:
            self._made = tuple(_class(one) for one in self._raw)
        return self._made[index]


EMPTY = Vmas(array("Q"), array("Q"), array("I"), (), array("Q"))


def vmas_of(view: RawView) -> Vmas:
    """Make what C read into what the agent works with.

    Classes are made when they are asked for, which raises ParseError for a policy that no
    kernel prints.
    """
    arrays = view.starts, view.ends, view.class_of, view.offsets
    layout = hash((*(one.tobytes() for one in arrays), view.classes))
    classes = _Classes(view.classes)
    return Vmas(view.starts, view.ends, view.class_of, classes, view.offsets, layout)


def _class(raw: RawClass) -> VmaClass:
    policy, home, source = None, None, None
    if raw.policy:
        policy, home = parse_policy_and_home(raw.policy.decode("ascii", "replace"))
        source = PolicySource(raw.source)
    return VmaClass(
        permissions=_LETTERS[raw.permissions & 7],
        shared=bool(raw.permissions & _SHARED),
        inode=raw.inode,
        device=raw.device,
        path=raw.name.decode("utf-8", "surrogateescape"),
        unnamed=raw.unnamed,
        page_size=raw.page_size,
        policy=policy,
        home_node=home,
        source=source,
        flags=raw.flags.decode("ascii", "replace"),
    )
