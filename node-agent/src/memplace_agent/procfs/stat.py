# SPDX-License-Identifier: Apache-2.0
"""Parse /proc/PID/stat: who the parent is and when the process started."""

from __future__ import annotations

from dataclasses import dataclass

from memplace.errors import ParseError


@dataclass(frozen=True, slots=True)
class Stat:
    """What the agent needs of a process.

    Attributes:
        ppid: The parent, 1 or a subreaper once that has ended.
        start_time: Clock ticks between boot and start; with the pid it names a process.
    """

    ppid: int
    start_time: int


def parse_stat(text: str) -> Stat:
    """Parse ``/proc/<pid>/stat``.

    The name in field 2 may hold blanks and parentheses, so fields count from the last
    closing one.

    Raises:
        ParseError: No name in parentheses, too few fields, or no numbers.

    Source: proc_pid_stat(5), fields 4 and 22.
    """
    fields = text[text.rfind(")") + 1 :].split()
    try:
        return Stat(ppid=int(fields[1]), start_time=int(fields[19]))
    except (IndexError, ValueError) as err:
        raise ParseError("/proc/PID/stat", text) from err
