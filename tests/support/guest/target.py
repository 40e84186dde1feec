# SPDX-License-Identifier: Apache-2.0
"""A program with memory of several kinds, told over standard input what to do next.

It knows nothing of memplace: plain mmap(), one mbind() of its own, fork().
"""

import ctypes
import json
import mmap
import os
import subprocess
import sys

MIB = 1 << 20
LIBC = ctypes.CDLL(None, use_errno=True)
SYS_MBIND = 237  # x86_64
MPOL_BIND = 2
PAGE = 4096
READ_EXEC = mmap.PROT_READ | mmap.PROT_EXEC
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
PRIVATE_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
PATTERN = b"memplace" * (MIB // 8)
KEPT: list[tuple[int, int]] = []


def anonymous(size):
    """Map and fill memory; returns its address.

    Pages of code keep it an extent of its own. Inaccessible ones would make it look like a
    thread's stack.
    """
    LIBC.mmap.restype = ctypes.c_void_p
    whole = LIBC.mmap(None, ctypes.c_size_t(size + 2 * PAGE), READ_EXEC, PRIVATE_ANONYMOUS, -1, 0)
    start = whole + PAGE
    if LIBC.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), READ_WRITE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    for offset in range(0, size, MIB):
        ctypes.memmove(start + offset, PATTERN, MIB)
    KEPT.append((start, size))
    return start


def bind(start, size):
    mask = ctypes.c_ulong(1)
    bound = LIBC.syscall(
        SYS_MBIND,
        ctypes.c_void_p(start),
        ctypes.c_ulong(size),
        MPOL_BIND,
        ctypes.byref(mask),
        ctypes.c_ulong(64),
        0,
    )
    if bound != 0:
        raise OSError(ctypes.get_errno(), "mbind")
    return start


def heap():
    LIBC.sbrk.restype = ctypes.c_void_p
    start = LIBC.sbrk(ctypes.c_long(MIB))
    ctypes.memset(start, 7, MIB)
    return start


def born(size=64 << 10):
    """Map memory as malloc() does, and grow the heap; returns their addresses, filled."""
    LIBC.mmap.restype = LIBC.sbrk.restype = ctypes.c_void_p
    mapped = LIBC.mmap(None, ctypes.c_size_t(size), READ_WRITE, PRIVATE_ANONYMOUS, -1, 0)
    grown = LIBC.sbrk(ctypes.c_long(size))
    for start in (mapped, grown):
        ctypes.memset(start, 7, size)
    return {"anon": mapped, "brk": grown}


def say(**facts):
    print(json.dumps(facts), flush=True)


def intact():
    """Whether all that was written is still there."""
    return all(
        ctypes.string_at(start + offset, 8) == b"memplace"
        for start, size in KEPT
        for offset in range(0, size, PAGE)
    )


def main():
    say(
        anon=anonymous(4 * MIB),
        bound=bind(anonymous(4 * MIB), 4 * MIB),
        small=anonymous(MIB),
        heap=heap(),
    )
    down = up = -1  # until there is a child
    programs = []  # their input stays open
    for line in sys.stdin:
        command = line.strip()
        if command == "map":
            say(start=anonymous(4 * MIB))
        elif command == "born":
            say(**born())
        elif command == "execute":
            program = subprocess.Popen(
                [sys.executable, "-S", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert program.stdout
            say(pid=program.pid, **json.loads(program.stdout.readline()))
            programs.append(program)
        elif command == "check":
            say(intact=intact())
        elif command == "fork":
            (low, down), (up, high) = os.pipe(), os.pipe()
            child = os.fork()
            if child == 0:
                os.close(down)
                serve_child(low, high)
            os.close(low)
            os.close(high)
            say(pid=child)
        elif command == "child-map":
            os.write(down, b".")
            say(start=int(os.read(up, 64)))


def serve_child(commands, answers):
    while os.read(commands, 1):
        os.write(answers, str(anonymous(4 * MIB)).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
