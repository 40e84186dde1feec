# SPDX-License-Identifier: Apache-2.0
"""Which pages nobody else maps, as this kernel says of processes that are there."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

from memplace_agent.procfs.exclusive import exclusive

PAGE = mmap.PAGESIZE
OWN = Path("/proc/self")


def filled(pages, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
    memory = mmap.mmap(-1, pages * PAGE, flags)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(pages):
        memory[page * PAGE] = 1
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def test_pages_are_ours_until_a_child_has_them_and_again_when_we_write_to_them():
    memory, start = filled(8)
    addresses = [start + page * PAGE for page in range(8)]
    assert exclusive(OWN, addresses) == [True] * 8
    (low, up), (down, high) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        memory[0] = 2
        os.write(up, b".")
        os.read(down, 1)
        os._exit(0)
    os.read(low, 1)
    try:
        assert exclusive(OWN, addresses) == [True] + [False] * 7
        assert exclusive(Path(f"/proc/{child}"), addresses) == [True] + [False] * 7
        memory[PAGE] = 2
        assert exclusive(OWN, addresses) == [True] * 2 + [False] * 6
    finally:
        os.write(high, b".")
        os.waitpid(child, 0)
    assert exclusive(OWN, addresses) == [True] * 8


def test_of_whom_it_cannot_be_told():
    assert exclusive(Path("/proc/0"), [PAGE]) is None
