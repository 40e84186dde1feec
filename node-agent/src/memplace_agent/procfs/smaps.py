# SPDX-License-Identifier: Apache-2.0
"""How much of a process's ranges others map as well, where pagemap can't be read.

/proc/PID/pagemap is its owner's alone (mode 0400), so of programs of other users than root an
agent without CAP_DAC_READ_SEARCH can't open it. /proc/PID/smaps needs no more than ptrace
access, as maps does, and counts the pages of each mapping by whether they are mapped once. For
that the kernel walks all of its page tables, under the mmap_lock for a mapping at a time: so
this is for small processes only.

Source: man 5 proc_pid_smaps; linux ``fs/proc/task_mmu.c`` (smaps_account).
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path

from memplace.residency import Ranged

# (directory of the process, ranges) to the share of each that others map, by its index, and of
# all of them under -1; None if it can't be told.
Shares = Callable[[Path, Sequence[Ranged]], "dict[int, float] | None"]

# Bytes in memory of a process whose page tables may be walked: two milliseconds.
SMALL = 256 << 20
# Some 1,100 bytes a mapping.
_MOST_TEXT = 4 << 20

_PART = re.compile(
    rb"^([0-9a-f]+)-[0-9a-f]+ |^(Shared|Private)_(?:Clean|Dirty|Hugetlb): +(\d+) kB", re.MULTILINE
)


def shares(
    directory: Path, spans: Sequence[Ranged], *, most_text: int = _MOST_TEXT
) -> dict[int, float] | None:
    """Tell which share of each range's bytes in memory something else maps as well.

    Args:
        directory: Of the process, below /proc.
        spans: Ranges, ascending, that do not overlap; each begins and ends where mappings do.
        most_text: Give up when the file is longer than that.

    Returns:
        By index those that have anything in memory, and under -1 all of them together. None
        if that is not to be had: the process ends, may not be read, or has too many mappings.
        No process makes this raise.
    """
    text = _read(directory / "smaps", most_text)
    if text is None:
        return None
    ends = [span.end for span in spans]
    kib = [[0, 0] for _ in range(len(spans) + 1)]  # shared, and all; the last are all ranges
    at: list[int] | None = None
    for start, kind, size in _PART.findall(text):
        if start:
            first = int(start, 16)
            index = bisect_left(ends, first + 1)
            at = kib[index] if index < len(spans) and spans[index].start <= first else None
        elif at is not None:
            for counted in (at, kib[-1]):
                counted[0] += int(size) if kind == b"Shared" else 0
                counted[1] += int(size)
    found = {index: part / all_ for index, (part, all_) in enumerate(kib[:-1]) if all_}
    part, all_ = kib[-1]
    return found | {-1: part / all_ if all_ else 0.0}


def _read(path: Path, most: int) -> bytes | None:
    parts: list[bytes] = []
    left = most
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        while part := os.read(file, 1 << 16):
            parts.append(part)
            left -= len(part)
            if left < 0:
                return None
    except OSError:
        return None
    finally:
        os.close(file)
    return b"".join(parts)
