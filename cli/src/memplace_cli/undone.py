# SPDX-License-Identifier: Apache-2.0
"""What is left of a placement that is being undone. Pure.

An agent says DryRun of a container when it has given everything back, and Pending until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from memplace.api.conditions import find_condition
from memplace.api.v1alpha1 import ContainerState, NodeMemory, Placement
from memplace.reasons import ConditionType, Reason

# Of a container of which nothing that was done is left.
_UNDONE = (
    ContainerState.DRY_RUN,
    ContainerState.OBSERVED,
    ContainerState.UNSUPPORTED,
    ContainerState.CONFLICT,
)
# The same, of the whole placement.
_UNDONE_REASONS = (Reason.DRY_RUN, Reason.NO_PODS, Reason.CONFLICT, Reason.UNSUPPORTED)


class Left(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What is not given back yet.

    Attributes:
        node: On which node; empty if that is not known.
        namespace: That of the pod, under a ClusterMemoryPlacement; else empty.
        pod: Of which pod; empty for the whole placement.
        container: Which container of it.
        reason: Its state, or why it can't be told.
        message: What that means here.
    """

    node: str = ""
    namespace: str = ""
    pod: str = ""
    container: str = ""
    reason: str
    message: str = ""


def left_by_nodes(nodes: Iterable[NodeMemory], uid: str, generation: int) -> tuple[Left, ...]:
    """Return what agents have not given back, as they report it.

    Args:
        nodes: All of them.
        uid: Of the placement.
        generation: Of it, since it is undone.
    """
    return tuple(left for node in nodes for left in _on(node, uid, generation))


def _on(node: NodeMemory, uid: str, generation: int) -> Iterator[Left]:
    report = next((each for each in node.status.placements if each.uid == uid), None)
    if report is None:
        return
    if report.observed_generation != generation:
        message = report.message or "its agent has not looked at the change yet"
        yield Left(node=node.name, reason=report.reason or Reason.PENDING, message=message)
        return
    for pod in report.pods:
        for each in pod.containers:
            if each.state not in _UNDONE:
                yield Left(
                    node=node.name,
                    namespace=pod.namespace or "",
                    pod=pod.name,
                    container=each.name,
                    reason=each.reason or each.state,
                    message=each.message,
                )


def left_by_operator(placement: Placement) -> tuple[Left, ...]:
    """Return the same as the operator says it, for who may not read what agents report."""
    ready = find_condition(placement.status.conditions, ConditionType.READY)
    if ready is None or placement.status.observed_generation != placement.generation:
        return (Left(reason=Reason.PENDING, message="the operator has not judged the change yet"),)
    if ready.reason in _UNDONE_REASONS:
        return ()
    return (Left(reason=ready.reason, message=ready.message),)
