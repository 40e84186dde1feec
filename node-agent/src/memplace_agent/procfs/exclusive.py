# SPDX-License-Identifier: Apache-2.0
"""Which pages nobody but their process maps (bit 56 of /proc/PID/pagemap).

Without CAP_SYS_ADMIN the file hides where pages are, but not this. Each read takes the target's
mmap_lock for one page.

Source: linux ``Documentation/admin-guide/mm/pagemap.rst``; since Linux 4.2. Of a large folio
the kernel may say of all its pages what is true of some.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# (directory of the process, addresses) to whether each page is mapped once only, None if it
# can't be told.
Exclusive = Callable[[Path, Sequence[int]], "list[bool] | None"]

_ENTRY = 8
_MAPPED_ONCE = 1 << 56
# Whoever waits for the lock is next: see `memplace_agent.procfs.sample`.
_REST_AFTER = 128
_REST_S = 0.0001


def exclusive(
    directory: Path, addresses: Sequence[int], *, page_size: int = os.sysconf("SC_PAGE_SIZE")
) -> list[bool] | None:
    """Tell of pages of a process whether each is mapped once in the whole system.

    Args:
        directory: Of the process, below /proc.
        addresses: Of pages that are in memory.
        page_size: Bytes of a page.

    Returns:
        None if that is not to be had: the process ends, or may not be read. No process makes
        this raise.
    """
    found: list[bool] = []
    try:
        file = os.open(directory / "pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        for number, address in enumerate(addresses):
            if number and number % _REST_AFTER == 0:
                time.sleep(_REST_S)
            entry = os.pread(file, _ENTRY, address // page_size * _ENTRY)
            if len(entry) < _ENTRY:
                return None
            found.append(bool(int.from_bytes(entry, "little") & _MAPPED_ONCE))
    except OSError:
        return None
    finally:
        os.close(file)
    return found
