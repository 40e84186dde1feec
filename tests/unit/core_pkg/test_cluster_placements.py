# SPDX-License-Identifier: Apache-2.0
"""Placements of the cluster beside those of namespaces: who comes first, and whom they mean."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace import selectors
from memplace.api.checks import VALUES_NEEDED
from memplace.api.objects import parse_cluster_placement
from memplace.api.patterns import NOT_A_LABEL_KEY
from memplace.api.v1alpha1 import (
    ClusterPlacementSpec,
    LabelSelector,
    Level,
    Placement,
    PlacementSpec,
    title_of,
)
from memplace.assignment import (
    PlacementIndex,
    PodRef,
    Target,
    View,
    assign,
    delta,
    gives_way,
    precedence,
    rank,
    why_first,
)
from memplace.errors import ValidationError
from memplace.kinds import Enforcement
from msgspec import UNSET, structs

T0 = datetime(2026, 1, 1, tzinfo=UTC)
BATCH, WEB = {"kind": "batch"}, {"kind": "web"}


def placement(name, namespace="jobs", *, age=0, priority=0, labels=None, mode=UNSET):
    spec = PlacementSpec(
        selector=LabelSelector(labels or {}), rules=(), priority=priority, mode=mode
    )
    return made(name, namespace, spec, age)


def cluster(name, *, enforced=False, means=None, age=0, priority=0, labels=None, mode=UNSET):
    spec = ClusterPlacementSpec(
        selector=LabelSelector(labels or {}),
        rules=(),
        priority=priority,
        mode=mode,
        namespace_selector=LabelSelector(means or {}),
        enforced=enforced,
    )
    return made(name, "", spec, age)


def made(name, namespace, spec, age):
    return Placement(
        uid=f"uid-of-{namespace}-{name}",
        namespace=namespace,
        name=name,
        generation=1,
        creation_timestamp=T0 - timedelta(seconds=age),
        spec=spec,
    )


def pod(namespace="jobs", its_labels=None, **labels):
    return PodRef(
        namespace=namespace,
        name="p",
        uid="u",
        labels=labels,
        containers=("app",),
        namespace_labels=BATCH if its_labels is None else its_labels,
    )


def winner(placements, ref):
    found = assign(placements, ref).get("app")
    return found and found.winner.name


# --- who comes first -----------------------------------------------------------------------

names = st.text("ab", min_size=1, max_size=2)
modes = st.sampled_from([UNSET, Enforcement.ENFORCE, Enforcement.DRY_RUN])
ages, priorities = st.integers(0, 2), st.integers(-1, 1)
labels = st.sampled_from([{}, {"app": "x"}, {"app": "y"}])
namespaced = st.builds(
    placement,
    names,
    st.sampled_from(["jobs", "shop"]),
    age=ages,
    priority=priorities,
    labels=labels,
    mode=modes,
)
of_cluster = st.builds(
    cluster,
    names,
    enforced=st.booleans(),
    means=st.sampled_from([{}, BATCH, WEB]),
    age=ages,
    priority=priorities,
    labels=labels,
    mode=modes,
)
placements = st.lists(
    namespaced | of_cluster, max_size=8, unique_by=lambda p: (p.namespace, p.name)
)
refs = st.builds(
    lambda namespace, its, labels: pod(namespace, its, **labels),
    st.sampled_from(["jobs", "shop"]),
    st.sampled_from([BATCH, WEB, {}]),
    labels,
)


def by_definition(placements, ref):
    """Who means the pod, in three groups of those that act, then three of those that tell."""

    def means(p):
        if p.namespace:
            return p.namespace == ref.namespace
        return p.spec.namespace_selector.match_labels.items() <= ref.namespace_labels.items()

    meant = [p for p in placements if means(p)]
    meant = [p for p in meant if p.spec.selector.match_labels.items() <= ref.labels.items()]
    ordered = []
    for tells in (False, True):
        acting = [p for p in meant if (p.spec.mode == "DryRun") is tells]
        groups = (
            [p for p in acting if not p.namespace and p.spec.enforced],
            [p for p in acting if p.namespace],
            [p for p in acting if not p.namespace and not p.spec.enforced],
        )
        for group in groups:
            ordered += sorted(
                group, key=lambda p: (-p.spec.priority, p.creation_timestamp, p.name, p.uid)
            )
    return [p.uid for p in ordered]


@given(placements, refs)
def test_enforced_comes_before_namespaces_and_those_before_defaults(placements, ref):
    found = assign(placements, ref).get("app")
    ranked = (found.winner, *found.losers) if found else ()
    assert [p.uid for p in ranked] == by_definition(placements, ref)
    assert PlacementIndex(placements).assign(ref) == assign(placements, ref)


@given(namespaced | of_cluster, namespaced | of_cluster)
def test_of_two_one_is_first_and_why_is_said(one, other):
    if one.uid == other.uid:
        return
    first, second = sorted([one, other], key=precedence)
    assert precedence(first) < precedence(second)
    words = why_first(first, second)
    if first.spec.is_dry_run is second.spec.is_dry_run:
        assert ("enforced" in words) == (
            first.spec.level is Level.ENFORCED and second.spec.level is not Level.ENFORCED
        )


def test_what_nobody_says_more_of_is_a_namespaces():
    key = rank(0, T0, "a", "u")
    assert rank(0, T0, "a", "u", level=Level.ENFORCED) < key
    assert key < rank(1000, T0, "a", "u", level=Level.CLUSTER)


def test_only_a_default_that_a_namespace_overrides_is_no_conflict():
    mine, default = placement("mine"), cluster("default")
    enforced, other = cluster("enforced", enforced=True), cluster("other", age=9)
    assert gives_way(default, mine)
    assert not gives_way(mine, enforced)
    assert not gives_way(default, enforced)
    assert not gives_way(default, other)
    assert not gives_way(mine, placement("older", age=1))


# --- whom they mean ------------------------------------------------------------------------


def test_namespaces_are_picked_by_their_labels():
    batch = cluster("batch", means=BATCH)
    assert winner([batch], pod("jobs", BATCH)) == "batch"
    assert winner([batch], pod("shop", WEB)) is None
    assert winner([cluster("all")], pod("shop", {})) == "all"


def test_an_unknown_namespace_is_none_that_is_meant():
    unknown = structs_of(pod(), namespace_labels=None)
    assert winner([cluster("all")], unknown) is None
    assert winner([placement("mine"), cluster("all")], unknown) == "mine"


def structs_of(ref, **changes):
    fields = {name: getattr(ref, name) for name in PodRef.__dataclass_fields__}
    return PodRef(**fields | changes)


def test_whoever_follows_it_knows_the_pods_namespace():
    found = assign([cluster("all")], pod("jobs"))["app"].winner
    assert (found.namespace, found.tenant) == ("", "jobs")
    assert assign([placement("mine")], pod())["app"].winner.tenant == "jobs"


def view(*placements, its_labels=None):
    ref = pod("jobs", its_labels)
    return View(PlacementIndex(placements), [Target("c", ref, "app")], {})


def test_what_changes_a_container_and_what_does_not():
    before = view(cluster("batch", means=BATCH))
    assert delta(before, view(cluster("batch", means=BATCH))) == frozenset()
    # Neither which namespaces it means nor its place in the order asks for anything else.
    assert delta(before, view(cluster("batch"))) == frozenset()
    assert delta(before, view(cluster("batch", enforced=True, priority=3))) == frozenset()
    assert delta(before, view(cluster("batch", means=BATCH), its_labels=WEB)) == {"c"}
    assert delta(before, view(cluster("batch", labels={"app": "x"}))) == {"c"}
    assert delta(before, view(cluster("batch", means=BATCH), placement("mine"))) == {"c"}


def test_an_edit_of_the_rules_is_asked_anew():
    batch = cluster("batch")
    edited = structs.replace(batch, spec=structs.replace(batch.spec, containers=("app",)))
    assert not batch.spec.asks_as(edited.spec)
    assert not batch.spec.asks_as(placement("mine").spec)
    assert not placement("mine").spec.asks_as(batch.spec)


def test_both_kinds_are_told_apart():
    assert placement("a").title == title_of("jobs", "a") == "placement jobs/a"
    assert cluster("a").title == title_of("", "a") == "cluster placement a"


def test_a_namespace_selector_is_checked_as_the_other_one():
    meta = {"name": "x", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    rule = {"name": "r", "regions": [{"type": "Heap"}], "policy": {"mode": "Local"}}
    spec = {"selector": {}, "rules": [rule]}

    def refused(selector):
        with pytest.raises(ValidationError) as error:
            parse_cluster_placement(
                {"metadata": meta, "spec": spec | {"namespaceSelector": selector}}
            )
        return error.value.field, error.value.problem

    assert refused({"matchLabels": {"-": "a"}}) == (
        "spec.namespaceSelector.matchLabels",
        NOT_A_LABEL_KEY,
    )
    assert refused({"matchExpressions": [{"key": "a", "operator": "In"}]}) == (
        "spec.namespaceSelector.matchExpressions[0]",
        VALUES_NEEDED,
    )
    with pytest.raises(ValidationError, match="namespaceSelector"):
        parse_cluster_placement({"metadata": meta, "spec": spec})
    found = parse_cluster_placement({"metadata": meta, "spec": spec | {"namespaceSelector": {}}})
    assert found.is_cluster and found.namespace == "" and found.spec.level is Level.CLUSTER


def test_the_selectors_of_ten_thousand_are_not_all_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(selectors, "matches", lambda *args: asked.append(args) or True)
    PlacementIndex(cluster(f"p{i}", labels={"app": f"a{i}"}) for i in range(10_000)).assign(
        pod(app="a7")
    )
    assert len(asked) == 2
