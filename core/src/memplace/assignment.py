# SPDX-License-Identifier: Apache-2.0
"""Which placement a container follows when several select it.

The agent acts on the winners, the operator explains the losers; both call this, so
that they can't disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from memplace import selectors
from memplace.api.v1alpha1 import Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRef:
    """What an assignment needs to know of a pod."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """The placement a container follows, and those it does not, in order of precedence."""

    winner: Placement
    losers: tuple[Placement, ...] = ()


def precedence(placement: Placement) -> tuple[datetime, str, str]:
    """Return the sort key of a placement: the oldest wins, then the name decides."""
    return placement.creation_timestamp, placement.name, placement.uid


def selects_pod(placement: Placement, pod: PodRef) -> bool:
    """Return whether the pod is in the placement's namespace and has its labels."""
    return placement.namespace == pod.namespace and selectors.matches(
        placement.spec.selector, pod.labels
    )


def assign(placements: Iterable[Placement], pod: PodRef) -> dict[str, Assignment]:
    """Give each container of a pod the oldest of the placements that select it.

    Args:
        placements: In any order; of other namespaces too.
        pod: The pod.

    Returns:
        One entry per container that at least one placement selects, in the pod's order.
    """
    ranked = sorted((p for p in placements if selects_pod(p, pod)), key=precedence)
    per_container = {
        name: [p for p in ranked if p.spec.selects_container(name)] for name in pod.containers
    }
    return {name: Assignment(ps[0], tuple(ps[1:])) for name, ps in per_container.items() if ps}
