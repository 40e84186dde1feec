# SPDX-License-Identifier: Apache-2.0
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace import selectors
from memplace.api.v1alpha1 import (
    LabelSelector,
    Operator,
    Placement,
    PlacementSpec,
    PolicySpec,
    RegionEntry,
    Requirement,
    Rule,
)
from memplace.assignment import (
    Assignment,
    PlacementIndex,
    PodRef,
    Target,
    View,
    assign,
    delta,
    why_first,
)
from memplace.kinds import Enforcement, Mode, RegionKind
from memplace.selectors import matches
from msgspec import UNSET, structs

T0 = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("redis", "sidecar", "init")


def placement(
    name, *, age=0, containers=UNSET, namespace="cache", labels=None, priority=0, mode=UNSET
):
    return Placement(
        uid=f"uid-of-{namespace}-{name}",
        namespace=namespace,
        name=name,
        generation=1,
        creation_timestamp=T0 - timedelta(seconds=age),
        spec=PlacementSpec(
            selector=LabelSelector(match_labels=labels or {}),
            rules=(),
            containers=containers,
            priority=priority,
            mode=mode,
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
        priority=st.integers(-1, 1),
        mode=st.sampled_from([UNSET, Enforcement.ENFORCE, Enforcement.DRY_RUN]),
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
        keys = [
            (p.spec.mode == "DryRun", -p.spec.priority, p.creation_timestamp, p.name)
            for p in ranked
        ]
        assert keys == sorted(keys)


def test_the_oldest_wins():
    young, old = placement("a", age=1), placement("b", age=2)
    assigned = assign([young, old], pod("redis"))["redis"]
    assert (assigned.winner, assigned.losers) == (old, (young,))


def test_the_higher_priority_wins_however_young_it_is():
    old, young = placement("a", age=2), placement("b", priority=1)
    low = placement("c", age=9, priority=-1)
    assigned = assign([low, old, young], pod("redis"))["redis"]
    assert (assigned.winner, assigned.losers) == (young, (old, low))


def test_who_only_tells_comes_behind_all_who_act():
    dry = placement("a", age=9, priority=1000, mode=Enforcement.DRY_RUN)
    low = placement("b", priority=-1000)
    other = placement("c", age=5, mode=Enforcement.DRY_RUN)
    assigned = assign([dry, other, low], pod("redis"))["redis"]
    assert (assigned.winner, assigned.losers) == (low, (dry, other))
    assert why_first(low, dry) == "acts, this one only tells (mode DryRun),"


@pytest.mark.parametrize(
    ("winner", "words"),
    [
        (placement("b", priority=7), "has priority 7, this one 0,"),
        (placement("b", age=1), "is older"),
        (placement("a"), "is as old, comes first by name"),
    ],
)
def test_it_is_said_why_one_comes_first(winner, words):
    loser = placement("c")
    assert assign([loser, winner], pod("redis"))["redis"].winner == winner
    assert why_first(winner, loser) == words


def test_another_priority_of_the_winner_is_no_change_and_another_winner_is():
    def seen(priority):
        mine = placement("young", priority=priority)
        return view(placement("old", age=9), mine, pods=[ONE])

    assert delta(seen(1), seen(2)) == frozenset()
    assert delta(seen(0), seen(1)) == delta(seen(1), seen(-1)) == {"u/redis"}


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


# --- many placements, and what a change changes -------------------------------------------

LABELS = [{}, {"app": "redis"}, {"app": "web"}, {"app": "redis", "tier": "back"}]

expressions = st.sampled_from(
    [
        (),
        (Requirement("app", Operator.EXISTS),),
        (Requirement("tier", Operator.DOES_NOT_EXIST),),
        (Requirement("app", Operator.IN, ("redis",)),),
    ]
)


def rule(tier):
    heap = (RegionEntry(RegionKind.HEAP),)
    return Rule("r", heap, PolicySpec(Mode.BIND, (tier,)))


@st.composite
def clusters(draw):
    """All placements of a cluster and the tiers of a node; ages clash often."""
    names = draw(
        st.lists(
            st.tuples(st.sampled_from(["cache", "other"]), st.sampled_from("abcd")),
            max_size=8,
            unique=True,
        )
    )
    found = []
    for namespace, name in names:
        spec = PlacementSpec(
            selector=LabelSelector(draw(st.sampled_from(LABELS)), draw(expressions)),
            rules=(rule(draw(st.sampled_from(["dram", "cxl", "no-such-tier"]))),),
            containers=draw(st.sampled_from([UNSET, ("redis",), ("sidecar", "redis")])),
            priority=draw(st.sampled_from([0, 0, 5])),
        )
        base = placement(name, age=draw(st.integers(0, 1)), namespace=namespace)
        found.append(structs.replace(base, spec=spec, generation=draw(st.integers(1, 2))))
    nodes = st.frozensets(st.integers(0, 3), min_size=1, max_size=2)
    tiers = draw(st.dictionaries(st.sampled_from(["dram", "cxl"]), nodes))
    return found, tiers


pod_refs = st.lists(
    st.builds(
        PodRef,
        namespace=st.sampled_from(["cache", "other", "empty"]),
        name=st.just("p"),
        uid=st.text("xyz", min_size=1, max_size=1),
        labels=st.sampled_from(LABELS),
        containers=st.just(NAMES),
    ),
    max_size=3,
    unique_by=lambda ref: ref.uid,
)


def brute_force(placements, ref, container):
    """The answer by the definition: sort all there are, take the first that selects."""
    return [
        p
        for p in sorted(
            placements, key=lambda p: (-p.spec.priority, p.creation_timestamp, p.name, p.uid)
        )
        if p.namespace == ref.namespace
        and matches(p.spec.selector, ref.labels)
        and (p.spec.containers is UNSET or container in p.spec.containers)
    ]


def targets_of(refs):
    return [Target(f"{ref.uid}/{name}", ref, name) for ref in refs for name in ref.containers]


@given(clusters(), pod_refs)
def test_the_index_finds_what_looking_at_each_placement_finds(cluster, refs):
    placements, _ = cluster
    index = PlacementIndex(placements)
    for ref in refs:
        expected = {}
        for name in ref.containers:
            ranked = brute_force(placements, ref, name)
            if ranked:
                expected[name] = Assignment(ranked[0], tuple(ranked[1:]))
        assert index.assign(ref) == expected


@given(clusters(), clusters(), pod_refs, pod_refs)
def test_a_delta_names_exactly_the_containers_for_which_something_else_is_wanted(
    old, new, refs, refs_now
):
    def wanted(cluster, refs):
        placements, tiers = cluster
        result = {}
        for target in targets_of(refs):
            ranked = brute_force(placements, target.pod, target.container)
            if ranked:
                spec = structs.replace(ranked[0].spec, priority=0)
                named = {t: tiers.get(t) for r in spec.rules for t in r.policy.tiers}
                result[target.container_id] = (ranked[0].uid, spec, named)
        return result

    before, now = wanted(old, refs), wanted(new, refs_now)
    expected = {id_ for id_ in before.keys() | now.keys() if before.get(id_) != now.get(id_)}
    views = [
        View(PlacementIndex(placements), targets_of(some), tiers)
        for (placements, tiers), some in ((old, refs), (new, refs_now))
    ]
    assert delta(*views) == expected
    assert delta(views[1], views[1]) == frozenset()


def view(*placements, tiers=None, pods=()):
    return View(PlacementIndex(placements), targets_of(pods), tiers or {"cxl": frozenset({1})})


ONE = pod("redis", app="redis")


def test_an_edit_in_another_namespace_is_about_nobody():
    before = view(placement("mine"), placement("x", namespace="other"), pods=[ONE])
    edited = placement("x", namespace="other", labels={"v": "2"})
    assert delta(before, view(placement("mine"), edited, pods=[ONE])) == frozenset()


def test_a_label_of_a_pod_that_nobody_places_is_about_nobody():
    mine = placement("mine", labels={"app": "web"})
    before, now = view(mine, pods=[ONE]), view(mine, pods=[pod("redis", app="redis", v="2")])
    assert delta(before, now) == frozenset()


def test_another_loser_is_no_change():
    before = view(placement("old", age=9), pods=[ONE])
    now = view(placement("old", age=9), placement("young"), pods=[ONE])
    assert delta(before, now) == frozenset()


def test_a_tier_that_gains_a_node_is_a_change_for_those_who_name_it():
    on_cxl = structs.replace(placement("a"), spec=spec_on("cxl"))
    on_dram = structs.replace(placement("a"), spec=spec_on("dram"))
    grown = {"cxl": frozenset({1, 2})}
    assert delta(view(on_cxl, pods=[ONE]), view(on_cxl, tiers=grown, pods=[ONE])) == {"u/redis"}
    assert delta(view(on_dram, pods=[ONE]), view(on_dram, tiers=grown, pods=[ONE])) == set()


def spec_on(tier):
    return PlacementSpec(selector=LabelSelector(), rules=(rule(tier),))


def test_a_container_that_starts_or_ends_is_a_change():
    before, now = view(placement("a")), view(placement("a"), pods=[ONE])
    assert delta(before, now) == delta(now, before) == {"u/redis"}


def test_the_selectors_of_ten_thousand_placements_are_not_all_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(selectors, "matches", lambda *args: asked.append(args) or True)
    crowd = [placement(f"p{i}", labels={"app": f"a{i}"}) for i in range(10_000)]
    PlacementIndex(crowd).assign(pod("redis", app="a7"))
    assert len(asked) == 1
