# SPDX-License-Identifier: Apache-2.0
"""Reports of containers that were not looked at, or not wholly. Pure."""

from __future__ import annotations

from memplace.api.v1alpha1 import ContainerReport, ContainerState, RuleReport
from memplace.assignment import Assignment, forecast, why_first, would_win
from memplace.errors import FeatureUnavailable
from memplace.explained import ContainerListed
from memplace.kinds import Pressure
from memplace.reasons import Reason
from msgspec import structs

from memplace_agent.containers.absence import Absence
from memplace_agent.report import Subject


def absent(subject: Subject, absence: Absence) -> ContainerReport:
    """Report a container without a process here."""
    states = {
        Reason.PENDING: ContainerState.PENDING,
        Reason.CGROUP_NOT_FOUND: ContainerState.FAILED,
        Reason.FAILED: ContainerState.FAILED,
    }
    state = states.get(absence.reason, ContainerState.UNSUPPORTED)
    return _report(subject, state, absence.reason, absence.message)


def conflict(lost: Subject, assignment: Assignment) -> ContainerReport:
    """Report a container to a placement that it does not follow."""
    winner, trial = assignment.winner, lost.placement
    if trial.spec.is_dry_run and not trial.spec.paused:
        message = forecast(trial, winner)
        measured = assignment.trial
        if measured is not None and measured.uid != trial.uid and would_win(trial, winner):
            message += f"; of several dry runs only the first tells more: {measured.title}"
    else:
        message = f"follows {winner.title}, which {why_first(winner, trial)}".rstrip(",")
    return _report(lost, ContainerState.CONFLICT, Reason.CONFLICT, message)


def not_yet(subject: Subject, rules: tuple[RuleReport, ...] = ()) -> ContainerReport:
    """Report a container whose turn has not come, with what its rules held before."""
    text = "the agent has not looked at it yet"
    report = _report(subject, ContainerState.PENDING, Reason.PENDING, text)
    return structs.replace(report, rules=rules)


def pressed(report: ContainerReport, pressure: Pressure) -> ContainerReport:
    """Return a report with how much the container stalls on memory, which no look finds out."""
    if report.memory_pressure is pressure:
        return report
    return structs.replace(report, memory_pressure=pressure)


def unsupported(subject: Subject, why: FeatureUnavailable) -> ContainerReport:
    """Report a container of a node that can't place memory."""
    text = f"{why} {why.HELP}"
    return _report(subject, ContainerState.UNSUPPORTED, why.reason, text)


def failed(subject: Subject, reason: Reason, text: str) -> ContainerReport:
    """Report a container that could not be looked at."""
    return _report(subject, ContainerState.FAILED, reason, text)


def listed(subject: Subject, report: ContainerReport) -> ContainerListed:
    """Say of a container how it fares, for those who ask about its memory."""
    return ContainerListed(
        id=subject.container_id,
        namespace=subject.pod.namespace,
        pod=subject.pod.name,
        container=subject.container,
        placement=subject.placement.handle,
        state=report.state,
        reason=report.reason,
        message=report.message,
    )


def _report(
    subject: Subject, state: ContainerState, reason: Reason, message: str
) -> ContainerReport:
    return ContainerReport(
        name=subject.container,
        state=state,
        container_id=subject.container_id,
        reason=reason,
        message=message,
    )
