# SPDX-License-Identifier: Apache-2.0
"""Mappings and pages of a process as arrays: what C reads, copied out of C.

Mappings that differ only in their addresses share a class, so that 65,530 of them are four
arrays and a few dozen classes.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, overload

from memplace_agent._memplace_sys import ffi, lib

_SIZE = ffi.sizeof("struct memplace_class")
_USED = ffi.offsetof("struct memplace_class", "flags_size") + 4


class Ended(IntEnum):
    """How a read ended."""

    COMPLETE = 0
    LATE = 1  # the deadline passed
    TOO_MANY = 2  # more mappings than the caller allows
    BAD_TEXT = 3  # not a text of that file
    CUT = 4  # the address space went away meanwhile, or a line has no end
    FAILED = 5  # an errno


@dataclass(frozen=True, slots=True)
class RawClass:
    """What mappings have in common; texts as the kernel gives them.

    Attributes:
        permissions: 1 read, 2 write, 4 execute, 8 shared.
        inode: 0 without a file.
        device: Major and minor number.
        page_size: Bytes; 0 if not known.
        unnamed: Its path is too long for the kernel to tell it here.
        name: The last column of maps, newlines unescaped.
        policy: Its memory policy, empty if not asked for.
        source: PROCMAP_MPOL_*: whose policy that is.
        flags: VmFlags of smaps, empty if not asked for.
    """

    permissions: int
    inode: int
    device: tuple[int, int]
    page_size: int
    unnamed: bool
    name: bytes
    policy: bytes
    source: int
    flags: bytes


@dataclass(frozen=True, slots=True)
class RawView:
    """Mappings in ascending order, none overlapping another.

    Attributes:
        ended: How the read ended; unless COMPLETE, there may be more mappings.
        errno: If it FAILED.
        starts: First addresses.
        ends: First addresses after them.
        class_of: For each its class, an index.
        classes: The classes; equal ones can be there twice.
        offsets: Where in its file each begins, 0 without a file.
    """

    ended: Ended
    errno: int
    starts: array[int]
    ends: array[int]
    class_of: array[int]
    classes: Sequence[RawClass]
    offsets: array[int]


@dataclass(frozen=True, slots=True)
class _Classes(Sequence[RawClass]):
    # As C has them: mostly nobody asks for more than whether they are others by now.
    members: tuple[bytes, ...]
    text: bytes

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> RawClass: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RawClass]: ...
    def __getitem__(self, index: int | slice) -> RawClass | Sequence[RawClass]:
        if isinstance(index, slice):
            return replace(self, members=self.members[index])
        one, text = ffi.from_buffer("struct memplace_class *", self.members[index]), self.text
        return RawClass(
            permissions=one.permissions,
            inode=one.inode,
            device=(one.dev_major, one.dev_minor),
            page_size=one.page_size,
            unnamed=bool(one.unnamed),
            name=text[one.name : one.name + one.name_size],
            policy=text[one.policy : one.policy + one.policy_size],
            source=one.source,
            flags=text[one.flags : one.flags + one.flags_size],
        )


def parse_maps(text: bytes, limit: int) -> RawView:
    """Parse the text of /proc/PID/maps, at most ``limit`` mappings."""
    return _view(limit, lambda view: lib.memplace_parse_maps(view, text, len(text)))


def read_maps(fd: int, limit: int, deadline: float) -> RawView:
    """Read and parse /proc/PID/maps.

    Each read(2) of 4 KiB takes the target's mmap_lock for as long as it takes to print some 50
    lines (none on Linux 6.17 and later); no page table is walked.

    Args:
        fd: The file, at its begin.
        limit: How many mappings at most.
        deadline: As of `time.monotonic`. It ends the read between two parts of it: not while
            the kernel waits for the target.
    """
    until = _nanoseconds(deadline)
    return _view(limit, lambda view: lib.memplace_read_maps(fd, view, until))


def query_maps(fd: int, limit: int, deadline: float, *, policy: bool) -> RawView:
    """Read the mappings of /proc/PID/maps with the ioctl PROCMAP_QUERY (Linux 6.11).

    Args:
        fd: The file.
        limit: How many mappings at most.
        deadline: As of `read_maps`.
        policy: Ask for policy and flags, too, which only kernels with memplace's series know
            (``procmap_query_size`` of at least 136 in sysfs); others FAIL with E2BIG.

    Returns:
        FAILED with ENOTTY on kernels before 6.11, ESRCH if there is no address space.

    Source: Linux kernel commit ed5d583a88a9 ("fs/procfs: implement efficient VMA querying API for
    /proc/<pid>/maps") (in v6.11).
    """
    until = _nanoseconds(deadline)
    return _view(limit, lambda view: lib.memplace_query_maps(fd, view, policy, until))


def _nanoseconds(deadline: float) -> int:
    # time.monotonic() is CLOCK_MONOTONIC, which the C side asks.
    left = min(max(deadline - time.monotonic(), 0.0), 3600.0)
    return time.monotonic_ns() + int(left * 1e9)


def _view(limit: int, read: Callable[[Any], int]) -> RawView:
    view = lib.memplace_view_new(limit)
    if view == ffi.NULL:
        raise MemoryError("no memory for the mappings of a process")
    try:
        outcome = read(view)
        count = view.count
        return RawView(
            ended=Ended.FAILED if outcome < 0 else Ended(outcome),
            errno=max(-outcome, 0),
            starts=_array("Q", view.starts, count),
            ends=_array("Q", view.ends, count),
            class_of=_array("I", view.class_of, count),
            classes=_classes(view),
            offsets=_array("Q", view.offsets, count),
        )
    finally:
        lib.memplace_view_free(view)


def _array(typecode: str, pointer: Any, count: int) -> array[int]:
    copy: array[int] = array(typecode)
    if count:
        copy.frombytes(ffi.buffer(pointer, count * copy.itemsize))
    return copy


def _classes(view: Any) -> _Classes:
    if not view.class_count:
        return _Classes((), b"")
    whole = bytes(ffi.buffer(view.classes, view.class_count * _SIZE))
    # What the compiler leaves free at the end of each has no say in whether two are equal.
    members = tuple(
        whole[at : at + _USED].ljust(_SIZE, b"\0") for at in range(0, len(whole), _SIZE)
    )
    return _Classes(members, bytes(ffi.buffer(view.text, view.text_used)))


def page_nodes(pid: int, addresses: Sequence[int]) -> array[int]:
    """Ask where pages of a process are, with move_pages(2) that moves nothing.

    The kernel takes the target's mmap_lock, for reading, for 16 pages at a time, and looks up
    each by itself: nobody waits for long, however large the process is.

    Args:
        pid: The process. A pid can be used again: whoever holds a pidfd looks after the call
            whether the process still lives, as then it has been this one all the time.
        addresses: Of pages; anything in them.

    Returns:
        For each its node, or a negative errno: ENOENT, not in memory; EFAULT, not mapped, or
        the page of zeros.

    Raises:
        OSError: ESRCH, no such process; EINVAL, it has no address space (its first thread
            has ended, or it is a thread of the kernel); EPERM, not allowed to read it, or a
            seccomp filter refuses the call.
    """
    pages = array("Q", addresses)
    status = array("i", bytes(4 * len(pages)))
    done = lib.memplace_page_nodes(
        pid,
        len(pages),
        ffi.from_buffer("uint64_t[]", pages),
        ffi.from_buffer("int[]", status, require_writable=True),
    )
    if done < 0:
        number = ffi.errno
        raise OSError(number, f"move_pages: errno {number}")
    return status
