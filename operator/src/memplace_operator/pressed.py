# SPDX-License-Identifier: Apache-2.0
"""Which pods of a roll-out stall on memory, and did not before it came to them. Pure.

What a pod did when its node was released is no doing of the roll-out; a placement may be there to
end it. So the pods that were under high pressure then are remembered, in the placement's status.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from memplace.api.v1alpha1 import ContainerState
from memplace.kinds import HoldOn, Pressure

from memplace_operator.verdicts import Measured, Verdict

# crds/memoryplacements.yaml has it as maxItems. Each agent is sent each status.
MOST = 64

# Where memory is placed; what is left alone changes nobody's pressure.
_ACTS = frozenset({ContainerState.PLACED, ContainerState.PLACED_BEST_EFFORT, ContainerState.MOVING})


class Fare(NamedTuple):
    """How one pod fares: its node, the verdict, and who it is."""

    node: str
    verdict: Verdict
    uid: str = ""
    pod: str = ""


def pressed_before(
    known: Iterable[str], fares: Iterable[Fare], released: Collection[str]
) -> tuple[str, ...]:
    """Return the uids of the pods whose pressure is none of the roll-out's doing.

    Of many only `MOST`: the others hold it, which is the safe side.

    Args:
        known: Those of earlier steps; those that are gone are left out.
        fares: All pods.
        released: The nodes that are being released.
    """
    there = {fare.uid: fare for fare in fares}
    new = (uid for uid, fare in there.items() if fare.node in released and _high(fare))
    return tuple(dict.fromkeys([*(uid for uid in known if uid in there), *sorted(new)]))[:MOST]


def trouble(fares: Iterable[Fare], before: Collection[str]) -> str:
    """Say which pod is under high pressure that was not before; nothing if none is.

    Args:
        fares: The pods of the nodes that are released.
        before: See `pressed_before`.
    """
    found = sorted((f for f in fares if _high(f) and f.uid not in before), key=lambda f: f.pod)
    if not found:
        return ""
    first, others = found[0], len(found) - 1
    more = f" (and {others} more pod{'s' if others > 1 else ''})" if others else ""
    container = next(m.report.name for m in first.verdict.measured if _is_high(m))
    return (
        f"node {first.node}: {HoldOn.MEMORY_PRESSURE}: container {container} of pod {first.pod} "
        f"is under high memory pressure, and was not when its node was released{more}"
    )


def blindness(fares: Iterable[Fare]) -> str:
    """Say at which released nodes pressure can't be seen; nothing if it can at each."""
    nodes = sorted({fare.node for fare in fares if _is_unknown(fare.verdict)})
    if not nodes:
        return ""
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    return (
        f"memory pressure is not seen at node {nodes[0]}{more} (no PSI in the kernel, or an agent "
        "of an earlier version), so it holds nothing there"
    )


def _high(fare: Fare) -> bool:
    return any(map(_is_high, fare.verdict.measured))


def _is_high(measured: Measured) -> bool:
    return measured.report.memory_pressure is Pressure.HIGH


def _is_unknown(verdict: Verdict) -> bool:
    return any(
        each.report.state in _ACTS and each.report.memory_pressure is Pressure.UNKNOWN
        for each in verdict.measured
    )
