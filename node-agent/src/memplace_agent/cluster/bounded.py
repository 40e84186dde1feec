# SPDX-License-Identifier: Apache-2.0
"""Keep a NodeMemory small, and fair: what one namespace has much of costs the others nothing.

Pure. The API server refuses a status that is too large or has too many entries as a whole, and
with it the truth about everybody; watchers pay for each byte of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
from memplace.api.v1alpha1 import (
    ContainerReport,
    ContainerState,
    NodeMemoryStatus,
    PlacementReport,
    PodReport,
    Truncated,
)

# Of JSON. etcd takes 1.5 MiB; 5,000 nodes' reports have to fit an operator.
BUDGET = 200 << 10

# crds/nodememories.yaml has them as maxItems; tests/crd holds the two together.
PLACEMENTS_MAX = 512
PODS_MAX = 1024
CONTAINERS_MAX = 64

# Of a message whose pod has no room for details.
_SHORT = 160
# A comma, and the figures of what was left out.
_COMMA = 1
_RESERVE = 64


def bounded(status: NodeMemoryStatus, budget: int = BUDGET) -> NodeMemoryStatus:
    """Return the status in at most that many bytes of JSON; the same one when it fits.

    Each namespace with reports has an equal share; what one does not need is the others'.
    Within a share each placement comes first, then each pod with its state, those in trouble
    before the others, and then what was measured in it.

    Args:
        status: What there is to say.
        budget: Bytes; everything but the placements is taken to fit.
    """
    if _size(status) <= budget and _has_allowed_counts(status.placements):
        return status
    room = budget - _size(without_placements(status)) - _RESERVE
    namespaces = _by_namespace(status.placements)
    entries = fair_shares([len(reports) for reports in namespaces], PLACEMENTS_MAX)
    sizes = [sum(map(_want, reports)) for reports in namespaces]
    parts = [
        _fit(reports, count, share)
        for reports, count, share in zip(
            namespaces, entries, fair_shares(sizes, max(room, 0)), strict=True
        )
    ]
    kept = {report.uid: report for part, _ in parts for report in part}
    return msgspec.structs.replace(
        status,
        placements=tuple(kept[r.uid] for r in status.placements if r.uid in kept),
        truncated=_sum(truncated for _, truncated in parts),
    )


def without_placements(status: NodeMemoryStatus) -> NodeMemoryStatus:
    """Return the status with everything about placements left out."""
    missing = Truncated(placements=len(status.placements))
    return msgspec.structs.replace(status, placements=(), truncated=missing)


def fair_shares(wants: Sequence[int], total: int) -> list[int]:
    """Divide a total: nobody gets more than wanted, and else all get the same.

    Args:
        wants: What each one wants.
        total: What there is.

    Returns:
        What each one gets, in the same order; what does not divide evenly is left.
    """
    shares = [0] * len(wants)
    left = total
    order = sorted(range(len(wants)), key=lambda index: wants[index])
    for served, index in enumerate(order):
        shares[index] = min(wants[index], left // (len(order) - served))
        left -= shares[index]
    return shares


def _want(report: PlacementReport) -> int:
    head = msgspec.structs.replace(report, pods=())
    return _size(head) + _COMMA + sum(_size(pod) + _COMMA for pod in report.pods)


def _fit(
    reports: Sequence[PlacementReport], count: int, share: int
) -> tuple[list[PlacementReport], Truncated]:
    """Return what fits of the reports of one namespace, and what was left out."""
    kept: list[PlacementReport] = []
    for report in sorted(reports, key=lambda report: not report.pods)[:count]:
        head = msgspec.structs.replace(report, pods=())
        size = _size(head) + _COMMA
        if size <= share:
            kept.append(report)
            share -= size
    candidates = [pod for report in kept for pod in report.pods[:PODS_MAX]]
    chosen, slim = _pods(candidates, share)
    left_out = sum(len(report.pods) for report in kept) - len(chosen)
    fitted = [
        msgspec.structs.replace(
            report, pods=tuple(chosen[id(pod)] for pod in report.pods if id(pod) in chosen)
        )
        for report in kept
    ]
    return fitted, Truncated(placements=len(reports) - len(kept), pods=left_out, details=slim)


def _pods(pods: Sequence[PodReport], share: int) -> tuple[dict[int, PodReport], int]:
    # A pod can be reported under several placements, so the reports are told apart by identity.
    chosen: dict[int, PodReport] = {}
    ordered = sorted(pods, key=_is_placed)
    for pod in ordered:
        slim = _slim(pod)
        size = _size(slim) + _COMMA
        if size <= share:
            chosen[id(pod)] = slim
            share -= size
    slims = len(chosen)
    for pod in ordered:
        if id(pod) not in chosen:
            continue
        full = msgspec.structs.replace(pod, containers=pod.containers[:CONTAINERS_MAX])
        more = _size(full) - _size(chosen[id(pod)])
        if more <= share:
            chosen[id(pod)] = full
            share -= more
            slims -= 1
    return chosen, slims


def _is_placed(pod: PodReport) -> bool:
    return all(c.state is ContainerState.PLACED for c in pod.containers)


def _slim(pod: PodReport) -> PodReport:
    return msgspec.structs.replace(
        pod, containers=tuple(map(_slim_container, pod.containers[:CONTAINERS_MAX]))
    )


def _slim_container(container: ContainerReport) -> ContainerReport:
    cut = len(container.message) > _SHORT
    message = f"{container.message[: _SHORT - 1]}…" if cut else container.message
    return msgspec.structs.replace(container, message=message, new_memory="", rules=())


def _has_allowed_counts(reports: Sequence[PlacementReport]) -> bool:
    return len(reports) <= PLACEMENTS_MAX and all(
        len(report.pods) <= PODS_MAX
        and all(len(pod.containers) <= CONTAINERS_MAX for pod in report.pods)
        for report in reports
    )


def _by_namespace(reports: Iterable[PlacementReport]) -> list[list[PlacementReport]]:
    found: dict[str, list[PlacementReport]] = defaultdict(list)
    for report in reports:
        found[report.namespace].append(report)
    return [found[namespace] for namespace in sorted(found)]


def _sum(parts: Iterable[Truncated]) -> Truncated:
    parts = tuple(parts)
    return Truncated(
        placements=sum(part.placements for part in parts),
        pods=sum(part.pods for part in parts),
        details=sum(part.details for part in parts),
    )


def _size(struct: msgspec.Struct) -> int:
    return len(msgspec.json.encode(struct))
