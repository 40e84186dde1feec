# SPDX-License-Identifier: Apache-2.0
"""Texts that are the same wherever they are said. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from memplace.explain_rules import human_bytes


def printable(text: str) -> str:
    """Return a text with escapes in place of what would move the cursor; lines stay lines.

    Messages quote names that programs and tenants chose.
    """
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "replace").decode()
        for c in text
    )


def joined(names: Iterable[str], none: str = "none") -> str:
    """Return names as ``a, b``, or the word for none of them."""
    return ", ".join(names) or none


def count(number: int, thing: str) -> str:
    """Return ``1 pod`` or ``2 pods``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def size_or_dash(size_bytes: int) -> str:
    """Return bytes as people read them; a dash for none."""
    return human_bytes(size_bytes) if size_bytes else "-"
