# SPDX-License-Identifier: Apache-2.0
"""Pods and their tiers as bars: a letter for each tier, so that they can be read without colour."""

from __future__ import annotations

from collections.abc import Sequence

from memplace.api.v1alpha1 import TierBytes
from memplace.explain import human_bytes
from rich.console import Console
from rich.text import Text

from memplace_cli.render import print_left_out, table
from memplace_cli.top import PodTop, Top
from memplace_cli.words import printable, size_or_dash

__all__ = ["bar", "show_top"]

_WIDTH = 24
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


def show_top(found: Top, console: Console) -> None:
    """Print pods, the largest first; the longest bar is the largest pod."""
    if not found.pods:
        console.print(Text("no pod has memory under a placement"))
        print_left_out(found.left_out, console)
        return
    letters = _letters(found.pods)
    largest = max(pod.bytes for pod in found.pods)
    rows = [
        (
            f"{pod.namespace}/{pod.pod}",
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
    key = Text("bars: ")
    for name, (letter, colour) in letters.items():
        key.append(letter * 3, colour).append(f" {printable(name)}  ")
    console.print()
    console.print(key)
    print_left_out(found.left_out, console)


def bar(
    tiers: Sequence[TierBytes],
    whole: int,
    largest: int,
    letters: dict[str, tuple[str, str]],
    width: int = _WIDTH,
) -> Text:
    """Draw what is on each tier; a tier that has anything at all has a letter.

    Args:
        tiers: Where the bytes are.
        whole: Their sum.
        largest: What fills the whole width.
        letters: Letter and colour of each tier.
        width: In characters.
    """
    drawn = Text()
    if not whole or not largest:
        return drawn
    length = max(round(width * whole / largest), len(tiers))
    left, bytes_left = length, whole
    for at, tier in enumerate(tiers):
        others = len(tiers) - at - 1
        share = round(left * tier.bytes / bytes_left) if bytes_left else 0
        cells = min(max(share, 1), left - others)
        letter, colour = letters[tier.name]
        drawn.append(letter * cells, colour)
        left, bytes_left = left - cells, bytes_left - tier.bytes
    return drawn


def _letters(pods: Sequence[PodTop]) -> dict[str, tuple[str, str]]:
    # The first letter of the name, or of what is left of the alphabet if another one has it.
    names = sorted({tier.name for pod in pods for tier in pod.tiers})
    taken: dict[str, str] = {}
    for name in names:
        choice = [c for c in name.upper() if c.isalnum()] + list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        taken[name] = next((c for c in choice if c not in taken.values()), "#")
    colours = (_COLOURS[at % len(_COLOURS)] for at in range(len(taken)))
    return {name: (taken[name], colour) for name, colour in zip(taken, colours, strict=True)}
