#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Record what a running process has mapped, for the table test of the maps.

    record.py PID --program "Redis 8.0.2" --how "64 MiB of strings" > redis.txt

The process is stopped while it is read, and runs on. The recording is text, one item a line:

    program, how, kernel, comm, exe   for people and for rules on processes
    thread SP COMM                    stack pointer of a thread, the main one first
    flags LETTER XX XX ...            VmFlags of smaps, each set of them once
    maps                              from here on /proc/PID/maps: the letter of the flags in
                                      front, blanks in front of the path left out

It needs the right to trace the process, a kernel with smaps, and Python alone.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

LICENSE = "# SPDX-License-Identifier: Apache-2.0"


def main() -> int:
    """Print the recording; 1 if a thread's stack pointer could not be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pid", type=int)
    parser.add_argument("--program", required=True, help="name and version")
    parser.add_argument("--how", required=True, help="how it was started and what it did then")
    options = parser.parse_args()
    os.kill(options.pid, signal.SIGSTOP)
    try:
        print(recording(options.pid, options.program, options.how), end="")
    finally:
        os.kill(options.pid, signal.SIGCONT)
    return 0


def recording(pid: int, program: str, how: str) -> str:
    """Return the text; the process does not run meanwhile.

    Raises:
        OSError: The process is gone, or may not be traced.
        ValueError: A thread still runs after a second.
    """
    process = Path(f"/proc/{pid}")
    letters: dict[str, str] = {}
    lines = [
        _squeezed(line, letters.setdefault(flags, chr(ord("a") + len(letters))))
        for line, flags in _mappings(process)
    ]
    release = ".".join(os.uname().release.split(".")[:2])
    head = [
        LICENSE,
        f"program {program}",
        f"how {how}",
        f"kernel {release}",
        f"comm {(process / 'comm').read_text().rstrip()}",
        f"exe {(process / 'exe').readlink()}",
        *_threads(process),
        *(f"flags {letter} {flags}" for flags, letter in letters.items()),
        "maps",
    ]
    return "\n".join((*head, *lines)) + "\n"


def _mappings(process: Path) -> list[tuple[str, str]]:
    """Lines of maps, each with its VmFlags."""
    maps = (process / "maps").read_text(errors="surrogateescape").splitlines()
    smaps = (process / "smaps").read_text(errors="surrogateescape").splitlines()
    flags = [line.split(":")[1].strip() for line in smaps if line.startswith("VmFlags:")]
    # [vsyscall] is in both, and has flags in both.
    return list(zip(maps, flags, strict=True))


def _squeezed(line: str, letter: str) -> str:
    address, permissions, offset, device, rest = line.split(" ", 4)
    inode, _, path = rest.partition(" ")
    return " ".join((letter, address, permissions, offset, device, inode, path.lstrip())).rstrip()


def _threads(process: Path) -> list[str]:
    tasks = sorted((process / "task").iterdir(), key=lambda task: int(task.name))
    return [f"thread {_pointer(task):x} {(task / 'comm').read_text().rstrip()}" for task in tasks]


def _pointer(task: Path) -> int:
    for _ in range(100):
        fields = (task / "syscall").read_text().split()
        if fields[0] != "running":
            # NR ARG... SP PC, or -1 SP PC: proc_pid_syscall(5)
            return int(fields[-2], 16)
        time.sleep(0.01)
    raise ValueError(f"{task} runs although it was stopped")


if __name__ == "__main__":
    sys.exit(main())
