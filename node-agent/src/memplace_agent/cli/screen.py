# SPDX-License-Identifier: Apache-2.0
"""What the terminal can show: how wide it is, and whether it has more letters than ASCII."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass

# What kubectl's tables are read at; a file or a pipe gets this as well.
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Screen:
    """Columns, and whether bars may be drawn with block characters."""

    width: int = _WIDTH
    blocks: bool = True


def screen() -> Screen:
    """Return what standard output is."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    width = shutil.get_terminal_size((_WIDTH, 24)).columns if sys.stdout.isatty() else _WIDTH
    return Screen(max(_WIDTH, width), encoding == "utf8")


def print_lines(lines: Iterable[str]) -> None:
    """Print lines; letters that the terminal does not have become question marks."""
    encoding = sys.stdout.encoding or "ascii"
    for line in lines:
        print(line.encode(encoding, "replace").decode(encoding))


def close_output() -> None:
    """Write nothing more: whoever read it, such as ``head``, has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
