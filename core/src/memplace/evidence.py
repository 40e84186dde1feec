# SPDX-License-Identifier: Apache-2.0
"""Which tier a NUMA node is in by what is shown of it, and a sentence that says why.

Only what is shown counts. A node that nothing speaks for is in no tier: pages that are
moved to a GPU's memory by mistake cost more than a MemoryTier that somebody has to write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from memplace.numa import UNCLEAR, DaxKind, Figures, NumaNode

DRAM = "dram"
CXL = "cxl"
HBM = "hbm"
UNKNOWN = ""

_SAY = "; a MemoryTier can make it a tier"
_NAMES = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """The tier of a NUMA node, empty for none, and why; the sentence has no full stop."""

    tier: str
    why: str


@dataclass(frozen=True, slots=True)
class _Dram:
    """What other nodes are compared with: the best of each over the nodes with CPUs."""

    kernel_tier: int | None = None
    figures: Figures | None = None


class _Pace(Enum):
    """How memory compares with DRAM by its figures."""

    SLOWER = "slower"
    FASTER = "faster"
    ALIKE = "alike"
    ODD = "odd"  # far and wide: neither CXL memory nor HBM is like that


def judge(nodes: Iterable[NumaNode]) -> dict[int, Verdict]:
    """Return the verdict on each node that has memory, by its number."""
    nodes = tuple(nodes)
    dram = _dram(nodes)
    return {node.id: _judge(node, dram) for node in nodes if node.total_bytes > 0}


def _dram(nodes: Collection[NumaNode]) -> _Dram:
    with_cpus = [node for node in nodes if has_cpus(node)]
    if any(node.cpus is None and not node.has_cpus for node in nodes):
        return _Dram(figures=UNCLEAR)  # that one may be the best
    figures = {node.figures for node in with_cpus if node.figures is not None}
    kernel_tiers = [node.kernel_tier for node in with_cpus if node.kernel_tier is not None]
    return _Dram(min(kernel_tiers, default=None), _best(figures))


def _best(figures: Collection[Figures]) -> Figures | None:
    if not figures or UNCLEAR in figures:
        return UNCLEAR if figures else None
    return Figures(
        latency_ns=min(each.latency_ns for each in figures),
        bandwidth_mbs=max(each.bandwidth_mbs for each in figures),
    )


def has_cpus(node: NumaNode) -> bool:
    """Return whether a node is known to have CPUs, online or not."""
    return bool(node.cpus) or node.has_cpus


def _judge(node: NumaNode, dram: _Dram) -> Verdict:
    if has_cpus(node):
        return Verdict(DRAM, "it has CPUs" if node.cpus else "it has CPUs, none of them online")
    if node.cpus is None:
        return Verdict(UNKNOWN, f"whether it has CPUs can't be told{_SAY}")
    if node.barred:
        return Verdict(UNKNOWN, f"{node.barred}{_SAY}")
    return _by_device(node) or _by_speed(node, dram)


def _by_device(node: NumaNode) -> Verdict | None:
    """Return what the devices say that its memory comes from; None if they say nothing."""
    kinds = {device.kind for device in node.dax}
    names = _names(device.name for device in node.dax)
    if kinds == {DaxKind.CXL}:
        return Verdict(CXL, f"its memory is that of a CXL region, by {names}")
    if node.cxl:
        return Verdict(CXL, f"all of its memory lies in CXL's {_names(node.cxl)}")
    if kinds == {DaxKind.PERSISTENT}:
        return Verdict(UNKNOWN, f"its memory is persistent memory, by {names}{_SAY}")
    if len(kinds) > 1:
        return Verdict(UNKNOWN, f"its memory is of several kinds, by {names}{_SAY}")
    return None


def _by_speed(node: NumaNode, dram: _Dram) -> Verdict:
    own, others = node.figures, dram.figures
    if own is None or others is None:
        return _by_kernel_tier(node, dram)
    if UNCLEAR in (own, others):
        return Verdict(UNKNOWN, f"its figures, or DRAM's, are not clear{_SAY}")
    told = (
        f"reads of {own.latency_ns} ns and {own.bandwidth_mbs} MB/s against "
        f"{others.latency_ns} ns and {others.bandwidth_mbs} MB/s"
    )
    match _pace(own, others):
        case _Pace.SLOWER:
            return Verdict(CXL, f"it has no CPUs and is slower than DRAM: {told}")
        case _Pace.FASTER:
            return Verdict(HBM, f"it has no CPUs and is faster than DRAM: {told}")
        case _Pace.ODD:
            return Verdict(UNKNOWN, f"it is as far as CXL memory and as wide as HBM: {told}{_SAY}")
        case _Pace.ALIKE:
            return _by_kernel_tier(node, dram)


def _by_kernel_tier(node: NumaNode, dram: _Dram) -> Verdict:
    own, others = node.kernel_tier, dram.kernel_tier
    if own is None or others is None or own == others:
        place = "no kernel tier" if own is None else f"memory_tier{own}"
        why = f"it has no CPUs, is in {place}, and nothing shows what it is"
        return Verdict(UNKNOWN, f"{why}{_SAY}")
    if node.dax and (node.figures is None or dram.figures is None):
        # Without figures all dax devices are put into one tier, be they HBM or flash.
        names = _names(device.name for device in node.dax)
        why = f"nothing shows what {names} is: memory_tier{own} is the kernel's default for it"
        return Verdict(UNKNOWN, f"{why}{_SAY}")
    tier, word = (CXL, "slower") if own > others else (HBM, "faster")
    return Verdict(
        tier, f"it has no CPUs and is in memory_tier{own}, {word} than DRAM's memory_tier{others}"
    )


def _pace(own: Figures, dram: Figures) -> _Pace:
    """Compare; differences below one half are those of a neighbouring socket's DRAM."""
    far = own.latency_ns * 2 >= dram.latency_ns * 3
    wide = own.bandwidth_mbs * 2 >= dram.bandwidth_mbs * 3
    if far:
        return _Pace.ODD if wide else _Pace.SLOWER
    return _Pace.FASTER if wide else _Pace.ALIKE


def _names(names: Iterable[str]) -> str:
    ordered = sorted(set(names))
    rest = len(ordered) - _NAMES
    return ", ".join(ordered[:_NAMES]) + (f" and {rest} more" if rest > 0 else "")
