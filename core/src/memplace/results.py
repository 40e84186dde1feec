# SPDX-License-Identifier: Apache-2.0
"""What was measured, summed up, per tier, and explained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from memplace.api.v1alpha1 import OTHER_TIER, NumaBytes, RuleReport, TierBytes
from memplace.nodes import NumaSet, format_nodes
from memplace.objects import Common, surplus
from memplace.policy import RuleResult
from memplace.quantity import format_quantity
from memplace.reasons import Reason
from memplace.topology import tier_by_node

# Free memory that a move can't use: the kernel keeps its watermarks. The agent may pass
# the node's real ones (/proc/zoneinfo).
RESERVE_BYTES = 32 << 20

# How unevenly pages of an interleaving rule may lie: small mappings all begin somewhere,
# and a huge page goes as a whole.
UNEVEN_SHARE = 0.1
_HUGE_PAGE = 2 << 20


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why bytes are still misplaced: Moving, TierFull, Failed or Uneven."""

    reason: Reason
    message: str


def merge_results(
    plans: Iterable[Iterable[RuleResult]], commons: Iterable[Common] = ()
) -> tuple[RuleResult, ...]:
    """Sum the results of several processes per rule; rules keep their first order.

    Args:
        plans: The results of each process.
        commons: What of their bytes others may have as well, of all processes: counted once.
    """
    merged: dict[str, RuleResult] = {}
    for result in (result for results in plans for result in results):
        old = merged.get(result.rule)
        merged[result.rule] = result if old is None else _add(old, result)
    over = surplus(commons)
    return tuple(_without(result, over.get(result.rule, {})) for result in merged.values())


def _add(a: RuleResult, b: RuleResult) -> RuleResult:
    return RuleResult(
        rule=a.rule,
        regions=a.regions + b.regions,
        bytes=a.bytes + b.bytes,
        numa_bytes=_sum_bytes(a.numa_bytes, b.numa_bytes),
        misplaced_bytes=a.misplaced_bytes + b.misplaced_bytes,
        nodes=a.nodes | b.nodes,
        weights={**a.weights, **b.weights},
        own_regions=a.own_regions + b.own_regions,
    )


def _without(result: RuleResult, over: Mapping[int, int]) -> RuleResult:
    if not over:
        return result
    left = {node: max(0, size - over.get(node, 0)) for node, size in result.numa_bytes.items()}
    outside = sum(size for node, size in left.items() if node not in result.nodes)
    return replace(
        result,
        bytes=sum(left.values()),
        numa_bytes=left,
        # Under existingPages Leave none is misplaced, wherever it is.
        misplaced_bytes=min(result.misplaced_bytes, outside),
    )


def _sum_bytes(a: Mapping[int, int], b: Mapping[int, int]) -> dict[int, int]:
    return {node: a.get(node, 0) + b.get(node, 0) for node in sorted({*a, *b})}


def rule_report(result: RuleResult, *, withheld: bool = False) -> RuleReport:
    """Turn a result into the form that NodeMemory reports.

    Args:
        result: What was measured.
        withheld: Whether a limit of the namespace keeps the rule from anything new.
    """
    return RuleReport(
        name=result.rule,
        regions=result.regions,
        bytes=result.bytes,
        numa_nodes=tuple(NumaBytes(id=n, bytes=b) for n, b in sorted(result.numa_bytes.items())),
        misplaced_bytes=result.misplaced_bytes,
        own_regions=result.own_regions,
        withheld_bytes=result.misplaced_bytes if withheld else 0,
    )


def bytes_per_tier(
    numa_bytes: Mapping[int, int], tiers: Mapping[str, NumaSet]
) -> tuple[TierBytes, ...]:
    """Sum bytes per NUMA node up to bytes per tier.

    Args:
        numa_bytes: Bytes per NUMA node.
        tiers: Tier name to NUMA nodes, not overlapping.

    Returns:
        By tier name, tiers without bytes left out; bytes on nodes of no tier come last,
        as ``other``. The sum is the sum of `numa_bytes`.
    """
    names = tier_by_node(tiers)
    totals: dict[str, int] = {}
    for node, size in numa_bytes.items():
        name = names.get(node, OTHER_TIER)
        totals[name] = totals.get(name, 0) + size
    ordered = sorted(totals.items(), key=lambda item: (item[0] == OTHER_TIER, item[0]))
    return tuple(TierBytes(name=name, bytes=size) for name, size in ordered if size)


