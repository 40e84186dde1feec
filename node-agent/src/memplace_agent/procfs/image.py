# SPDX-License-Identifier: Apache-2.0
"""Tell address spaces that come from one exec() from all others."""

from __future__ import annotations

import hashlib

from memplace.errors import ParseError

# Where the kernel put code, stack and brk heap at exec(), at random: fields 26, 28 and 47 of
# proc_pid_stat(5), counted from the state, which is field 3. fork() copies them.
_FIELDS = (26 - 3, 28 - 3, 47 - 3)
_HIDDEN = ("0", "1")


def parse_image(text: str) -> int:
    """Return a number that fork() copies and exec() changes, from ``/proc/<pid>/stat``.

    Returns:
        A 63-bit number; 0 when the kernel shows no addresses: the reader may not ptrace the
        process, or its first thread has ended (read /proc/PID/task/TID/stat of another then).
        Without address space randomisation two runs of one program can have one number.

    Raises:
        ParseError: No name in parentheses, or too few fields.

    Source: proc_pid_stat(5), fields 26, 28 and 47; linux ``fs/proc/array.c:do_task_stat()``.
    """
    places = _places(text)
    if places[0] in _HIDDEN or places[1] in _HIDDEN:
        return 0
    digest = hashlib.blake2b(" ".join(places).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1 or 1


def has_memory(text: str) -> bool:
    """Return whether a thread has an address space, hidden or not, from its ``stat``.

    It has none once it has ended; others of its process may have it still.

    Raises:
        ParseError: As `parse_image`.

    Source: linux ``fs/proc/array.c:do_task_stat()``, which shows 1 for what it hides.
    """
    return _places(text)[0] != "0"


def _places(text: str) -> list[str]:
    fields = text[text.rfind(")") + 1 :].split()
    try:
        return [fields[at] for at in _FIELDS]
    except IndexError as err:
        raise ParseError("/proc/PID/stat", text) from err
