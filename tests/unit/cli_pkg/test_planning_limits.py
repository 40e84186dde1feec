# SPDX-License-Identifier: Apache-2.0
"""A plan says whether a limit of a namespace would be in its way, where reports tell that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from memplace.api.v1alpha1 import (
    Backend,
    BackendName,
    ContainerState,
    MemoryTier,
    NamespaceLimit,
    NodeMemory,
    NumaNodeStatus,
    Placement,
    TierSpec,
)
from memplace.assignment import PlacementIndex, PodRef
from memplace.kinds import Capability, Enforcement
from memplace.pods import PodState
from memplace_cli.facts import ClusterFacts
from memplace_cli.planned import PlanFacts, PodSeen
from memplace_cli.planning_limits import Outlook, Scene, look_at_limits
from memplace_cli.sizing import Reports
from msgspec import structs

from tests.unit.operator_pkg import worlds

MIB = 1 << 20
NAMES = ("redis-0", "redis-1")
DRY = Enforcement.DRY_RUN


def cxl(*limits: tuple[str, str], **spec: Any) -> MemoryTier:
    entries = tuple(NamespaceLimit(namespace=ns, per_node=size) for ns, size in limits)
    tier = worlds.tier("cxl")
    return structs.replace(tier, spec=TierSpec((1,), namespace_limits=entries, **spec))


def pod(name: str, limit: int = 0) -> PodSeen:
    ref = PodRef(
        namespace="cache",
        name=name,
        uid=f"uid-{name}",
        labels={"app": "redis"},
        containers=("redis",),
    )
    limits = {"redis": limit} if limit else {}
    return PodSeen(state=PodState(ref, {"redis": "c1"}, node="a"), limits=limits)


def reported(name: str, *, on: int, off: int, **given: Any) -> Any:
    """A pod that has so much on the tier, and so much elsewhere."""
    return worlds.pod_report(name, rules=(worlds.measured(n0=off * MIB, n1=on * MIB),), **given)


def node(*reports: Any) -> NodeMemory:
    found = worlds.node(*reports)
    numa = (NumaNodeStatus(id=0, total_bytes=1 << 30), NumaNodeStatus(id=1, total_bytes=1 << 30))
    backend = Backend(name=BackendName.PROCESS_MBIND, capabilities=tuple(Capability))
    return structs.replace(
        found, status=structs.replace(found.status, numa_nodes=numa, backend=backend)
    )


def looked(
    placement: Placement,
    *reports: Any,
    tier: MemoryTier,
    pods: Iterable[PodSeen] | None = None,
    live: tuple[Placement, ...] = (),
    nodes: bool = True,
) -> Outlook:
    index = PlacementIndex([*(each for each in live if each.uid != placement.uid), placement])
    memory = (node(*reports),) if nodes else None
    found = PlanFacts(
        facts=ClusterFacts(placements=live, nodes=memory),
        pods=tuple(map(pod, NAMES) if pods is None else pods),
        tiers=(tier,),
    )
    scene = Scene(
        found=found,
        tiers={"a": {"cxl": frozenset({1}), "dram": frozenset({0})}},
        memory_tiers=(tier,),
        reports=Reports(memory or ()),
        assign=lambda ref, _: index.assign(ref),
    )
    return look_at_limits(placement, scene)


MP = worlds.placement()
BOTH = worlds.report(reported("redis-0", on=8, off=4), reported("redis-1", on=0, off=4))


def refused(found: Outlook) -> list[str]:
    return sorted(pod for _, pod, _ in found.refused)


@pytest.mark.parametrize(
    ("limit", "who", "says"),
    [
        ("16Mi", [], "this placement fits"),
        ("12Mi", ["redis-1"], "1 container of this placement would be refused"),
        ("9Mi", ["redis-0", "redis-1"], "2 containers of this placement would be refused"),
        ("0", ["redis-0", "redis-1"], "2 containers of this placement would be refused"),
        ("50%", [], "namespace cache may have 50% (512Mi on this node) of tier cxl"),
    ],
)
def test_what_is_measured_tells_who_would_be_refused(limit: str, who: list[str], says: str) -> None:
    found = looked(MP, BOTH, tier=cxl(("cache", limit)), live=(MP,))
    assert refused(found) == who
    note, caveat = found.notes
    assert note.startswith("node a: namespace cache may have ") and says in note
    assert "and has 8.0 MiB of it by what its agent reports" in note
    assert "is not reported" in caveat
    assert all("nothing new is placed there" in why for why in found.refused.values())


def test_of_what_nobody_measured_the_memory_limit_is_a_bound() -> None:
    pods = [pod("redis-0", 4 * MIB), pod("redis-1", 4 * MIB)]
    (note, _) = looked(MP, tier=cxl(("cache", "8Mi")), pods=pods).notes
    assert "this placement fits" in note
    found = looked(MP, tier=cxl(("cache", "7Mi")), pods=pods)
    assert not found.refused
    assert "whether 1 container of this placement would be refused can't be told" in found.notes[0]
    found = looked(MP, tier=cxl(("cache", "7Mi")))
    assert not found.refused
    assert "whether 2 containers of this placement would be refused can't be told" in found.notes[0]


def test_others_of_the_namespace_come_first_and_have_what_they_have() -> None:
    first = worlds.placement("first", priority=9, containers=("redis",))
    report = worlds.report(reported("redis-0", on=8, off=0), name="first")
    mine = structs.replace(MP, spec=structs.replace(MP.spec, priority=10))
    found = looked(mine, report, tier=cxl(("cache", "8Mi")), live=(first,))
    # What the other one has stays there, and its container would be this one's.
    assert "has 8.0 MiB" in found.notes[0] and not found.refused
    assert "2 containers of this placement would be refused can't be told" in found.notes[0]
    found = looked(mine, report, tier=cxl(("cache", "7Mi")), live=(first,))
    assert refused(found) == ["redis-0", "redis-1"]


def test_a_dry_run_is_foreseen_as_if_it_was_meant() -> None:
    acts = worlds.placement("acts")
    dry = worlds.placement(mode=DRY, priority=9)
    report = worlds.report(
        reported("redis-0", on=2, off=4, state=ContainerState.DRY_RUN),
        reported("redis-1", on=2, off=9, state=ContainerState.DRY_RUN),
    )
    found = looked(dry, report, tier=cxl(("cache", "4Mi")), live=(acts, dry))
    assert refused(found) == ["redis-1"]
    (why,) = found.refused.values()
    assert "with mode Enforce nothing would be placed there" in why
    # What a dry run measured is there by no placement's doing.
    assert "has 0 B of it" in found.notes[0]
    lost = worlds.placement(mode=DRY, priority=-9)
    assert looked(lost, report, tier=cxl(("cache", "4Mi")), live=(acts, lost)) == Outlook()


@pytest.mark.parametrize(
    "tier",
    [cxl(("other", "1Mi")), cxl(), cxl(("cache", "1Mi"), node_names=("b",))],
)
def test_where_no_limit_is_meant_nothing_is_said(tier: MemoryTier) -> None:
    assert looked(MP, BOTH, tier=tier, live=(MP,)) == Outlook()


def test_one_that_is_paused_brings_nothing_new() -> None:
    paused = worlds.placement(paused=True)
    assert looked(paused, BOTH, tier=cxl(("cache", "1Mi")), live=(paused,)) == Outlook()


def test_without_the_right_to_read_nodes_it_is_said_that_it_is_not_known() -> None:
    found = looked(MP, tier=cxl(("cache", "1Mi")), nodes=False)
    assert not found.refused
    assert "not known, for want of the right to read NodeMemories" in found.notes[0]
    assert looked(MP, tier=cxl(("other", "1Mi")), nodes=False) == Outlook()
