# SPDX-License-Identifier: Apache-2.0
"""What is expected of containers that are not there yet."""

import pytest
from memplace.assignment import PlacementIndex, PodRef
from memplace.pods import PodState
from memplace_agent.engine.expected import expected
from memplace_agent.node.machine import Machine
from memplace_agent.world import World

from tests.support.agent.build import HEAP_RULE, rule
from tests.support.agent.node import placement

MACHINE = Machine(tiers={"cxl": frozenset({1})})


def a_pod(*declared, **kwargs):
    ref = PodRef(namespace="ns", name="p", uid="uid-p", labels={"app": "x"})
    return PodState(ref, declared=declared, **kwargs)


def table(*placements, pods, **world):
    index = PlacementIndex(placements)
    return expected(World(placements=placements, pods=pods, **world), index, MACHINE)


def one(*placements, pod, name=None):
    (found,) = table(*placements, pods=(pod,)).values()
    return found.of(name)


def test_all_containers_of_a_pod_have_the_default_of_its_placement():
    found = one(placement(rules=[HEAP_RULE]), pod=a_pod("c0", "sidecar"))
    assert found.names == ("uid-mp", "ns", "mp") and found.tiers == MACHINE.tiers


def test_a_container_that_nobody_places_keeps_the_others_from_being_told():
    some = placement(rules=[HEAP_RULE], containers=["c0"])
    pod = a_pod("c0", "sidecar")
    assert one(some, pod=pod) is None
    assert one(some, pod=pod, name="c0") is not None and one(some, pod=pod, name="sidecar") is None


def test_nothing_is_expected_of_a_placement_that_is_paused():
    paused = placement(rules=[HEAP_RULE], paused=True)
    assert table(paused, pods=(a_pod("c0"),)) == {}
    other = placement("other", rules=[HEAP_RULE], created="2026-01-02T00:00:00Z")
    part = placement(rules=[HEAP_RULE], paused=True, containers=["c0"])
    pod = a_pod("c0", "c1")
    assert one(part, other, pod=pod, name="c0") is None
    assert one(part, other, pod=pod, name="c1") is not None


def test_so_does_one_of_another_placement():
    first = placement("first", rules=[HEAP_RULE], containers=["c0"])
    second = placement(
        "second", rules=[rule({"type": "Heap"}, tiers=("dram",))], created="2026-01-02T00:00:00Z"
    )
    pod = a_pod("c0", "c1")
    assert one(first, second, pod=pod) is None
    assert one(first, second, pod=pod, name="c1").names[2] == "second"


@pytest.mark.parametrize(
    "rules", [[rule({"type": "Heap", "process": "a"})], [rule({"type": "Stack"})]]
)
def test_rules_that_imply_no_default_expect_nothing(rules):
    assert not table(placement(rules=rules), pods=(a_pod("c0"),))


@pytest.mark.parametrize(
    ("pod", "world"),
    [(a_pod("c0", life="Ended"), {}), (a_pod("c0"), {"held_pods": frozenset({"uid-p"})})],
)
def test_a_pod_that_ends_or_is_held_expects_nothing(pod, world):
    assert not table(placement(rules=[HEAP_RULE]), pods=(pod,), **world)


def test_a_static_pod_is_found_by_the_hash_of_its_file():
    pod = a_pod("c0", config_hash="0f_00")
    assert set(table(placement(rules=[HEAP_RULE]), pods=(pod,))) == {"uid-p", "0f-00"}


def test_what_has_no_bearing_on_the_rules_changes_nothing():
    before, after = (
        one(placement(rules=[HEAP_RULE], **more), pod=a_pod("c0"))
        for more in ({}, {"migration": {"maxBandwidth": "200Mi"}})
    )
    other = one(placement(rules=[rule({"type": "Heap"}, tiers=("dram",))]), pod=a_pod("c0"))
    assert before.means(after) and not before.means(other)
