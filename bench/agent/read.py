# SPDX-License-Identifier: Apache-2.0
"""What it costs to read a process, and what the process notices of it.

    lab/enter python3 bench/agent/read.py              # about a minute
    lab/enter python3 bench/agent/read.py --vmas 1000

Two parts, on the kernel that runs this:

- A process with 65,530 mappings, which alternate so that the kernel can't merge them. Its
  mappings are read by each way that the agent has, and by psutil.memory_maps(), in turn;
  medians of time and of processor time, which other work does not bend as much, and their
  ratios to psutil's. All have to find the same mappings.
- A process with memory in pages of 4 KiB that calls mmap() and munmap() all the time and
  notes how long each took, while it is read, 20 ms after the last read: by nothing (the
  control), the agent's ways, a sample of its pages, numa_maps, and psutil. Both run with
  real-time priority, so that this tells of locks and not of what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from memplace.residency import Span
from memplace_agent.hostfs import HostFs
from memplace_agent.procfs.mapped import regions_of
from memplace_agent.procfs.process import Reader, Request
from memplace_agent.procfs.query import Way, best_way, read_vmas
from memplace_agent.procfs.sample import sample
from memplace_agent.syscalls import PidFd, RunningKernel
from memplace_agent.syscalls.features import procmap_query_size

_PEER = "psutil.memory_maps()"

# Pages alternate between two permissions. The guard at the end keeps the last from merging.
_MANY = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
count, page = int(sys.argv[1]), mmap.PAGESIZE
own = sum(1 for _ in open("/proc/self/maps"))
wanted = max(count - own - 2, 2)
start = libc.mmap(None, ctypes.c_size_t(wanted * page), 3, 0x22, -1, 0)
for number in range(0, wanted, 2):
    if libc.mprotect(ctypes.c_void_p(start + number * page), ctypes.c_size_t(page), 1):
        raise OSError(ctypes.get_errno(), "mprotect")
print(flush=True)
input()
"""

# A line for each command: the latencies of mmap() + munmap() since the last, in nanoseconds.
_VICTIM = """
import ctypes, json, mmap, os, sys, threading, time
memory = mmap.mmap(-1, int(sys.argv[1]) << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
for offset in range(0, len(memory), mmap.PAGESIZE):
    memory[offset] = 1
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
took = []
def loop():
    while True:
        begin = time.perf_counter_ns()
        mmap.mmap(-1, mmap.PAGESIZE).close()
        took.append(time.perf_counter_ns() - begin)
        time.sleep(0.0005)
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
except PermissionError:
    pass
threading.Thread(target=loop, daemon=True).start()
for line in sys.stdin:
    seen, took = took, []
    print(json.dumps(seen), flush=True)
"""


