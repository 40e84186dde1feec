# SPDX-License-Identifier: Apache-2.0
"""Where the threads of a process have their stacks: /proc/PID/task/TID/syscall."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass

from memplace_agent.hostfs import HostFs

# About 20 us each; more threads than that say nothing new about where stacks are.
MAX_THREADS = 4096


@dataclass(frozen=True, slots=True)
class StackPointers:
    """Stack pointers of threads.

    Attributes:
        pointers: One address for each thread that told.
        untold: Threads that told none: they ran just then, or ended. A later look may tell.
        errno: Why no thread could be asked, 0 if there is nothing to say.
        complete: All threads were asked.
    """

    pointers: frozenset[int]
    untold: int = 0
    errno: int = 0
    complete: bool = True


def parse_stack_pointer(text: str) -> int | None:
    """Return the stack pointer in a text of /proc/PID/task/TID/syscall.

    Returns:
        None if there is none: ``running``, or a thread without a stack.

    Source: proc_pid_syscall(5); linux ``fs/proc/base.c:proc_pid_syscall()``.
    """
    fields = text.split()
    if len(fields) not in (3, 9):
        return None
    try:
        return int(fields[-2], 16) or None
    except ValueError:
        return None


def read_stack_pointers(host: HostFs, pid: int, deadline: float) -> StackPointers:
    """Ask each thread that does not run just now for its stack pointer; stops none.

    Args:
        host: Where /proc is.
        pid: The process; whoever holds its pidfd looks afterwards whether it still lives.
        deadline: As of `time.monotonic`; the rest of the threads is not asked after it.
    """
    found: set[int] = set()
    untold, problem = 0, 0
    try:
        threads = [entry.name for entry in (host.pid(pid) / "task").iterdir()]
    except OSError as err:
        return StackPointers(frozenset(), errno=err.errno or errno.EIO, complete=False)
    for number, thread in enumerate(threads):
        if number >= MAX_THREADS or time.monotonic() >= deadline:
            return StackPointers(frozenset(found), untold, problem, complete=False)
        try:
            pointer = parse_stack_pointer(_read(f"{host.pid(pid)}/task/{thread}/syscall"))
        except OSError as err:
            pointer = None
            if err.errno in (errno.EPERM, errno.EACCES):
                problem = err.errno
        if pointer is None:
            untold += 1
        else:
            found.add(pointer)
    return StackPointers(frozenset(found), untold, problem, complete=not problem)


def _read(path: str) -> str:
    # os.open() and not pathlib: this is done for each thread.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 256).decode("ascii", "replace")
    finally:
        os.close(fd)
