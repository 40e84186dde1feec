# SPDX-License-Identifier: Apache-2.0
"""Read what may vanish, be empty, be of any length, or not be what it should.

Memory, devices and regions come and go while they are read, and drivers of all kinds write
what is below /sys. What is gone is None; what is there and not understood is `NotClear`, for
it may be what would have spoken against a tier.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from memplace.errors import ParseError
from memplace.nodes import MAX_NODES, NumaSet, parse_nodes

# A file that went between the listing of its directory and its opening, or its reading.
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR})
# The agent's own trouble: it says nothing about the file, and the next time may go well.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

# The longest file of use is a list of 8,192 CPUs.
_LENGTH_MAX = 64 << 10
# Each second one of 1,024 NUMA nodes takes half of this.
_NODES_MAX = 5 << 10
_NOT_UNDERSTOOD = "?"  # neither empty nor a list nor a number
# A node of 32 TiB has so many memory blocks of 128 MiB.
_ENTRIES_MAX = 1 << 18

_NUMBER = re.compile(r"\d{1,18}|0x[0-9a-fA-F]{1,16}", re.ASCII)


class NotClear(Exception):  # noqa: N818  says what happened
    """A file is there, and what it says can't be read or understood."""


def text(path: Path) -> str | None:
    """Return a file's text; None when the file is gone, as memory goes that is removed.

    Raises:
        OSError: It is there and can't be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LENGTH_MAX + 1)
    except OSError as err:
        if err.errno in _GONE:
            return None
        raise
    return content.decode("ascii", "replace") if len(content) <= _LENGTH_MAX else _NOT_UNDERSTOOD


def hint(path: Path) -> str | None:
    """Return the text of a file that one can do without; None when it is gone.

    Raises:
        NotClear: It is there and can't be read.
        OSError: The agent is out of file descriptors or memory.
    """
    try:
        return text(path)
    except OSError as err:
        if err.errno in _OURS:
            raise
        raise NotClear(path) from err


def integer(path: Path) -> int | None:
    """Return the number in a file, decimal or with 0x; None when the file is gone.

    Raises:
        NotClear: Something else is in it.
        OSError: As for `hint`.
    """
    content = hint(path)
    if content is None:
        return None
    found = _NUMBER.fullmatch(content.strip())
    if found is None:
        raise NotClear(path)
    return int(found[0], 16 if found[0].startswith("0x") else 10)


def node_list(path: Path) -> NumaSet:
    """Return the NUMA nodes that a file lists; none when the file is gone.

    Raises:
        NotClear: It is no such list.
        OSError: As for `hint`.
    """
    content = hint(path) or ""
    if len(content) > _NODES_MAX:
        raise NotClear(path)
    try:
        return parse_nodes(content)
    except ParseError as err:
        raise NotClear(path) from err


def names(directory: Path) -> frozenset[str]:
    """Return the names in a directory; none when it is gone, or has too many to go through.

    Raises:
        OSError: It is there and can't be read.
    """
    try:
        with os.scandir(directory) as found:
            listed = frozenset(entry.name for entry in islice(found, _ENTRIES_MAX + 1))
    except OSError as err:
        if err.errno in _GONE:
            return frozenset()
        raise
    return listed if len(listed) <= _ENTRIES_MAX else frozenset()


def entries(directory: Path) -> frozenset[str]:
    """Return the names in a directory that one can do without; none when it can't be read.

    Raises:
        OSError: The agent is out of file descriptors or memory.
    """
    try:
        return names(directory)
    except OSError as err:
        if err.errno in _OURS:
            raise
        return frozenset()


def numbered(found: Iterable[str], prefix: str, below: int = MAX_NODES) -> list[int]:
    """Return the numbers of the names that are `prefix` and a number, ascending."""
    pattern = re.compile(rf"{prefix}(0|[1-9]\d{{0,{len(str(below)) - 1}}})", re.ASCII)
    numbers = (int(match[1]) for match in map(pattern.fullmatch, found) if match)
    return sorted(number for number in numbers if number < below)


def link_parts(path: Path) -> tuple[str, ...]:
    """Return the parts of what a symbolic link leads to; none when it is no link.

    Raises:
        OSError: The agent is out of memory.
    """
    try:
        return path.readlink().parts
    except OSError as err:
        if err.errno in _OURS:
            raise
        return ()
