# SPDX-License-Identifier: Apache-2.0
"""Join maps and numa_maps of a process into the core's regions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise

from memplace.kinds import Mode, Policy, RegionKind
from memplace.regions import Region

from memplace_agent.procfs.maps import Mapping, parse_maps
from memplace_agent.procfs.numa_maps import NumaMapping, parse_numa_maps

__all__ = ["AddressSpace", "join", "layout_of"]

_DELETED = " (deleted)"
_DEFAULT = Policy(Mode.DEFAULT)
# Files of tmpfs without a name, and the shared memory that has one by convention.
_SHMEM = ("/memfd:", "/SYSV", "/dev/shm/", "/dev/zero", "[anon_shmem:")
_NO_DEVICE = ("/dev/shm/", "/dev/zero", "/dev/hugepages/")
# What lies below a thread's stack: glibc's is a page, musl's two, a JVM's zones five.
_LARGEST_GUARD = 64 << 10
# Default sizes are 8 MiB (glibc), 128 KiB (musl), 1 MiB (a JVM); 10 MiB where a
# distribution raised the limit. Beyond that it takes a stack pointer to tell.
_LARGEST_STACK = 16 << 20
_SMALLEST_STACK = 16 << 10  # PTHREAD_STACK_MIN


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """What a process had mapped at one moment.

    Attributes:
        regions: In ascending address order; the process may change them any time.
        task_policy: What numa_maps shows for a mapping without a policy of its own.
        layout: Changes when the process maps or unmaps something (see `layout_of`).
        unknown: Ranges, first address and first address after it, that were mapped but
            changed while they were read; ascending, not overlapping, and not in ``regions``.
    """

    regions: tuple[Region, ...]
    task_policy: Policy
    layout: int = 0
    unknown: tuple[tuple[int, int], ...] = ()

    def own_policy(self, policy: Policy) -> Policy:
        """Return the policy that a mapping has if this is what numa_maps shows for it.

        A mapping without one shows the task's; giving it a copy of that would outlive a
        later set_mempolicy() of the process.
        """
        return _DEFAULT if policy == self.task_policy else policy


def join(
    maps: str, numa_maps: str, maps_after: str, *, stack_pointers: Collection[int] = ()
) -> AddressSpace:
    """Join the texts of one process, read in this order, into regions.

    Args:
        maps: /proc/PID/maps.
        numa_maps: /proc/PID/numa_maps.
        maps_after: /proc/PID/maps again: a mapping that changed meanwhile is unknown,
            for its policy may belong to another one; the next pass sees it.
        stack_pointers: Those of its threads, where they are known.

    Raises:
        ParseError: One of the texts is none of that file.
    """
    before, after = parse_maps(maps), parse_maps(maps_after)
    numa = {mapping.start: mapping for mapping in parse_numa_maps(numa_maps)}
    stable = {m for m in {*before} & {*after} if m.start in numa}
    pairs = [(m, numa[m.start]) for m in before if m in stable]
    task_policy = next((n.policy for m, n in pairs if m.path == "[vdso]"), _DEFAULT)
    stacks = _thread_stacks(before, stack_pointers)
    return AddressSpace(
        tuple(_region(m, n, task_policy, is_stack=m.start in stacks) for m, n in pairs),
        task_policy,
        # Of the first text: what changed while reading has to look like a change later.
        layout_of(maps),
        _union((m.start, m.end) for m in {*before, *after} - stable),
    )


def _union(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return tuple(joined)


def layout_of(maps: str) -> int:
    """Return a number that changes with the text of maps, within this run of the agent."""
    return hash(maps)


def _thread_stacks(
    mappings: tuple[Mapping, ...], stack_pointers: Collection[int]
) -> frozenset[int]:
    # Start addresses of mappings that look like stacks: writable memory right above a guard
    # that is small, and itself not large unless a thread's stack pointer is in it. The guard
    # tells a stack from an arena: Go keeps its stacks in its heap.
    pointers = sorted(stack_pointers)
    return frozenset(
        mapping.start
        for guard, mapping in pairwise(mappings)
        if _is_guard(guard)
        and guard.end == mapping.start
        and _is_unnamed(mapping, "rw-")
        and (_is_usual_stack(mapping.end - mapping.start) or _holds(mapping, pointers))
    )


def _is_usual_stack(size: int) -> bool:
    return _SMALLEST_STACK <= size <= _LARGEST_STACK


def _is_guard(mapping: Mapping) -> bool:
    return _is_unnamed(mapping, "---") and mapping.end - mapping.start <= _LARGEST_GUARD


def _is_unnamed(mapping: Mapping, permissions: str) -> bool:
    private = not mapping.shared and not mapping.inode and not mapping.path
    return private and mapping.permissions == permissions


def _holds(mapping: Mapping, pointers: list[int]) -> bool:
    # A stack pointer of an empty stack is the address right after it.
    after = bisect_right(pointers, mapping.start)
    return after < len(pointers) and pointers[after] <= mapping.end


def _region(mapping: Mapping, numa: NumaMapping, task_policy: Policy, *, is_stack: bool) -> Region:
    path = mapping.path.removesuffix(_DELETED)
    return Region(
        start=mapping.start,
        end=mapping.end,
        kind=RegionKind.STACK if is_stack else _kind(mapping, path, huge=numa.huge),
        shared=mapping.shared,
        name=_name(path),
        path=path if path.startswith("/") else "",
        policy=numa.policy,
        pages=numa.pages,
        special=_is_special(path) or not numa.policy_is_whole,
        page_size=numa.page_size,
        permissions=mapping.permissions,
        # A mapping with a policy like the task's can't be told from one without.
        own=numa.policy != task_policy,
    )


def _kind(mapping: Mapping, path: str, *, huge: bool) -> RegionKind:
    if huge:
        return RegionKind.HUGETLB
    if path == "[heap]":
        return RegionKind.BRK
    if path == "[stack]":
        return RegionKind.STACK
    anonymous = not mapping.inode or path == "/dev/zero"
    if anonymous and not mapping.shared:
        return RegionKind.ANONYMOUS
    if anonymous or path.startswith(_SHMEM):
        return RegionKind.SHARED
    return RegionKind.FILE


def _name(path: str) -> str:
    # [anon:NAME], [anon_shmem:NAME]; a name may hold brackets and colons itself.
    prefix, colon, rest = path.partition(":")
    return rest.removesuffix("]") if colon and prefix in ("[anon", "[anon_shmem") else ""


def _is_special(path: str) -> bool:
    # [vdso], [vvar], [vsyscall] and what later kernels add; the kernel refuses to split them.
    if path.startswith("["):
        return not (path in ("[heap]", "[stack]") or path.startswith(("[anon:", "[anon_shmem:")))
    # Neither /proc/PID/maps nor numa_maps shows VM_PFNMAP or VM_IO: what maps a device or an
    # object of the kernel (anon_inode:, socket:) is taken for such.
    device = path.startswith("/dev/") and not path.startswith(_NO_DEVICE)
    return device or bool(path and not path.startswith("/"))
