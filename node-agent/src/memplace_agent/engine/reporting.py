# SPDX-License-Identifier: Apache-2.0
"""The reports of a node, put together from what is known of each container."""

from __future__ import annotations

from collections.abc import Callable

from memplace.api.v1alpha1 import ContainerReport
from memplace.assignment import gives_way, would_win

from memplace_agent.engine.known import State, subject_of
from memplace_agent.engine.parts import Parts
from memplace_agent.report import Reports, Subject


def reports_of(
    state: State,
    parts: Parts,
    report_of: Callable[[str, Subject], ContainerReport],
    of_loser: Callable[[Subject], ContainerReport],
) -> Reports:
    """Return how everything fares now.

    Args:
        state: What is known.
        parts: Whose ledger tells of what is to be given back, and whose metrics are set.
        report_of: Says how one container fares, by its id.
        of_loser: Says of one to a placement that it does not follow what becomes of it.
    """
    reports = Reports(numa_nodes=state.machine.numa_nodes, verdicts=state.machine.verdicts)
    for container_id, assignment in state.view.assignments.items():
        listed = state.listed[container_id]
        subject = subject_of(container_id, listed, assignment)
        reports.put(subject, report_of(container_id, subject))
        for loser in assignment.losers:
            winner = assignment.winner
            if gives_way(loser, winner) and not would_win(loser, winner):
                continue
            lost = Subject(loser, listed.pod.ref, listed.name, container_id)
            reports.put(lost, of_loser(lost))
    for container_id, message in state.undoing.items():
        claim = parts.store.get(container_id)
        if claim is not None:
            reports.undoing(claim.placement, message)
    carried = sum(each.container.carried for each in state.followed.values())
    parts.metrics.region_policies.set(carried)
    return reports
