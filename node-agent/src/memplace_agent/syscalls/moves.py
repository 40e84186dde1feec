# SPDX-License-Identifier: Apache-2.0
"""move_pages(2) that moves: any kernel has it that has NUMA nodes and can migrate pages."""

from __future__ import annotations

import errno
import mmap
import os
from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from memplace.errors import (
    FeatureUnavailable,
    KernelWithoutMovePages,
    SeccompFiltered,
)

from memplace_agent._memplace_sys import ffi, lib
from memplace_agent.syscalls import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL
from memplace_agent.syscalls.views import page_nodes

# The status of a page that the kernel says nothing of; none that it ever writes.
NOT_TOLD = -errno.EINPROGRESS


class MovesPages(Protocol):
    """As `move_pages`; a test has a machine of its own."""

    def __call__(  # noqa: D102
        self, pid: int, addresses: Sequence[int], nodes: Sequence[int], *, move_all: bool
    ) -> Sequence[int]: ...


def move_pages(
    pid: int, addresses: Sequence[int], nodes: Sequence[int], *, move_all: bool
) -> array[int]:
    """Move pages of a process, each to a node of its own.

    The kernel takes the target's mmap_lock, for reading, for each page by itself, and migrates
    those for one node together.

    Args:
        pid: The process; 0 is the caller. A pid can be used again: whoever holds a pidfd looks
            before the call whether the process still lives.
        addresses: Of pages.
        nodes: For each where it is to go.
        move_all: Move pages that other processes map as well; needs CAP_SYS_NICE.

    Returns:
        For each page the node it is on, or a negative errno: ENOENT, not in memory; EBUSY, it
        is pinned or in use; EACCES, other processes map it. `NOT_TOLD` of pages that stand
        between two such, or after the last, when one of them does not move: all before the
        last that is told were tried, those after it perhaps not.

    Raises:
        OSError: ESRCH, no such process; EINVAL, it has no address space; EPERM, not allowed;
            EACCES, the process's cpuset has not the node; ENODEV, the node has no memory.

    Source: move_pages(2); linux ``mm/migrate.c:do_pages_move()``.
    """
    pages = array("Q", addresses)
    status = array("i", [NOT_TOLD]) * len(pages)
    done = lib.memplace_move_pages(
        pid,
        len(pages),
        ffi.from_buffer("uint64_t[]", pages),
        ffi.from_buffer("int[]", array("i", nodes)),
        ffi.from_buffer("int[]", status, require_writable=True),
        MPOL_MF_MOVE_ALL if move_all else MPOL_MF_MOVE,
    )
    if done < 0:
        number = ffi.errno
        raise OSError(number, f"move_pages: errno {number}")
    return status


def why_no_moves(
    move: MovesPages = move_pages,
    ask: Callable[[int, Sequence[int]], Sequence[int]] = page_nodes,
    *,
    move_all: bool = True,
) -> FeatureUnavailable | None:
    """Find out what keeps this agent from moving pages, by moving one of its own to where it is.

    Args:
        move: Makes the call; a test gives another.
        ask: Tells where a page is.
        move_all: As the agent does; takes SYS_NICE, without which the kernel may well be able.
    """
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        page[0] = 1
        view = ffi.from_buffer("char[]", page)
        try:
            return _try(int(ffi.cast("uintptr_t", view)), move, ask, move_all=move_all)
        finally:
            ffi.release(view)


def _try(
    address: int,
    move: MovesPages,
    ask: Callable[[int, Sequence[int]], Sequence[int]],
    *,
    move_all: bool,
) -> FeatureUnavailable | None:
    try:
        (node,) = ask(0, [address])
        (found,) = move(0, [address], [node], move_all=move_all)
    except OSError as err:
        number = err.errno or errno.EIO
        if number == errno.ENOSYS:
            return KernelWithoutMovePages(number, "this kernel has no move_pages().")
        if number == errno.EPERM:
            # A filter's answer as well as that of a kernel to one without SYS_NICE.
            return SeccompFiltered(number, "move_pages() is refused to the agent (EPERM).")
        return FeatureUnavailable(number, f"move_pages() fails: {os.strerror(number)}.")
    if found != node or node < 0:
        return FeatureUnavailable(errno.EIO, f"move_pages() answers {found} for a page on {node}.")
    return None