def explain_misplaced(
    result: RuleResult,
    free_bytes_by_node: Mapping[int, int],
    *,
    moved: bool,
    reserve_bytes: int = RESERVE_BYTES,
) -> Explanation | None:
    """Explain why bytes of a rule are not where it wants them.

    Args:
        result: What was measured.
        free_bytes_by_node: Free bytes per NUMA node (MemFree of nodeN/meminfo), read after
            the move; nodes that are missing count as full.
        moved: Whether a move of all these bytes was tried since they were planned.
        reserve_bytes: Free bytes, over all wanted nodes, that a move can't use.

    Returns:
        None when nothing is misplaced; Moving before a move was tried; after it TierFull
        when the wanted nodes have no room for the rest, otherwise Failed. Uneven when all
        is on the wanted nodes, but not spread over them as the mode would have done.
    """
    left = result.misplaced_bytes
    if left == 0:
        return _explain_uneven(result)
    size, nodes = format_quantity(left), format_nodes(result.nodes)
    if not moved:
        return Explanation(Reason.MOVING, f"rule {result.rule}: {size} still to move to {nodes}")
    free = sum(free_bytes_by_node.get(node, 0) for node in result.nodes)
    if free < left + reserve_bytes:
        message = (
            f"rule {result.rule}: NUMA nodes {nodes} have {format_quantity(free)} free, "
            f"{size} did not fit; free memory there, or name a further tier"
        )
        return Explanation(Reason.TIER_FULL, message)
    message = (
        f"rule {result.rule}: {size} could not be moved to NUMA nodes {nodes} "
        "(pinned, or mapped by other processes as well)"
    )
    return Explanation(Reason.FAILED, message)


def without_room(results: Iterable[RuleResult], room: Mapping[int, int]) -> tuple[str, ...]:
    """Return the names of the rules of which not all would fit if it moved now.

    Args:
        results: What was measured, in the order of the rules: the first gets the room.
        room: Bytes that fit on each NUMA node; one that is missing has none.

    Example:
        >>> heap = RuleResult(rule="heap", misplaced_bytes=2 << 30, nodes=frozenset({1}))
        >>> without_room([heap], {1: 1 << 30})
        ('heap',)
    """
    left, found = dict(room), []
    for result in results:
        size = result.misplaced_bytes
        for node in sorted(result.nodes):
            taken = min(size, left.get(node, 0))
            left[node] = left.get(node, 0) - taken
            size -= taken
        if size:
            found.append(result.rule)
    return tuple(found)


def uneven_bytes(result: RuleResult) -> int:
    """Return how many bytes of a rule that interleaves would have to change nodes.

    Returns:
        0 up to UNEVEN_SHARE of the bytes on the wanted nodes, or a huge page for each of
        these nodes; 0 for rules that do not interleave.
    """
    on_node = {node: result.numa_bytes.get(node, 0) for node in result.weights}
    whole, parts = sum(on_node.values()), sum(result.weights.values())
    over = sum(
        max(0, size - whole * result.weights[node] // parts) for node, size in on_node.items()
    )
    tolerated = max(UNEVEN_SHARE * whole, _HUGE_PAGE * len(on_node))
    return over if over > tolerated else 0


def _explain_uneven(result: RuleResult) -> Explanation | None:
    over = uneven_bytes(result)
    if over == 0:
        return None
    there = ", ".join(
        f"{format_quantity(result.numa_bytes.get(node, 0))} on {node}" for node in result.weights
    )
    message = (
        f"rule {result.rule}: {format_quantity(over)} would have to change NUMA nodes to lie "
        f"evenly ({there}); pages that were there before are not spread, those to come are. "
        "Restart the pod, or write existingPages: Leave"
    )
    return Explanation(Reason.UNEVEN, message)


def explain_own(results: Iterable[RuleResult]) -> str:
    """Say which rules leave memory alone since its policy is the program's own; or nothing."""
    return "; ".join(
        f"rule {result.rule} leaves {result.own_regions} regions alone, their policy is the "
        "program's own: override: true would take them (OwnPolicy)"
        for result in results
        if result.own_regions
    )
