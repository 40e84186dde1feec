# SPDX-License-Identifier: Apache-2.0
"""What a mapping is for: heap, stack, file, shared memory, or nothing to touch.

/proc/PID/maps does not tell a thread's stack from any other anonymous memory. Two things do:
mmap(MAP_STACK) leaves VM_NOHUGEPAGE behind (Linux 6.7; libcs that follow glibc ask so), and a
thread's stack pointer lies in it. Neither is enough alone: heaps are kept from huge pages with
madvise(), and the runtime of Go runs threads on stacks that are objects of its heap. What
heaps do not have is a small guard right below, so a stack is what has one, too.

Source: Linux kernel commit c4608d1bf7c6 ("mm: mmap: map MAP_STACK to VM_NOHUGEPAGE"), which
stable kernels took over into 6.7.y.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from memplace.kinds import RegionKind

# Guards are a page (glibc), 8 KiB (musl), or some pages (Java); what programs reserve of their
# address space for a heap or leave between two (Go: 4 MiB, ASAN: terabytes) is larger.
_LARGEST_GUARD = 1 << 20
# Without the flag the kernel merges a stack with anonymous memory above it (musl): one that is
# larger is heap for the most part. Threads have 8 MiB by default, 128 KiB with musl.
_LARGEST_STACK = 64 << 20
# What the kernel puts after the path of a file that was removed or replaced.
DELETED = " (deleted)"

# Files of tmpfs without a name, and the shared memory that has one by convention.
_SHMEM = ("/memfd:", "/SYSV", "/dev/shm/", "/dev/zero", "[anon_shmem:")
_NO_DEVICE = ("/dev/shm/", "/dev/zero", "/dev/hugepages/")
# Besides device files those of PCI devices and buffers that drivers share.
_DEVICES = ("/dev/", "/sys/", "/proc/", "/dmabuf:")
_NAMED = ("[anon:", "[anon_shmem:")


class Mapped(Protocol):
    """One mapping, as /proc/PID/maps or PROCMAP_QUERY tells it.

    Attributes:
        start: First address.
        end: First address after it.
        permissions: ``r``, ``w`` and ``x``, or ``-`` for each that it has not: ``rw-``.
        shared: MAP_SHARED.
        inode: 0 for memory without a file.
        path: A path, a name in brackets, or empty.
        flags: ``VmFlags`` of smaps, letter pairs with blanks between; empty if not known.
    """

    @property
    def start(self) -> int: ...  # noqa: D102
    @property
    def end(self) -> int: ...  # noqa: D102
    @property
    def permissions(self) -> str: ...  # noqa: D102
    @property
    def shared(self) -> bool: ...  # noqa: D102
    @property
    def inode(self) -> int: ...  # noqa: D102
    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def flags(self) -> str: ...  # noqa: D102


def thread_stacks(
    mappings: Sequence[Mapped], pointers: Iterable[int], seen: Collection[int] = ()
) -> frozenset[int]:
    """Return the first addresses of the mappings that are stacks of threads, or their guards.

    The main thread's is not among them: maps names it, and `kind_of` reads that. Without
    flags only stacks with a pointer are found. A stack without a guard is taken for heap,
    and what the kernel has merged with a stack (it does if both have the same flags) for stack.

    Args:
        mappings: Of one process, in ascending address order.
        pointers: Stack pointers of its threads, of any moment since it was last read; an
            address where nothing is mapped does no harm.
        seen: What this function returned before: a thread that is on another stack now (of a
            signal handler, say) does not make the one it left heap.
    """
    held = _holders(mappings, pointers)
    stacks: set[int] = set()
    for index, mapping in enumerate(mappings):
        if not _may_be_stack(mapping):
            continue
        guard = _guard_of(mapping, mappings[index - 1]) if index else None
        if _is_stack(mapping, guard, held=index in held or mapping.start in seen):
            stacks.add(mapping.start)
            if guard is not None:
                stacks.add(guard.start)
    return frozenset(stacks)


def _holders(mappings: Sequence[Mapped], pointers: Iterable[int]) -> set[int]:
    """Return the indices of the mappings that have a pointer in them."""
    starts = [mapping.start for mapping in mappings]
    found = set()
    for pointer in pointers:
        index = bisect_right(starts, pointer) - 1
        if index >= 0 and pointer < mappings[index].end:
            found.add(index)
    return found


def _may_be_stack(mapping: Mapped) -> bool:
    # Programs that ask for executable stacks have them for threads, too.
    return mapping.permissions in ("rw-", "rwx") and _is_private_anonymous(mapping)


def _is_private_anonymous(mapping: Mapped) -> bool:
    named = not mapping.path or mapping.path.startswith("[anon:")
    return named and not mapping.inode and not mapping.shared


def _guard_of(mapping: Mapped, below: Mapped) -> Mapped | None:
    small = below.end - below.start <= _LARGEST_GUARD
    adjacent = below.end == mapping.start and below.permissions == "---"
    return below if small and adjacent and _is_private_anonymous(below) else None


def _is_stack(mapping: Mapped, guard: Mapped | None, *, held: bool) -> bool:
    if not _mapped_as_stack(mapping):
        return held and guard is not None and mapping.end - mapping.start <= _LARGEST_STACK
    # MADV_GUARD_INSTALL (glibc 2.42) makes guards without a mapping of their own. Linux kernel
    # commit 662df3e5c376 ("mm: madvise: implement lightweight guard page mechanism") (in v6.13)
    if "gu" in mapping.flags:
        return True
    # A guard that is cut from what mmap(MAP_STACK) returned has its flag; Java maps its own.
    return guard is not None and (held or _mapped_as_stack(guard))


def _mapped_as_stack(mapping: Mapped) -> bool:
    return "nh" in mapping.flags


def kind_of(mapping: Mapped, stacks: Collection[int]) -> RegionKind:
    """Return the kind of a mapping, given what `thread_stacks` returned for its process.

    What is executable keeps the kind of its memory; a rule on heap leaves it out by its
    permissions.
    """
    path = mapping.path.removesuffix(DELETED)
    if "ht" in mapping.flags or path.startswith("/anon_hugepage"):
        return RegionKind.HUGETLB
    # VM_GROWSDOWN: a part of the main thread's stack that maps does not name
    if path == "[stack]" or "gd" in mapping.flags or mapping.start in stacks:
        return RegionKind.STACK
    if path == "[heap]":
        return RegionKind.BRK
    anonymous = not mapping.inode or path == "/dev/zero"
    if anonymous and not mapping.shared:
        return RegionKind.ANONYMOUS
    if anonymous or path.startswith(_SHMEM):
        return RegionKind.SHARED
    return RegionKind.FILE


def is_special(mapping: Mapped) -> bool:
    """Return whether the mapping is never to be touched: of the kernel, or of a device.

    Where flags are known, VM_PFNMAP and VM_IO tell; else, and for what the kernel names in
    brackets, the path does: [vdso], [vvar], device files, anon_inode:, socket:. Without flags a
    file below /sys or /proc is a device's as well: nothing else there can be mapped.
    """
    path = mapping.path
    if "pf" in mapping.flags or "io" in mapping.flags:
        return True
    if path.startswith("["):
        return not (path in ("[heap]", "[stack]") or path.startswith(_NAMED))
    device = path.startswith(_DEVICES) and not path.startswith(_NO_DEVICE)
    return device or bool(path and not path.startswith("/"))
