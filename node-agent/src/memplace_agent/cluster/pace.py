# SPDX-License-Identifier: Apache-2.0
"""When a status is worth a write: at once when a state changes, seldom for figures. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memplace.api.v1alpha1 import NodeMemoryStatus, PlacementReport, RuleReport

# Changed states are written as soon as possible, but not more often than this.
STATES_S = 2.0
# Changed figures and messages at most this often: each write goes to etcd and all watchers.
FIGURES_S = 10.0

# Figures that differ by less than the larger of these are as good as the written ones.
_BYTES = 1 << 20
_SHARE = 0.01


def is_due(written: NodeMemoryStatus | None, status: NodeMemoryStatus, since_s: float) -> bool:
    """Return whether a status is to be written now.

    Args:
        written: What was written last; None when nothing was.
        status: What there is to say.
        since_s: Seconds since that write.
    """
    if written is None:
        return True
    if since_s < STATES_S or status == written:
        return False
    if _states(status) != _states(written):
        return True
    return since_s >= FIGURES_S and _differ(written, status)


def _states(status: NodeMemoryStatus) -> Any:
    # All that is neither measured nor a text.
    return (
        [(c.type, c.status, c.reason) for c in status.conditions],
        (status.agent_version, status.backend and (status.backend.name, status.backend.reason)),
        (status.numa_nodes, status.tiers, status.truncated),
        [_placement(report) for report in status.placements],
    )


def _placement(report: PlacementReport) -> Any:
    containers = [
        (pod.uid, c.name, c.container_id, c.state, c.reason, c.memory_pressure, _names(c.rules))
        for pod in report.pods
        for c in pod.containers
    ]
    return report.uid, report.observed_generation, report.reason, report.conflicts, containers


def _names(rules: Iterable[RuleReport]) -> list[str]:
    return [rule.name for rule in rules]


def _differ(written: NodeMemoryStatus, status: NodeMemoryStatus) -> bool:
    # Both have the same states, so the same placements, pods, containers and rules.
    if list(_texts(written)) != list(_texts(status)):
        return True
    pairs = zip(_rules(written), _rules(status), strict=True)
    return any(_rule_differs(old, new) for old, new in pairs)


def _texts(status: NodeMemoryStatus) -> Iterable[str]:
    yield from (condition.message for condition in status.conditions)
    if status.backend:
        yield status.backend.message
    for report in status.placements:
        yield report.message
        yield from (c.message for pod in report.pods for c in pod.containers)


def _rules(status: NodeMemoryStatus) -> Iterable[RuleReport]:
    for report in status.placements:
        for pod in report.pods:
            for container in pod.containers:
                yield from container.rules


def _rule_differs(old: RuleReport, new: RuleReport) -> bool:
    before = {node.id: node.bytes for node in old.numa_nodes}
    after = {node.id: node.bytes for node in new.numa_nodes}
    figures = [(before.get(id_, 0), after.get(id_, 0)) for id_ in before | after]
    figures += [(old.bytes, new.bytes), (old.misplaced_bytes, new.misplaced_bytes)]
    return _is_far(old.regions, new.regions, 0) or any(_is_far(a, b, _BYTES) for a, b in figures)


def _is_far(old: int, new: int, least: int) -> bool:
    # Nothing at all is another thing than little.
    if (old == 0) != (new == 0):
        return True
    return abs(old - new) > max(least, _SHARE * old)
