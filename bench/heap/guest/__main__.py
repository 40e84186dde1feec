# SPDX-License-Identifier: Apache-2.0
"""Make each program grow in each way to set the default; one line of JSON for each.

A line is ``ROW {...}``; what could not be measured is ``FAILED {...}`` with the reason.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.heap.guest import memory
from bench.heap.guest.running import GROWTH, SETDEFAULT, GrowthError, Postgres, Redis, Told, end_all

NODE = "1"
LIMIT_S = 300
# none: a control. later: set for the program that runs. ranges: and the policy of what it
# has mapped. exec: set before it started.
MODES = ("none", "later", "ranges", "exec")
CLASSES = "/tmp/classes"


class Running(Protocol):
    """A program that has started and is still small.

    Attributes:
        version: As the program tells it, "" if it does not.
        target: The process whose default is to be set.
    """

    version: str
    target: int

    def prepare(self) -> int:
        """Return the process to look at, started by now."""

    def grow(self) -> None:
        """Grow by about `GROWTH` bytes and check them."""

    def stop(self) -> None:
        """End it."""


@dataclass(frozen=True)
class Program:
    """One line of the table.

    Attributes:
        name: For people.
        grows: What it grows by, and how it gets the memory.
        start: Starts it, with these words before its command.
        package: Debian's, whose version is told; "" if the program tells it.
        kind: Kind of memory that grows.
    """

    name: str
    grows: str
    start: Callable[[Sequence[str]], Running]
    package: str = ""
    kind: str = "private"


def _told(*command: str, preload: str = "") -> Callable[[Sequence[str]], Running]:
    env: Mapping[str, str] = {"LD_PRELOAD": f"/usr/lib/x86_64-linux-gnu/{preload}"}
    return lambda prefix: Told(prefix, command, env if preload else None)


def _c(name: str, package: str, program: str, preload: str = "") -> list[Program]:
    run = {kind: _told(program, kind, preload=preload) for kind in ("small", "blocks")}
    return [
        Program(f"C, {name}, small objects", "malloc(200)", run["small"], package),
        Program(f"C, {name}, large blocks", "malloc(1 MiB)", run["blocks"], package),
    ]


GLIBC = "/heap/grow-glibc"
JAVA = ("java", "-cp", CLASSES)
PROGRAMS = (
    *_c("glibc", "libc6", GLIBC),
    Program("C, glibc, one block", "realloc(1 MiB → 64 MiB)", _told(GLIBC, "realloc"), "libc6"),
    Program("C, glibc, old thread", "malloc(200)", _told(GLIBC, "old-thread"), "libc6"),
    Program("C, glibc, new thread", "malloc(200)", _told(GLIBC, "new-thread"), "libc6"),
    *_c("musl", "musl", "/heap/grow-musl"),
    *_c("jemalloc", "libjemalloc2", GLIBC, "libjemalloc.so.2"),
    *_c("tcmalloc", "libtcmalloc-minimal4t64", GLIBC, "libtcmalloc_minimal.so.4"),
    *_c("mimalloc", "libmimalloc3", GLIBC, "libmimalloc.so.3"),
    Program("Go", "slices of 1 KiB", _told("/heap/grow-go")),
    Program("Java, no options", "arrays of 4 KiB", _told(*JAVA, "Grow")),
    Program(
        "Java, -Xms256m -Xmx256m", "arrays of 4 KiB", _told(*JAVA, "-Xms256m", "-Xmx256m", "Grow")
    ),
    Program("Python", "objects of 433 bytes", _told("python3", "/heap/grow.py")),
    Program("Redis", "strings of 4,000 bytes", Redis, "redis-server"),
    Program("PostgreSQL, a backend that runs", "sort of 64 MiB", Postgres, "postgresql-17"),
    Program(
        "PostgreSQL, a new backend",
        "sort of 64 MiB",
        lambda prefix: Postgres(prefix, late=True),
        "postgresql-17",
    ),
    Program(
        "PostgreSQL, shared_buffers",
        "table of 64 MiB",
        lambda prefix: Postgres(prefix, shared=True),
        "postgresql-17",
        "shared",
    ),
)


def measure(program: Program, mode: str) -> dict[str, Any]:
    """Start it, set the default as `mode` says, have it grow; where the growth is.

    Raises:
        GrowthError: It could not be measured.
        subprocess.CalledProcessError: The default could not be set.
    """
    running = program.start((SETDEFAULT, "exec", NODE) if mode == "exec" else ())
    try:
        if mode in ("later", "ranges"):
            subprocess.run((SETDEFAULT, mode, NODE, str(running.target)), check=True)
        pid = running.prepare()
        before = memory.mappings(pid)
        running.grow()
        after = memory.mappings(pid)
        version = running.version or _version(program.package)
    finally:
        running.stop()
    kinds = ("private", "stack") if program.kind == "private" else (program.kind,)
    old, new = memory.total(before, *kinds), memory.total(after, *kinds)
    grown = [now - then for then, now in zip(old, new, strict=True)]
    if sum(grown) < GROWTH * 9 // 10:
        raise GrowthError(f"it grew by {grown} bytes only")
    if mode == "none" and grown[1]:
        raise GrowthError(f"without a default {grown[1]} bytes went to node 1")
    rest = memory.stayed(before, after, *kinds)
    return {"version": version, "grown": grown, "stayed": rest}


def _version(package: str) -> str:
    query = ("dpkg-query", "-W", "-f", "${Version}", package)
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout


def _too_late(*_: object) -> None:
    raise GrowthError(f"not within {LIMIT_S} s")


def main() -> int:
    """Measure all, or those whose name has the text in ``HEAP_ONLY``; 1 if one failed."""
    signal.signal(signal.SIGALRM, _too_late)
    subprocess.run(("javac", "-d", CLASSES, "/heap/Grow.java"), check=True)
    failed = 0
    chosen = os.environ.get("HEAP_ONLY", "").replace("_", " ")
    for program in PROGRAMS:
        if chosen not in program.name:
            continue
        for mode in MODES:
            about = {"program": program.name, "grows": program.grows, "mode": mode}
            signal.alarm(LIMIT_S)
            try:
                print("ROW", json.dumps({**about, **measure(program, mode)}), flush=True)
            except Exception as problem:  # one program that fails leaves the others alone
                failed = 1
                print("FAILED", json.dumps({**about, "why": repr(problem)}), flush=True)
            finally:
                signal.alarm(0)
                end_all()
    return failed


if __name__ == "__main__":
    sys.exit(main())
