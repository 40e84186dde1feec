# SPDX-License-Identifier: Apache-2.0
"""Builders of small worlds for the tests of the verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from memplace.api.conditions import Condition
from memplace.api.convert import to_builtins
from memplace.api.v1alpha1 import (
    AgentMode,
    ClusterPlacementSpec,
    ContainerReport,
    ContainerState,
    LabelSelector,
    MemoryTier,
    NodeMemory,
    NodeMemorySpec,
    NodeMemoryStatus,
    NumaBytes,
    Placement,
    PlacementReport,
    PlacementSpec,
    PlacementStatus,
    PodReport,
    PolicySpec,
    RegionEntry,
    Rule,
    RuleReport,
    TierNumaNodes,
    TierSpec,
    Truncated,
)
from memplace.kinds import Mode, OnUnsupported, Pressure, RegionKind
from memplace.pods import Life
from memplace_operator.beats import Beats
from memplace_operator.objects import Pod, SeenNamespace, SeenNode, SeenPod, id_number, read_node
from memplace_operator.reconcile import reconcile
from memplace_operator.world import Subject, World

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
    **fields: Any,
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
        spec=msgspec.structs.replace(spec, **fields),
        status=status,
    )


def cluster_placement(
    name: str = "cmp",
    *,
    enforced: bool = False,
    namespaces: LabelSelector = LabelSelector({"kind": "batch"}),  # noqa: B008  frozen
    **given: Any,
) -> Placement:
    base = placement(name, **given)
    fields = {key: getattr(base.spec, key) for key in base.spec.__struct_fields__}
    spec = ClusterPlacementSpec(namespace_selector=namespaces, enforced=enforced, **fields)
    return msgspec.structs.replace(base, namespace="", spec=spec)


def namespace(name: str = "cache", **labels: str) -> SeenNamespace:
    return SeenNamespace(f"uid-of-{name}", name, labels)


def pod(
    name: str = "redis-0",
    *,
    node: str = "a",
    life: Life = "Running",
    container: str = "c1",
    app: str = "redis",
    namespace: str = "cache",
    uid: str = "",
) -> SeenPod:
    names = ("redis",) if container else ()
    ids = (id_number(container),) if container else ()
    found = Pod(uid or f"uid-{name}", name, node, life, names, ids)
    return SeenPod(namespace, {"app": app}, found)


def pod_report(
    name: str = "redis-0",
    *,
    state: ContainerState = ContainerState.PLACED,
    container: str = "c1",
    reason: str = "",
    message: str = "",
    pressure: Pressure = Pressure.LOW,
    rules: tuple[RuleReport, ...] = (),
) -> PodReport:
    report = ContainerReport(
        name="redis",
        state=state,
        container_id=container,
        reason=reason,
        message=message,
        memory_pressure=pressure,
        rules=rules,
    )
    return PodReport(uid=f"uid-{name}", name=name, containers=(report,))


def measured(name: str = "heap", **numa: int) -> RuleReport:
    """Return a report of bytes per NUMA node: n0=…, n1=…"""
    nodes = tuple(NumaBytes(id=int(key[1:]), bytes=size) for key, size in numa.items())
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
        tiers=(
            TierNumaNodes(name="cxl", numa_nodes=(1,)),
            TierNumaNodes(name="dram", numa_nodes=(0,)),
        ),
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


def seen(memory: NodeMemory) -> SeenNode:
    """Return a node as the operator reads it from what the API server says."""
    body = {
        "metadata": {"name": memory.name, "uid": memory.uid},
        "spec": to_builtins(memory.spec),
        "status": to_builtins(memory.status),
    }
    return read_node(json.dumps(body).encode())


def age(memory: NodeMemory, now: datetime) -> float:
    """Return for how many seconds the agent has said nothing new."""
    heartbeat = memory.status.heartbeat_time
    return 1e6 if heartbeat is None else (now - heartbeat).total_seconds()


def world(
    placements: Iterable[Placement],
    pods: Iterable[SeenPod] = (),
    nodes: Iterable[NodeMemory] = (),
    *,
    tiers: Iterable[MemoryTier] = (),
    now: datetime = NOW,
    waited_s: float = 200.0,
) -> World:
    """Return a world in which each agent's last heartbeat was seen when it was given.

    `waited_s` is for how long the operator has been there.
    """
    there, beats, nodes = World(), Beats(), tuple(nodes)
    for subject in placements:
        there.put_placement(subject)
    for one in pods:
        there.put_pod(one)
    for memory in nodes:
        there.put_node(seen(memory))
    for each in tiers:
        there.put_tier(each.uid, each.name)
    beats.hear({}, nodes=there.expected(), now=-waited_s)
    for memory in nodes:
        if memory.status.heartbeat_time is not None:
            beats.report(memory.name, "the last", max(-age(memory, now), -waited_s))
    for second in range(-int(waited_s), 0, 10):
        beats.hear({}, nodes=there.expected(), now=second)
    there.hear(beats.pulses(0.0))
    return there


def status_of(subject: Subject, there: World, now: datetime = NOW) -> PlacementStatus:
    assert isinstance(subject, Placement)
    return reconcile(subject, there, now)


def verdict(
    subject: Placement,
    pods: Iterable[SeenPod] = (),
    nodes: Iterable[NodeMemory] = (),
    *,
    others: Iterable[Placement] = (),
    tiers: Iterable[MemoryTier] = (),
    now: datetime = NOW,
    waited_s: float = 200.0,
) -> PlacementStatus:
    there = world([subject, *others], pods, nodes, tiers=tiers, now=now, waited_s=waited_s)
    return reconcile(subject, there, now)


def condition(status: PlacementStatus, type_: str = "Ready") -> tuple[str, str]:
    found = next(c for c in status.conditions if c.type == type_)
    return found.status, found.reason


def message(status: PlacementStatus, type_: str = "Ready") -> str:
    return next(c for c in status.conditions if c.type == type_).message
