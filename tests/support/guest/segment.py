# SPDX-License-Identifier: Apache-2.0
"""A program that maps shared memory, and tells over standard input what it finds there.

Usage: segment.py PATH MIB fill|touch|private

PATH is a file, or ``-`` for memory without a name, which a child then maps as well. ``fill``
writes to all of it, ``touch`` reads it, so that each page is in the page tables; ``private``
does so in a private mapping.
"""

import ctypes
import json
import mmap
import os
import sys

PAGE = 4096
PATTERN = b"memplace" * (PAGE // 8)


def say(**facts):
    print(json.dumps(facts), flush=True)


def mapped(path, size, how):
    if path == "-":
        return mmap.mmap(-1, size)  # MAP_SHARED | MAP_ANONYMOUS
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    os.fchmod(file, 0o666)
    os.ftruncate(file, size)
    flags = mmap.MAP_PRIVATE if how == "private" else mmap.MAP_SHARED
    return mmap.mmap(file, size, flags=flags)


def touched(memory):
    return sum(memory[at] for at in range(0, len(memory), PAGE))


def main():
    path, size, how = sys.argv[1], int(sys.argv[2]) << 20, sys.argv[3]
    os.umask(0)
    memory = mapped(path, size, how)
    if how == "fill":
        for at in range(0, size, PAGE):
            memory[at : at + PAGE] = PATTERN
    touched(memory)
    ready, go = os.pipe()
    child = os.fork() if path == "-" else 0
    if path == "-" and child == 0:
        touched(memory)
        os.write(go, b".")
    elif child:
        os.read(ready, 1)
    if child or path != "-":
        say(start=ctypes.addressof(ctypes.c_char.from_buffer(memory)), child=child)
    for _ in sys.stdin:
        say(intact=all(memory[at : at + 8] == b"memplace" for at in range(0, size, PAGE)))


if __name__ == "__main__":
    main()
