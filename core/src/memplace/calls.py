# SPDX-License-Identifier: Apache-2.0
"""How much one process_mbind() may be asked for."""

from __future__ import annotations

# UIO_MAXIOV, the kernel's limit of one vector (linux include/uapi/linux/uio.h).
MAX_CALL_RANGES = 1024

# A call that moves pages takes a while, and ends early for nothing but a signal.
MAX_MOVE_BYTES = 64 << 20

# A cut inside a transparent huge page would split its mapping. It is also the longest range
# that version 1 of process_mbind() may get for a move: that one walks a range as a whole
# with the target's mmap_lock held for writing, and page faults of the process wait as long.
CUT_ALIGNMENT = 2 << 20
