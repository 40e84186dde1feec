# SPDX-License-Identifier: Apache-2.0
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import LabelSelector, Placement, PlacementSpec
from memplace.assignment import PodRef, assign
from msgspec import UNSET

T0 = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("redis", "sidecar", "init")


def placement(name, *, age=0, containers=UNSET, namespace="cache", labels=None):
    return Placement(
        uid=f"uid-of-{namespace}-{name}",
        namespace=namespace,
        name=name,
        generation=1,
        creation_timestamp=T0 - timedelta(seconds=age),
        spec=PlacementSpec(
            selector=LabelSelector(match_labels=labels or {}), rules=(), containers=containers
        ),
    )


def pod(*containers, **labels):
    return PodRef(namespace="cache", name="p", uid="u", labels=labels, containers=containers)


placements = st.lists(
    st.builds(
        placement,
        st.text("abc", min_size=1, max_size=2),
        age=st.integers(0, 3),
        containers=st.just(UNSET)
        | st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map(tuple),
        namespace=st.sampled_from(["cache", "other"]),
        labels=st.sampled_from([{}, {"app": "redis"}, {"app": "web"}]),
    ),
    max_size=6,
    unique_by=lambda p: (p.namespace, p.name),
)


@given(placements, st.randoms())
def test_the_order_in_which_placements_are_listed_does_not_matter(placements, random):
    shuffled = random.sample(placements, len(placements))
    target = pod(*NAMES, app="redis")
    assert assign(placements, target) == assign(shuffled, target)


@given(placements)
def test_exactly_the_selected_containers_are_assigned_and_nobody_is_lost(placements):
    target = pod(*NAMES, app="redis")
    result = assign(placements, target)
    for name in NAMES:
        meant = {
            p.uid
            for p in placements
            if p.namespace == "cache"
            and p.spec.selector.match_labels in ({}, {"app": "redis"})
            and (p.spec.containers is UNSET or name in p.spec.containers)
        }
        given_to = result.get(name)
        ranked = (given_to.winner, *given_to.losers) if given_to else ()
        assert {p.uid for p in ranked} == meant
        assert len(ranked) == len(meant)
        keys = [(p.creation_timestamp, p.name) for p in ranked]
        assert keys == sorted(keys)


def test_the_oldest_wins():
    young, old = placement("a", age=1), placement("b", age=2)
    assigned = assign([young, old], pod("redis"))["redis"]
    assert (assigned.winner, assigned.losers) == (old, (young,))


def test_the_name_decides_between_twins():
    b, a = placement("b"), placement("a")
    assert assign([b, a], pod("redis"))["redis"].winner == a


def test_containers_of_one_pod_may_follow_different_placements():
    whole, part = placement("whole"), placement("part", age=5, containers=("sidecar",))
    result = assign([whole, part], pod("redis", "sidecar"))
    assert {name: a.winner.name for name, a in result.items()} == {
        "redis": "whole",
        "sidecar": "part",
    }


def test_other_namespaces_and_other_labels_do_not_count():
    assert (
        assign([placement("a", namespace="b"), placement("c", labels={"x": "y"})], pod("r")) == {}
    )
