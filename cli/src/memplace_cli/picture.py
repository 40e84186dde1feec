# SPDX-License-Identifier: Apache-2.0
"""What a picture of memory by tier shows: bars of bytes, some with bars below them. Pure.

Reports have bytes per rule and tier. Addresses they have not: a bar is how much is where, and
nothing about the order in which it lies in the address space.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memplace.api.v1alpha1 import TierBytes

from memplace_cli.said import ContainerSaid, PodSaid
from memplace_cli.top import Top

# More bars than a person compares.
_MOST = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Bytes, and where they are.

    Attributes:
        label: What it is of.
        note: What is worth knowing of it, in a few words.
        bytes: All of them.
        misplaced_bytes: Those that the rules want elsewhere.
        tiers: Where they are.
        below: What they are made of.
    """

    label: str
    note: str = ""
    bytes: int = 0
    misplaced_bytes: int = 0
    tiers: tuple[TierBytes, ...] = ()
    below: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Bars that are compared.

    Attributes:
        title: What all of it is.
        note: What is worth knowing of it.
        bars: From above to below.
        left_out: How many are not drawn.
    """

    title: str
    note: str = ""
    bars: tuple[Bar, ...] = ()
    left_out: int = 0

    @property
    def largest(self) -> int:
        """The bytes of the largest bar: what fills the width."""
        return max((bar.bytes for bar in self.bars), default=0)


def of_pod(found: PodSaid) -> Picture:
    """Return the picture of a pod: a bar for each container, its rules below."""
    where = f" on node {found.node}" if found.node else ""
    facts = (f"backend {found.backend}" if found.backend else "", f"agent {found.agent}")
    return Picture(
        title=f"pod {found.namespace}/{found.name}{where}",
        note=", ".join(filter(None, facts)),
        bars=tuple(_container(each) for each in found.containers[:_MOST]),
        left_out=max(len(found.containers) - _MOST, 0),
    )


def _container(found: ContainerSaid) -> Bar:
    follows = f"follows {found.placement}: {found.reason}" if found.placement else "no placement"
    return Bar(
        label=found.name,
        note=follows,
        bytes=sum(rule.bytes for rule in found.rules),
        misplaced_bytes=sum(rule.misplaced_bytes for rule in found.rules),
        tiers=found.tiers,
        below=tuple(
            Bar(
                label=rule.name,
                note=rule.wants,
                bytes=rule.bytes,
                misplaced_bytes=rule.misplaced_bytes,
                tiers=rule.tiers,
            )
            for rule in found.rules
        ),
    )


def of_top(found: Top) -> Picture:
    """Return the picture of pods, the largest first."""
    return Picture(
        title="memory under placements, by tier",
        note="of each pod what the rules of its placements hold, as its agent measured it last",
        bars=tuple(
            Bar(
                label=pod.label,
                note=f"{pod.placement} on {pod.node}" if pod.node else pod.placement,
                bytes=pod.bytes,
                misplaced_bytes=pod.misplaced_bytes,
                tiers=pod.tiers,
            )
            for pod in found.pods[:_MOST]
        ),
        left_out=max(len(found.pods) - _MOST, 0),
    )


def tier_names(bars: Iterable[Bar]) -> list[str]:
    """Return the names of all tiers that bars, or those below them, have bytes on."""
    found: set[str] = set()
    for bar in bars:
        found |= {tier.name for tier in bar.tiers if tier.bytes}
        found.update(tier_names(bar.below))
    return sorted(found)


def shares(sizes: Sequence[int], width: int, least: int = 1) -> list[int]:
    """Divide a width by sizes; what is not nothing gets at least so much, if there is room.

    Args:
        sizes: Bytes.
        width: To divide, in characters or pixels.
        least: Of the same, for each size that is not 0.

    Returns:
        One width per size; their sum is `width` if a size is not 0.
    """
    found, left, bytes_left = [], width, sum(sizes)
    for at, size in enumerate(sizes):
        others = least * sum(each > 0 for each in sizes[at + 1 :])
        share = round(left * size / bytes_left) if bytes_left else 0
        mine = min(max(share, least), max(left - others, 0)) if size else 0
        found.append(mine)
        left, bytes_left = left - mine, bytes_left - size
    return found
