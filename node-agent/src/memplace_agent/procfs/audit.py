# SPDX-License-Identifier: Apache-2.0
"""When numa_maps of a process may be read again.

It walks the page tables of all mappings, 8 ms for each GiB in pages of 4 KiB, and the process
waits that long if it calls mmap() meanwhile. So where nothing else tells policies it is read at
first sight, before an undo, and now and then to see that what is remembered is still so.
"""

from __future__ import annotations

# Of the time, for one process.
MOST_DUTY = 0.01

# A process is not made to wait longer for mmap() than that, whoever asks.
MOST_WALK_S = 1.0

# Measured: 8 ms for each GiB in pages of 4 KiB. Page tables of 2 MiB map so much.
_S_PER_BYTE = 0.008 / (1 << 30)
_MAPPED_BY_BYTE = 512


def walk_seconds(resident: int, page_tables: int) -> float:
    """Return about how long a read of numa_maps takes.

    Args:
        resident: Bytes in memory (VmRSS).
        page_tables: Bytes of page tables (VmPTE): less than for so much memory where pages are
            huge, more where many processes have little each.
    """
    return min(resident, page_tables * _MAPPED_BY_BYTE) * _S_PER_BYTE


def rest(took: float) -> float:
    """Return for how many seconds a process is left alone after a read that took so many."""
    return took * (1 / MOST_DUTY - 1)


def next_audit(ended: float, took: float, least: float = 300.0) -> float:
    """Return when the next audit of a process may begin.

    Args:
        ended: When the last one ended, in seconds of any clock that only runs forward.
        took: How long that one took, in seconds; by more than the process waited, if the
            agent did not get the processor.
        least: Seconds between two audits of processes that are read at once.

    Returns:
        Seconds of the same clock: reads as long as the last one take `MOST_DUTY` of the time.
    """
    return ended + max(least, rest(took))
