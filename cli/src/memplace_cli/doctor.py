# SPDX-License-Identifier: Apache-2.0
"""Whether memplace works in a cluster: one line per check, each with what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec
from memplace.api.conditions import find_condition
from memplace.api.liveness import DOUBT_S
from memplace.api.paths import Plural
from memplace.api.v1alpha1 import API_VERSION, NodeMemory
from memplace.reasons import FAILURES, ConditionType, Reason

from memplace_cli.advice import advise
from memplace_cli.beats import Pulse
from memplace_cli.crds import PLURALS, missing_fields
from memplace_cli.facts import ClusterFacts, is_retired, unsupported
from memplace_cli.status import status
from memplace_cli.words import count, joined

_MOST_NAMES = 4


class Mark(StrEnum):
    """How a check came out; only FAIL makes the exit status 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    SKIP = "skip"


class Check(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One line: what was checked, how it came out, and what to do."""

    what: str
    mark: Mark
    detail: str
    advice: str = ""


class Diagnosis(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """All checks."""

    schema: int = 1
    healthy: bool
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentPod:
    """A pod of the agent's DaemonSet: its name, its node, and whether it is ready."""

    name: str
    node: str
    is_ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFacts:
    """What was read for the checks; None for what could not be read.

    Attributes:
        facts: The objects of memplace.
        namespace: Where the operator and the agents should run.
        served: The plurals that the API server serves.
        crds: Of these the definitions, by plural.
        operator: Holder and pulse of the operator's Lease; the holder is empty without one.
        desired: How many nodes the DaemonSets mean; None also where there is no DaemonSet.
        has_daemonset: Whether there is one.
        pods: The agents' pods.
        pulses: Per node of a NodeMemory whether its agent lives.
    """

    facts: ClusterFacts
    namespace: str
    served: frozenset[Plural] = frozenset()
    crds: Mapping[Plural, Mapping[str, Any]] | None = None
    operator: tuple[str, Pulse] | None = None
    desired: int | None = None
    has_daemonset: bool | None = None
    pods: tuple[AgentPod, ...] | None = None
    pulses: Mapping[str, Pulse] = field(default_factory=dict)


def doctor(found: DoctorFacts) -> Diagnosis:
    """Check a cluster."""
    checks = tuple(
        check
        for part in (_crds, _operator, _agents, _heartbeats, _nodes, _conditions)
        for check in part(found)
    )
    skipped = tuple(
        Check(what="not checked", mark=Mark.SKIP, detail=each) for each in found.facts.left_out
    )
    healthy = all(check.mark is not Mark.FAIL for check in checks)
    return Diagnosis(healthy=healthy, checks=(*checks, *skipped))


def _crds(found: DoctorFacts) -> Iterator[Check]:
    missing = sorted(PLURALS - found.served)
    if missing:
        yield Check(
            what="CRDs",
            mark=Mark.FAIL,
            detail=f"{API_VERSION} is served without {joined(missing)}",
            advice="Install them: helm upgrade --install memplace, or kubectl apply -f crds/.",
        )
    elif found.crds is None:
        yield Check(what="CRDs", mark=Mark.OK, detail=f"all of {API_VERSION} are served")
    else:
        yield _crd_version(found.crds)


def _crd_version(crds: Mapping[Plural, Mapping[str, Any]]) -> Check:
    lacking = [
        f"{plural}: {f}" for plural, crd in crds.items() for f in missing_fields(plural, crd)
    ]
    if not lacking:
        return Check(
            what="CRDs", mark=Mark.OK, detail=f"all of {API_VERSION}, with this version's fields"
        )
    return Check(
        what="CRDs",
        mark=Mark.FAIL,
        detail=f"they lack fields of this version: {_some(lacking)}",
        advice="Apply the CRDs of the version that is installed, or use the kubectl memplace "
        "that belongs to them.",
    )


def _operator(found: DoctorFacts) -> Iterator[Check]:
    if found.operator is None:
        return
    holder, pulse = found.operator
    look = f"Look at the operator's pods: kubectl -n {found.namespace} get pods."
    if not holder:
        detail = f"nobody holds the Lease memplace-operator in namespace {found.namespace}"
        advice = f"{look} Is memplace in another namespace (--system-namespace)?"
        yield Check(what="operator", mark=Mark.FAIL, detail=detail, advice=advice)
    elif pulse is Pulse.ALIVE:
        yield Check(what="operator", mark=Mark.OK, detail=f"{holder} holds its Lease and renews it")
    else:
        yield _quiet("operator", f"{holder} holds its Lease and did not renew it", pulse, look)


def _quiet(what: str, detail: str, pulse: Pulse, advice: str) -> Check:
    if pulse is Pulse.SILENT:
        return Check(what=what, mark=Mark.FAIL, detail=detail, advice=advice)
    return Check(
        what=what,
        mark=Mark.WARN,
        detail=f"{detail} while this command listened; that was too short to be sure",
        advice=f"Listen for {DOUBT_S:.0f} s: leave out --wait.",
    )


def _agents(found: DoctorFacts) -> Iterator[Check]:
    if found.has_daemonset is None:
        return
    look = (
        f"See kubectl -n {found.namespace} get pods -o wide, and describe those that are not ready."
    )
    if not found.has_daemonset:
        yield Check(
            what="agents",
            mark=Mark.FAIL,
            detail=f"namespace {found.namespace} has no DaemonSet of the agent",
            advice="Install memplace, or name its namespace (--system-namespace).",
        )
        return
    pods = found.pods or ()
    bad = [f"{pod.name} on {pod.node or 'no node'}" for pod in pods if not pod.is_ready]
    wanted = found.desired or 0
    if len(pods) - len(bad) < wanted or bad:
        ready = f"{len(pods) - len(bad)} of {count(wanted, 'agent')} ready"
        detail = f"{ready}; not ready: {_some(bad)}" if bad else ready
        yield Check(what="agents", mark=Mark.FAIL, detail=detail, advice=look)
    elif not wanted:
        yield Check(
            what="agents",
            mark=Mark.FAIL,
            detail="the agent's DaemonSet means no node",
            advice="Compare its node selector and tolerations with the nodes.",
        )
    else:
        yield Check(what="agents", mark=Mark.OK, detail=f"all {wanted} are ready")
    yield from _mute(found, pods)


def _mute(found: DoctorFacts, pods: tuple[AgentPod, ...]) -> Iterator[Check]:
    if found.facts.nodes is None:
        return
    reporting = {n.name for n in found.facts.nodes if n.status.heartbeat_time is not None}
    mute = sorted({pod.node for pod in pods if pod.node and pod.is_ready} - reporting)
    if mute:
        yield Check(
            what="reports",
            mark=Mark.FAIL,
            detail=f"agents that run and never reported, on: {_some(mute)}",
            advice=f"Read their logs: kubectl -n {found.namespace} logs POD -c agent.",
        )


def _heartbeats(found: DoctorFacts) -> Iterator[Check]:
    nodes = [n for n in found.facts.nodes or () if n.status.heartbeat_time is not None]
    if found.facts.nodes is None:
        return
    if not nodes:
        yield Check(
            what="heartbeats",
            mark=Mark.FAIL,
            detail="no agent ever reported",
            advice="Look at the agent's DaemonSet.",
        )
        return
    by_pulse = {pulse: [n.name for n in nodes if _pulse(found, n) is pulse] for pulse in Pulse}
    for pulse in (Pulse.SILENT, Pulse.UNKNOWN):
        if by_pulse[pulse]:
            yield _quiet(
                "heartbeats",
                f"no heartbeat from the agents of: {_some(by_pulse[pulse])}",
                pulse,
                advise(Reason.AGENT_NOT_REPORTING).partition(";")[0] + ".",
            )
    if len(by_pulse[Pulse.ALIVE]) == len(nodes):
        yield Check(
            what="heartbeats", mark=Mark.OK, detail=f"all {count(len(nodes), 'agent')} live"
        )


def _pulse(found: DoctorFacts, node: NodeMemory) -> Pulse:
    return found.pulses.get(node.name, Pulse.UNKNOWN)


def _nodes(found: DoctorFacts) -> Iterator[Check]:
    nodes = found.facts.nodes or ()
    lesser: dict[str, list[str]] = {}
    for node in nodes:
        cannot = unsupported(node)
        if cannot is not None:
            lesser.setdefault(cannot.reason, []).append(node.name)
    for reason, names in sorted(lesser.items()):
        yield Check(
            what="backends",
            mark=Mark.WARN,
            detail=f"{reason}: {_some(names)} can't place memory to come",
            advice=advise(reason),
        )
    if nodes and not lesser:
        yield Check(what="backends", mark=Mark.OK, detail="all nodes can place memory")
    versions = {node.status.agent_version for node in nodes} - {""}
    if len(versions) > 1:
        yield Check(
            what="versions",
            mark=Mark.WARN,
            detail=f"agents of several versions: {joined(sorted(versions))}",
            advice="Wait until the DaemonSet has rolled out.",
        )
    retired = [node.name for node in nodes if is_retired(node)]
    if retired:
        yield Check(
            what="retired",
            mark=Mark.WARN,
            detail=f"agents that place nothing any more: {_some(retired)}",
            advice=advise(Reason.RETIRED),
        )
    for node in nodes:
        complete = find_condition(node.status.conditions, ConditionType.COMPLETE)
        if complete is not None and complete.status == "False":
            yield Check(
                what="reports",
                mark=Mark.WARN,
                detail=f"{node.name}: {complete.message}",
                advice=advise(complete.reason),
            )


def _conditions(found: DoctorFacts) -> Iterator[Check]:
    placements = found.facts.placements
    if placements is None:
        return
    trouble = [each for each in status(found.facts).attention if not each.about.startswith("node ")]
    for each in trouble:
        yield Check(
            what="placements",
            mark=Mark.FAIL if each.reason in FAILURES else Mark.WARN,
            detail=f"{each.about}: {each.reason}: {each.message}",
            advice=each.advice,
        )
    if not trouble:
        detail = f"{count(len(placements), 'placement')} without trouble"
        yield Check(what="placements", mark=Mark.OK, detail=detail)


def _some(names: list[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