@contextlib.contextmanager
def _program(text: str, argument: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", text, str(argument)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.wait()


def _soon() -> float:
    return time.monotonic() + 60


class Looks:
    """The ways to look at one process that are compared."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.kernel = RunningKernel(None)
        self.pidfd: PidFd = self.kernel.pidfd_open(pid)
        self.way = best_way(procmap_query_size(HostFs()))
        self.reader = Reader(HostFs(), self.kernel, self.way)

    def psutil(self) -> int:
        """Read one object per mapping, with what smaps says."""
        return len(psutil.Process(self.pid).memory_maps(grouped=False))

    def mappings(self, way: Way) -> int:
        """Read arrays and classes."""
        return len(read_vmas(Path(f"/proc/{self.pid}"), way, _soon()).vmas)

    def view(self) -> int:
        """Read what the agent reads each time: mappings, status, stacks."""
        view = self.reader.read(self.pid, self.pidfd, _soon(), Request())
        assert view.incomplete is None, view.incomplete
        return len(view.vmas)

    def regions(self) -> int:
        """Read the same, and make a region of each mapping, wanted or not."""
        view = self.reader.read(self.pid, self.pidfd, _soon(), Request())
        return len(regions_of(view))

    def numa_maps(self) -> int:
        """Read what the kernel writes, and parse nothing."""
        return len(Path(f"/proc/{self.pid}/numa_maps").read_bytes().splitlines())

    def sample(self, span: Span) -> int:
        """Tell where the pages are, to two points."""
        alive = self.kernel.is_alive
        return sample(self.pid, [span], _soon(), is_alive=lambda: alive(self.pidfd)).points


def _many(count: int, rounds: int) -> list[dict[str, Any]]:
    with _program(_MANY, count) as (process, _line):
        looks = Looks(process.pid)
        ways: dict[str, Callable[[], int]] = {
            _PEER: looks.psutil,
            "mappings, text parsed in C": lambda: looks.mappings(Way.MAPS),
        }
        if looks.way is not Way.MAPS:
            ways[f"mappings, {looks.way}"] = lambda: looks.mappings(looks.way)
        ways["what the agent reads each time"] = looks.view
        ways["a Region for each mapping, too"] = looks.regions
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        found = {}
        for _ in range(rounds):
            for name, way in ways.items():
                begin, before = time.perf_counter(), time.thread_time()
                found[name] = way()
                took[name].append((time.perf_counter() - begin, time.thread_time() - before))
        os.close(looks.pidfd)
    # PROCMAP_QUERY does not tell [vsyscall].
    assert max(found.values()) - min(found.values()) <= 1, found
    medians = {
        name: [statistics.median(each) for each in zip(*times, strict=True)]
        for name, times in took.items()
    }
    wall, processor = medians[_PEER]
    return [
        {
            "way": name,
            "mappings": found[name],
            "ms": round(1000 * ours[0], 1),
            "times faster than psutil": round(wall / ours[0], 1),
            "processor ms": round(1000 * ours[1], 1),
            "times less than psutil": round(processor / ours[1], 1),
        }
        for name, ours in medians.items()
    ]


def _stalls(mib: int, seconds: float) -> list[dict[str, Any]]:
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    with _program(_VICTIM, mib) as (process, line):
        looks = Looks(process.pid)
        span = Span(int(line), int(line) + (mib << 20))
        movers: dict[str, Callable[[], object]] = {
            "nothing (control)": lambda: time.sleep(0.005),
            "what the agent reads each time": looks.view,
            "a sample of its pages": lambda: looks.sample(span),
            "numa_maps": looks.numa_maps,
            _PEER: looks.psutil,
        }
        rows = [_stall(process, name, look, seconds) for name, look in movers.items()]
        os.close(looks.pidfd)
    return rows


def _stall(
    process: subprocess.Popen[str], name: str, look: Callable[[], object], seconds: float
) -> dict[str, Any]:
    assert process.stdin is not None and process.stdout is not None
    _latencies(process)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        look()
        count += 1
        time.sleep(0.02)
    seen = sorted(_latencies(process))
    return {
        "while it is read": name,
        "reads": count,
        "mmap() calls": len(seen),
        "p99 ms": round(seen[int(len(seen) * 0.99)] / 1e6, 3),
        "p99.9 ms": round(seen[int(len(seen) * 0.999)] / 1e6, 3),
        "worst ms": round(seen[-1] / 1e6, 3),
    }


def _latencies(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    seen: list[int] = json.loads(process.stdout.readline())
    return seen


def _table(rows: list[dict[str, Any]]) -> str:
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(row[key]) for key in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--vmas", type=int, default=65530)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=1024, help="memory of the second process")
    parser.add_argument("--seconds", type=float, default=5, help="for each way to read it")
    options = parser.parse_args()
    print(
        f"Linux {os.uname().release}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n"
    )
    print(_table(_many(options.vmas, options.rounds)), end="\n\n")
    print(_table(_stalls(options.mib, options.seconds)))


if __name__ == "__main__":
    main()
