# SPDX-License-Identifier: Apache-2.0
"""The program in the manual page of process_mbind(2), for the tests that compile and run it."""

from __future__ import annotations

from tests.support import ROOT

PAGE = ROOT / "kernel" / "man" / "process_mbind.2"


def example() -> str:
    """Return the C program in the page, without the escapes of roff."""
    program = PAGE.read_text().partition('.\\" SRC BEGIN (process_mbind.c)\n')[2]
    program = program.partition('.\\" SRC END')[0]
    return program.replace("\\&", "").replace("\\-", "-").replace("\\e", "\\")
