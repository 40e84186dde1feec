# SPDX-License-Identifier: Apache-2.0
"""Builders of small worlds for the tests of the verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec
from memplace.api.conditions import Condition
from memplace.api.v1alpha1 import (
    AgentMode,
    ContainerReport,
    ContainerState,
    LabelSelector,
    MemoryTier,
    NodeBytes,
    NodeMemory,
    NodeMemorySpec,
    NodeMemoryStatus,
    Placement,
    PlacementReport,
    PlacementSpec,
    PlacementStatus,
    PodReport,
    PolicySpec,
    RegionEntry,
    Rule,
    RuleReport,
    TierNodes,
    TierSpec,
    Truncated,
)
from memplace.assignment import PodRef
from memplace.kinds import Mode, OnUnsupported, RegionKind
from memplace.pods import Life, PodState
from memplace_operator.reconcile import reconcile
from memplace_operator.world import World, make_world

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
OLD = NOW - timedelta(hours=1)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def rule(name: str = "heap", *, tiers: tuple[str, ...] = ("cxl",)) -> Rule:
    policy = PolicySpec(Mode.PREFERRED_MANY, tiers)
    return Rule(name, (RegionEntry(RegionKind.HEAP),), policy)


def placement(
    name: str = "mp",
    *,
    generation: int = 3,
    created: datetime = OLD,
    rules: tuple[Rule, ...] = (rule(),),
    containers: tuple[str, ...] | None = None,
    on_unsupported: OnUnsupported | None = None,
    status: PlacementStatus = PlacementStatus(),  # noqa: B008  frozen
) -> Placement:
    selector = LabelSelector({"app": "redis"})
    spec = PlacementSpec(selector, rules)
    if containers is not None:
        spec = PlacementSpec(selector, rules, containers)
    if on_unsupported is not None:
        spec = msgspec.structs.replace(spec, on_unsupported=on_unsupported)
    return Placement(
        uid=f"uid-{name}",
        namespace="cache",
        name=name,
        generation=generation,
        creation_timestamp=created,
        spec=spec,
        status=status,
    )


def pod(
    name: str = "redis-0",
    *,
    node: str = "a",
    life: Life = "Running",
    container: str = "c1",
    app: str = "redis",
    namespace: str = "cache",
) -> PodState:
    ids = {"redis": container} if container else {}
    ref = PodRef(
        namespace=namespace,
        name=name,
        uid=f"uid-{name}",
        labels={"app": app},
        containers=tuple(ids),
    )
    return PodState(ref, ids, node, life, OLD)


def pod_report(
    name: str = "redis-0",
    *,
    state: ContainerState = ContainerState.PLACED,
    container: str = "c1",
    reason: str = "",
    message: str = "",
    rules: tuple[RuleReport, ...] = (),
) -> PodReport:
    report = ContainerReport(
        name="redis",
        state=state,
        container_id=container,
        reason=reason,
        message=message,
        rules=rules,
    )
    return PodReport(uid=f"uid-{name}", name=name, containers=(report,))


def measured(name: str = "heap", **numa: int) -> RuleReport:
    """Return a report of bytes per NUMA node: n0=…, n1=…"""
    nodes = tuple(NodeBytes(id=int(key[1:]), bytes=size) for key, size in numa.items())
    return RuleReport(name=name, regions=1, bytes=sum(numa.values()), numa_nodes=nodes)


def report(
    *pods: PodReport, name: str = "mp", generation: int = 3, reason: str = "", message: str = ""
) -> PlacementReport:
    return PlacementReport(
        uid=f"uid-{name}",
        namespace="cache",
        name=name,
        observed_generation=generation,
        reason=reason,
        message=message,
        pods=pods,
    )


def node(
    *reports: PlacementReport,
    name: str = "a",
    age_s: float | None = 10,
    supported: str = "",
    agent: AgentMode = AgentMode.ACTIVE,
    installation: str = "",
) -> NodeMemory:
    condition = Condition(
        type="Supported",
        status="False" if supported else "True",
        reason=supported or "ProcessMbindAvailable",
        last_transition_time=OLD,
    )
    status = NodeMemoryStatus(
        conditions=(condition,),
        heartbeat_time=None if age_s is None else NOW - seconds(age_s),
        tiers=(TierNodes(name="cxl", numa_nodes=(1,)), TierNodes(name="dram", numa_nodes=(0,))),
        placements=reports,
    )
    return NodeMemory(
        uid=f"uid-{name}",
        name=name,
        generation=1,
        spec=NodeMemorySpec(agent, installation),
        status=status,
    )


def truncated(*reports: PlacementReport, **left_out: int) -> NodeMemory:
    """Return a node whose report has no room for everything."""
    found = node(*reports)
    status = msgspec.structs.replace(found.status, truncated=Truncated(**left_out))
    return msgspec.structs.replace(found, status=status)


def tier(name: str) -> MemoryTier:
    return MemoryTier(uid=name, name=name, generation=1, spec=TierSpec((1,)))


def world(
    placements: Iterable[Placement],
    pods: Iterable[PodState] = (),
    nodes: Iterable[NodeMemory] = (),
    *,
    tiers: Iterable[MemoryTier] = (),
    now: datetime = NOW,
) -> World:
    return make_world(placements=placements, pods=pods, nodes=nodes, tiers=tiers, now=now)


def verdict(
    subject: Placement,
    pods: Iterable[PodState] = (),
    nodes: Iterable[NodeMemory] = (),
    *,
    others: Iterable[Placement] = (),
    tiers: Iterable[MemoryTier] = (),
    now: datetime = NOW,
) -> PlacementStatus:
    return reconcile(subject, world([subject, *others], pods, nodes, tiers=tiers, now=now))


def condition(status: PlacementStatus, type_: str = "Ready") -> tuple[str, str]:
    found = next(c for c in status.conditions if c.type == type_)
    return found.status, found.reason


def message(status: PlacementStatus, type_: str = "Ready") -> str:
    return next(c for c in status.conditions if c.type == type_).message
