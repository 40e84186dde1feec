# SPDX-License-Identifier: Apache-2.0
"""What is in memory of our own reservations, as PAGEMAP_SCAN tells on this kernel."""

import mmap
import os
import platform
import random
import time
from pathlib import Path

import pytest
from memplace.residency import Span
from memplace_agent.procfs.present import present
from memplace_agent.procfs.sample import sample

from tests.unit.agent_pkg.test_sample import address_of

PAGE = mmap.PAGESIZE
SELF = Path("/proc/self")
TIB = 1 << 40
KERNEL = tuple(int(part) for part in platform.release().split(".")[:2])
MAP_NORESERVE = 0x4000


@pytest.fixture
def reservation():
    """16 TiB; its begin, and the ranges of it that are in memory."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    with mmap.mmap(-1, 16 * TIB, flags=flags) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        start, ranges = address_of(area), []
        for at, pages in ((0, 1), (5 * TIB + 7 * PAGE, 3000), (16 * TIB - PAGE, 1)):
            for page in range(pages):
                area[at + page * PAGE] = 1
            ranges.append((start + at, start + at + pages * PAGE))
        yield start, ranges


def joined(parts):
    whole = []
    for start, end in parts:
        if whole and whole[-1][1] == start:
            start = whole.pop()[0]
        whole.append((start, end))
    return whole


needs_it = pytest.mark.skipif(KERNEL < (6, 7), reason="Linux 6.7 has PAGEMAP_SCAN")


@needs_it
def test_it_is_found_in_no_time(reservation):
    start, ranges = reservation
    begin = time.thread_time()
    found = present(SELF, [(start, start + TIB), (start + TIB, start + 16 * TIB)])
    assert time.thread_time() - begin < 0.1
    assert joined(found) == ranges


@needs_it
def test_too_much_is_told_as_such(reservation):
    start, _ = reservation
    assert present(SELF, [(start, start + 16 * TIB)], most_pages=3002) is not None
    assert present(SELF, [(start, start + 16 * TIB)], most_pages=3001) is None


@needs_it
def test_of_a_vast_reservation_all_is_known(reservation):
    start, _ = reservation
    spans = [Span(start + 8 * TIB, start + 16 * TIB), Span(start, start + 8 * TIB)]
    found = sample(
        os.getpid(),
        spans,
        float("inf"),
        is_alive=lambda: True,
        draw=random.Random(1),
        narrow=lambda asked: present(SELF, asked),
    )
    assert (found.exact, found.resident, found.total) == (True, 3002 * PAGE, 16 * TIB)
    assert {i: sum(pages.values()) for i, pages in found.by_span.items()} == {
        0: PAGE,
        1: 3001 * PAGE,
    }


def test_who_has_no_memory_is_nobodys_error(leaderless):
    assert present(Path(f"/proc/{leaderless.pid}"), [(0, TIB)]) in (None, [])
    assert present(Path("/proc/0"), [(0, TIB)]) is None
