# SPDX-License-Identifier: Apache-2.0
"""A fixed piece of what agents do: have the kernel write maps, and take them apart.

Its processor time inside and outside of the machine tells how much of a real core a second of
the emulated one is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

_MAPPINGS, _READS, _TIMES = 200, 300, 5


def work(pid: int) -> float:
    """Read and parse a process's mappings some times; returns seconds of processor time."""
    begin, sizes = time.process_time(), 0
    for _ in range(_READS):
        for line in Path(f"/proc/{pid}/maps").read_bytes().splitlines():
            start, end = line.split(maxsplit=1)[0].split(b"-")
            sizes += int(end, 16) - int(start, 16)
    assert sizes > 0
    return time.process_time() - begin


def calibrate(herd: str) -> float:
    """Return the least of some times: what else runs on a machine can only add to it."""
    process = subprocess.Popen([herd, str(_MAPPINGS)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        return min(work(process.pid) for _ in range(_TIMES))
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    print(calibrate(sys.argv[1]))
