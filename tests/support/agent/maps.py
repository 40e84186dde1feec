# SPDX-License-Identifier: Apache-2.0
"""Parse /proc/PID/maps in Python, to compare what the agent's C makes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from memplace.errors import ParseError

_LINE = re.compile(
    r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<perms>[r-][w-][x-][ps])"
    r" [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ (?P<inode>\d{1,20})(?: +(?P<path>.*))?",
    re.ASCII | re.DOTALL,
)
_ESCAPE = re.compile(r"\\([0-7]{3})", re.ASCII)


@dataclass(frozen=True, slots=True)
class MapsLine:
    """One line of maps.

    Attributes:
        start: First address.
        end: First address after it.
        permissions: Such as ``rw-``.
        shared: MAP_SHARED.
        inode: 0 for memory without a file.
        path: The last column: a path, a name in brackets, or empty; newlines unescaped.
    """

    start: int
    end: int
    permissions: str
    shared: bool
    inode: int
    path: str


def parse_maps(text: str) -> tuple[MapsLine, ...]:
    """Parse ``/proc/<pid>/maps`` into one record per VMA.

    Args:
        text: The whole file as read in one open; reading in pieces may tear.

    Returns:
        Mappings in ascending address order, not overlapping.

    Raises:
        ParseError: A line is none of that file.

    Source: proc_pid_maps(5); linux ``fs/proc/task_mmu.c:show_map_vma()``.
    """
    lines = text.removesuffix("\n").split("\n") if text else []
    return tuple(_mapping(line, number) for number, line in enumerate(lines, start=1))


def _mapping(line: str, number: int) -> MapsLine:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ParseError("mapping", line, path="maps", line_no=number)
    return MapsLine(
        start=int(match["start"], 16),
        end=int(match["end"], 16),
        permissions=match["perms"][:3],
        shared=match["perms"][3] == "s",
        inode=int(match["inode"]),
        path=_unescape(match["path"] or ""),
    )


def _unescape(path: str) -> str:
    # seq_path() writes a newline as backslash and three octal digits.
    if "\\" not in path:
        return path
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), path)
