# SPDX-License-Identifier: Apache-2.0
"""Directories that appear, as inotify(7) tells them."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from memplace_agent._memplace_sys import ffi, lib

# linux include/uapi/linux/inotify.h
_IN_CREATE = 0x100
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_IN_ONLYDIR = 0x01000000
_IN_DONT_FOLLOW = 0x02000000
_IN_ISDIR = 0x40000000

_EVENT = struct.Struct("iIII")
_SOME = 1 << 16


@dataclass(frozen=True, slots=True)
class Made:
    """One event.

    Attributes:
        parent: The watched directory, as it was named to `Inotify.watch`; "" for an overflow:
            events are lost from there on.
        name: Of the directory that was made in it; "" if it was removed itself.
    """

    parent: str
    name: str


class Inotify:
    """Watches directories for directories that are made in them. For one thread."""

    def __init__(self) -> None:
        """Begin to watch nothing.

        Raises:
            OSError: EMFILE: fs.inotify.max_user_instances, or the limit of open files.
        """
        self._fd = _checked(lib.memplace_inotify_open())
        self._watched: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def fileno(self) -> int:
        """Return what polls readable when there is something to `read`."""
        return self._fd

    def close(self) -> None:
        """End all watches."""
        os.close(self._fd)

    def watch(self, directory: str) -> None:
        """Watch a directory, once however often it is asked for.

        Raises:
            OSError: ENOENT, it is gone; ENOSPC: fs.inotify.max_user_watches.
        """
        mask = _IN_CREATE | _IN_ONLYDIR | _IN_DONT_FOLLOW
        found = lib.memplace_inotify_watch(self._fd, os.fsencode(directory), mask)
        self._watched[_checked(found)] = directory

    def read(self) -> Iterator[Made]:
        """Yield what has happened since the last time; waits for nothing."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._fd, _SOME):
                yield from self._events(data)

    def _events(self, data: bytes) -> Iterator[Made]:
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
            at += length
            if mask & _IN_Q_OVERFLOW:
                yield Made("", "")
            elif mask & _IN_IGNORED:
                yield Made(self._watched.pop(watch, ""), "")
            elif mask & _IN_ISDIR and watch in self._watched:
                yield Made(self._watched[watch], name)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    return result
