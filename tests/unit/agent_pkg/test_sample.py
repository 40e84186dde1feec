# SPDX-License-Identifier: Apache-2.0
"""Where our own pages are, as move_pages(2) tells on this kernel, whichever it is."""

import errno
import mmap
import os
import random
import subprocess
import sys
import time
from array import array

import pytest
from memplace.errors import ProcessGone
from memplace.residency import EXACT_PAGES, POINTS, Span
from memplace_agent.errors import DeadlinePassed, TryAgain
from memplace_agent.procfs.sample import sample
from memplace_agent.syscalls import RunningKernel
from memplace_agent.syscalls.views import page_nodes

PAGE = mmap.PAGESIZE
FAR = float("inf")


@pytest.fixture
def memory():
    """Private anonymous memory in small pages: 96 MiB, of which each fourth page is in use."""
    with mmap.mmap(-1, 96 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        for offset in range(0, len(area), 4 * PAGE):
            area[offset] = 1
        yield area


def address_of(area):
    from memplace_agent._memplace_sys import ffi

    return int(ffi.cast("uintptr_t", ffi.from_buffer(area)))


def look(span, **how):
    draw = random.Random(1)
    return sample(os.getpid(), [span], FAR, is_alive=lambda: True, draw=draw, **how)


def test_few_pages_are_all_looked_at(memory):
    start = address_of(memory)
    found = look(Span(start, start + 64 * PAGE))
    assert found.exact
    assert (found.points, found.hits, found.resident) == (64, 16, 16 * PAGE)


def test_of_many_pages_a_sample_tells(memory):
    start = address_of(memory)
    found = look(Span(start, start + len(memory)))
    assert not found.exact
    assert found.error <= 0.02
    assert POINTS <= found.points < EXACT_PAGES * 2
    assert abs(found.resident - len(memory) // 4) <= found.resident_error < 3 << 20


def test_the_page_of_zeros_and_what_is_not_mapped_are_not_resident(memory):
    start = address_of(memory)
    assert memory[PAGE] == 0
    statuses = page_nodes(os.getpid(), [start + PAGE, start + 2 * PAGE, 4096])
    assert list(statuses) == [-errno.EFAULT, -errno.ENOENT, -errno.EFAULT]
    assert look(Span(start, start + 4 * PAGE)).resident == PAGE


def test_after_the_deadline_nothing_is_asked(memory):
    asked = []
    start = address_of(memory)
    # On a busy machine it takes a while until the first call.
    deadline = time.monotonic() + 1

    def slow(_pid, pages):
        asked.append(pages)
        time.sleep(max(0.0, deadline - time.monotonic()))
        return array("i", bytes(4 * len(pages)))

    with pytest.raises(DeadlinePassed):
        sample(
            os.getpid(),
            [Span(start, start + len(memory))],
            deadline,
            is_alive=lambda: True,
            ask=slow,
        )
    assert len(asked) == 1


def test_a_process_that_ended_is_gone():
    child = subprocess.Popen([sys.executable, "-c", ""])
    kernel = RunningKernel(None)
    pidfd = kernel.pidfd_open(child.pid)
    child.wait()
    with pytest.raises(ProcessGone):
        sample(child.pid, [Span(0, PAGE)], FAR, is_alive=lambda: kernel.is_alive(pidfd))
    os.close(pidfd)


def test_pages_of_a_pid_that_changed_hands_are_dropped(memory):
    start = address_of(memory)
    with pytest.raises(ProcessGone):
        sample(os.getpid(), [Span(start, start + PAGE)], FAR, is_alive=lambda: False)


def test_a_process_whose_first_thread_ended_is_no_empty_one(leaderless):
    with pytest.raises(TryAgain, match="its first thread has ended"):
        sample(leaderless.pid, [Span(0, PAGE)], FAR, is_alive=lambda: True)
