# SPDX-License-Identifier: Apache-2.0
"""What holds of every verdict, whatever the world."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.convert import to_builtins
from memplace.api.v1alpha1 import (
    ContainerState,
    NodeMemory,
    Placement,
    PlacementReport,
    PlacementStatus,
)
from memplace.pods import Life, PodState
from memplace_operator.reconcile import reconcile, transitions
from memplace_operator.world import World

from tests.unit.operator_pkg.worlds import (
    NOW,
    OLD,
    condition,
    measured,
    node,
    placement,
    pod,
    pod_report,
    report,
    seconds,
    tier,
    world,
)

NAMES = ("p-0", "p-1", "p-2")
NODES = ("a", "b", "c")
IDS = st.sampled_from(["c1", "c2"])
SIZES = st.integers(0, 1 << 40)


@st.composite
def pods(draw: st.DrawFn) -> list[PodState]:
    choice: tuple[Life, ...] = ("Running", "Running", "Waiting", "Ended")
    lives = st.sampled_from(choice)
    names = draw(st.sets(st.sampled_from(NAMES)))
    return [
        pod(
            name,
            node=draw(st.sampled_from(NODES)),
            life=draw(lives),
            container=draw(st.sampled_from(["c1", "c1", "c2", ""])),
            app=draw(st.sampled_from(["redis", "redis", "nginx"])),
        )
        for name in sorted(names)
    ]


@st.composite
def reports(draw: st.DrawFn) -> PlacementReport:
    reasons = st.sampled_from(["", "", "TierFull", "Whatever", "KernelWithoutProcessMbind"])
    rules = st.builds(measured, n0=SIZES, n1=SIZES, n5=SIZES)
    found = [
        pod_report(
            name,
            state=draw(st.sampled_from([ContainerState.PLACED, *ContainerState])),
            container=draw(IDS),
            reason=draw(reasons),
            message=draw(st.sampled_from(["", "node 1 is full", "ä" * 2000])),
            rules=(draw(rules),),
        )
        for name in sorted(draw(st.sets(st.sampled_from(NAMES))))
    ]
    whole = draw(st.sampled_from(["", "", "", "TierNotOnNode", "Undoing"]))
    generation = draw(st.sampled_from([3, 3, 2]))
    name = draw(st.sampled_from(["mp", "other"]))
    return report(*found, name=name, generation=generation, reason=whole)


@st.composite
def nodes(draw: st.DrawFn) -> list[NodeMemory]:
    return [
        node(
            *draw(st.lists(reports(), max_size=2, unique_by=lambda r: r.uid)),
            name=name,
            age_s=draw(st.sampled_from([None, 0, 90, 91])),
            supported=draw(st.sampled_from(["", "", "SeccompFiltered"])),
        )
        for name in sorted(draw(st.sets(st.sampled_from(NODES))))
    ]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Placement, World]:
    subject = placement()
    ages = st.sampled_from([OLD - seconds(1), OLD, NOW])
    others = [placement("other", created=draw(ages))] if draw(st.booleans()) else []
    tiers = [tier("cxl")] if draw(st.booleans()) else []
    return subject, world([subject, *others], draw(pods()), draw(nodes()), tiers=tiers)


def again(subject: Placement, status: PlacementStatus) -> Placement:
    return msgspec.structs.replace(subject, status=status)


def is_proven(subject: Placement, one: PodState, there: World) -> bool:
    """Say without the code under test whether a running pod is placed, from the raw reports."""
    found = there.nodes.get(one.node)
    if found is None or found.memory.status.heartbeat_time is None:
        return False
    return NOW - found.memory.status.heartbeat_time <= timedelta(seconds=90) and any(
        container.state is ContainerState.PLACED
        and container.container_id == one.container_ids["redis"]
        for whole in found.memory.status.placements
        if whole.uid == subject.uid and whole.observed_generation == subject.generation
        for each in whole.pods
        if each.uid == one.ref.uid
        for container in each.containers
    )


@given(worlds())
def test_ready_means_every_running_pod_is_placed(drawn: tuple[Placement, World]) -> None:
    subject, there = drawn
    status = reconcile(subject, there)
    running = [
        one
        for one in there.pods.get("cache", ())
        if one.life == "Running" and one.ref.labels["app"] == "redis" and one.container_ids
    ]
    proven = [one for one in running if is_proven(subject, one, there)]
    assert status.placed_pods <= len(proven)
    if condition(status)[0] == "True":
        assert running
        assert proven == running
        assert status.placed_pods == len(running)
        assert status.unsupported_pods == 0
        assert condition(status, "Degraded")[0] == condition(status, "Unsupported")[0] == "False"


@given(worlds())
def test_the_same_world_gives_the_same_status(drawn: tuple[Placement, World]) -> None:
    subject, there = drawn
    status = reconcile(subject, there)
    later = msgspec.structs.replace(subject, status=status)
    assert reconcile(later, there) == status
    assert transitions(status, reconcile(later, there)) == ()


@given(worlds())
def test_the_order_of_lists_does_not_matter(drawn: tuple[Placement, World]) -> None:
    subject, there = drawn
    placements = [p for found in there.placements.values() for p in found]
    shuffled_pods = [p for found in there.pods.values() for p in reversed(found)]
    memories = [n.memory for n in reversed(list(there.nodes.values()))]
    tiers = [tier(name) for name in there.tiers]
    turned = world(reversed(placements), shuffled_pods, memories, tiers=tiers)
    assert reconcile(subject, turned) == reconcile(subject, there)


@given(worlds())
def test_degraded_is_never_ready_and_counts_fit(drawn: tuple[Placement, World]) -> None:
    subject, there = drawn
    status = reconcile(subject, there)
    ready, degraded = condition(status), condition(status, "Degraded")
    if degraded[0] == "True":
        assert ready == ("False", degraded[1])
    assert 0 <= status.placed_pods + status.unsupported_pods <= status.matched_pods
    assert (status.unsupported_pods > 0) == (condition(status, "Unsupported")[0] == "True")
    for each in status.rules:
        assert sum(on_tier.bytes for on_tier in each.tiers) == each.bytes


@given(worlds())
def test_a_status_survives_the_api(drawn: tuple[Placement, World]) -> None:
    status = reconcile(*drawn)
    assert msgspec.convert(to_builtins(status), PlacementStatus) == status


@given(worlds())
def test_the_winner_does_not_notice_the_loser(drawn: tuple[Placement, World]) -> None:
    subject, there = drawn
    younger = placement("zz", created=NOW + seconds(1))
    placements = [p for found in there.placements.values() for p in found]
    pods_there = [p for found in there.pods.values() for p in found]
    memories = [n.memory for n in there.nodes.values()]
    tiers = [tier(name) for name in there.tiers]
    crowded = world([*placements, younger], pods_there, memories, tiers=tiers)
    assert reconcile(subject, crowded) == reconcile(subject, there)
