# SPDX-License-Identifier: Apache-2.0
"""Pods and their tiers as bars."""

from __future__ import annotations

from memplace.explain_rules import human_bytes
from rich.console import Console
from rich.text import Text

from memplace_cli.bars import bar, key, letters_of
from memplace_cli.render import print_left_out, table
from memplace_cli.top import Top
from memplace_cli.words import size_or_dash


def show_top(found: Top, console: Console) -> None:
    """Print pods, the largest first; the longest bar is the largest pod."""
    if not found.pods:
        console.print(Text("no pod has memory under a placement"))
        print_left_out(found.left_out, console)
        return
    letters = letters_of(tier.name for pod in found.pods for tier in pod.tiers)
    largest = max(pod.bytes for pod in found.pods)
    rows = [
        (
            pod.label,
            pod.placement,
            size_or_dash(pod.bytes),
            size_or_dash(pod.misplaced_bytes),
            bar(pod.tiers, pod.bytes, largest, letters),
            ", ".join(f"{t.name} {human_bytes(t.bytes)}" for t in pod.tiers) or "-",
        )
        for pod in found.pods
    ]
    heads = ("POD", "PLACEMENT", "BYTES", "MISPLACED", "", "WHERE")
    console.print(table(heads, rows, right=(2, 3)))
    console.print()
    console.print(key(letters))
    print_left_out(found.left_out, console)
