# SPDX-License-Identifier: Apache-2.0
"""What holds of every verdict, whatever the world."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.convert import to_builtins
from memplace.api.v1alpha1 import (
    ContainerState,
    MemoryTier,
    NodeMemory,
    Placement,
    PlacementReport,
    PlacementStatus,
)
from memplace.pods import Life
from memplace_operator.objects import SeenPod, id_number, pack_status, unpack_status
from memplace_operator.reconcile import transitions
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
    status_of,
    tier,
    world,
)

NAMES = ("p-0", "p-1", "p-2")
NODES = ("a", "b", "c")
IDS = st.sampled_from(["c1", "c2"])
SIZES = st.integers(0, 1 << 40)


@st.composite
def pods(draw: st.DrawFn) -> list[SeenPod]:
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


@dataclass(frozen=True)
class Drawn:
    """A world, by what it is made of."""

    subject: Placement
    others: list[Placement]
    pods: list[SeenPod]
    nodes: list[NodeMemory]
    tiers: list[MemoryTier]

    def world(self, *more: Placement) -> World:
        placements = [self.subject, *self.others, *more]
        return world(placements, self.pods, self.nodes, tiers=self.tiers)

    def turned(self) -> World:
        return world(
            [*reversed(self.others), self.subject],
            reversed(self.pods),
            reversed(self.nodes),
            tiers=self.tiers,
        )


@st.composite
def worlds(draw: st.DrawFn) -> Drawn:
    subject = placement()
    ages = st.sampled_from([OLD - seconds(1), OLD, NOW])
    others = [placement("other", created=draw(ages))] if draw(st.booleans()) else []
    tiers = [tier("cxl")] if draw(st.booleans()) else []
    return Drawn(subject, others, draw(pods()), draw(nodes()), tiers)


def is_proven(drawn: Drawn, one: SeenPod) -> bool:
    """Say without the code under test whether a running pod is placed, from the raw reports."""
    subject = drawn.subject
    found = next((n for n in drawn.nodes if n.name == one.pod.node), None)
    if found is None or found.status.heartbeat_time is None:
        return False
    return NOW - found.status.heartbeat_time <= timedelta(seconds=90) and any(
        container.state is ContainerState.PLACED
        and id_number(container.container_id) in one.pod.ids
        for whole in found.status.placements
        if whole.uid == subject.uid and whole.observed_generation == subject.generation
        for each in whole.pods
        if each.uid == one.pod.uid
        for container in each.containers
    )


@given(worlds())
def test_ready_means_every_running_pod_is_placed(drawn: Drawn) -> None:
    status = status_of(drawn.subject, drawn.world())
    matched = [
        one for one in drawn.pods if one.pod.life == "Running" and one.labels["app"] == "redis"
    ]
    running = [one for one in matched if one.pod.containers]
    proven = [one for one in running if is_proven(drawn, one)]
    assert status.matched_pods == len(matched)
    assert status.placed_pods <= len(proven)
    if condition(status) == ("True", "Placed"):
        assert running
        assert proven == running
        assert status.placed_pods == len(running)
        assert status.unsupported_pods == 0
        assert condition(status, "Degraded")[0] == condition(status, "Unsupported")[0] == "False"


@given(worlds())
def test_the_same_world_gives_the_same_status(drawn: Drawn) -> None:
    subject, there = drawn.subject, drawn.world()
    status = status_of(subject, there)
    later = msgspec.structs.replace(subject, status=status)
    assert status_of(later, there) == status
    assert transitions(status, status_of(later, there)) == ()


@given(worlds())
def test_the_order_of_lists_does_not_matter(drawn: Drawn) -> None:
    assert status_of(drawn.subject, drawn.turned()) == status_of(drawn.subject, drawn.world())


@given(worlds())
def test_degraded_is_never_ready_and_counts_fit(drawn: Drawn) -> None:
    status = status_of(drawn.subject, drawn.world())
    ready, degraded = condition(status), condition(status, "Degraded")
    if degraded[0] == "True":
        assert ready == ("False", degraded[1])
    assert 0 <= status.placed_pods + status.unsupported_pods <= status.matched_pods
    assert (status.unsupported_pods > 0) == (condition(status, "Unsupported")[0] == "True")
    for each in status.rules:
        assert sum(on_tier.bytes for on_tier in each.tiers) == each.bytes


@given(worlds())
def test_a_status_survives_the_api(drawn: Drawn) -> None:
    status = status_of(drawn.subject, drawn.world())
    assert msgspec.convert(to_builtins(status), PlacementStatus) == status
    assert unpack_status(pack_status(status)) == status


@given(worlds())
def test_the_winner_does_not_notice_the_loser(drawn: Drawn) -> None:
    younger = placement("zz", created=NOW + seconds(1))
    crowded = drawn.world(younger)
    assert status_of(drawn.subject, crowded) == status_of(drawn.subject, drawn.world())
