# SPDX-License-Identifier: Apache-2.0
"""Placements of the cluster, as the operator judges them beside those of namespaces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from memplace.api.v1alpha1 import LabelSelector, Placement, PlacementStatus
from memplace_operator.beats import Beats
from memplace_operator.events import make_event
from memplace_operator.feeds import Feeds, News, reader
from memplace_operator.kinds import Kind
from memplace_operator.objects import SeenPod, Unreadable
from memplace_operator.reconcile import Transition
from memplace_operator.world import World

from tests.unit.operator_pkg.worlds import (
    NOW,
    cluster_placement,
    condition,
    message,
    namespace,
    node,
    placement,
    pod,
    pod_report,
    report,
    status_of,
    world,
)

BATCH = namespace("cache", kind="batch")
OTHER = namespace("other", kind="batch")


def a_world(*placements: Placement, pods: tuple[SeenPod, ...] = ()) -> World:
    names = [pod.pod.name for pod in pods]
    reports = [report(*map(pod_report, names), name=each.name) for each in placements]
    there = world(placements, pods, [node(*reports)])
    for each in (BATCH, OTHER):
        there.put_namespace(each)
    return there


def of(there: World, name: str) -> PlacementStatus:
    subject = there.subject(f"uid-{name}")
    assert subject is not None
    return status_of(subject, there)


def test_it_counts_pods_of_all_its_namespaces() -> None:
    pods = pod("a"), pod("b", namespace="other"), pod("c", namespace="elsewhere")
    status = of(a_world(cluster_placement(), pods=pods), "cmp")
    assert (status.matched_pods, status.placed_pods) == (2, 2)
    assert condition(status) == ("True", "Placed")


def test_pods_are_named_with_their_namespaces() -> None:
    # Of one of the two no agent speaks.
    pods = pod("redis-0"), pod("redis-0", namespace="other", uid="another")
    status = of(a_world(cluster_placement(), pods=pods), "cmp")
    assert (status.matched_pods, status.placed_pods) == (2, 1)
    assert [(each.namespace, each.name) for each in status.pods] == [("other", "redis-0")]
    assert "pod other/redis-0" in message(status)


def test_a_default_gives_way_without_a_conflict() -> None:
    there = a_world(cluster_placement(), placement(), pods=(pod("a"), pod("b", namespace="other")))
    default, own = of(there, "cmp"), of(there, "mp")
    assert condition(own) == condition(default) == ("True", "Placed")
    assert condition(default, "Degraded") == ("False", "AsExpected")
    assert (default.matched_pods, default.placed_pods) == (2, 1)
    assert default.summary == "1 of 1 pod placed; 1 with a placement of its own"


def test_a_default_that_nobody_needs_is_ready_and_says_so() -> None:
    there = a_world(cluster_placement(), placement(), pods=(pod("a"),))
    status = of(there, "cmp")
    assert condition(status) == ("True", "NoPods")
    assert message(status) == (
        "1 running pod follows a placement of its namespace, and no other pod needs this default"
    )


def test_one_that_is_enforced_turns_it_round() -> None:
    there = a_world(cluster_placement(enforced=True), placement(priority=1000), pods=(pod("a"),))
    assert condition(of(there, "cmp")) == ("True", "Placed")
    lost = of(there, "mp")
    assert condition(lost, "Degraded") == ("True", "Conflict")
    assert message(lost) == (
        "cluster placement cmp is enforced, this one is not, and has container redis of pod a: an "
        "admin decides on that one; narrow this one, or delete it"
    )


def test_two_of_the_cluster_conflict_as_two_of_a_namespace() -> None:
    there = a_world(
        cluster_placement("first", priority=1), cluster_placement("second"), pods=(pod("a"),)
    )
    lost = of(there, "second")
    assert condition(lost) == ("False", "Conflict")
    assert message(lost).startswith(
        "cluster placement first has priority 1, this one 0, and has container redis of pod cache/a"
    )
    there.put_placement(cluster_placement("enforced", enforced=True))
    assert message(of(there, "first")).endswith(
        "narrow spec.selector or spec.namespaceSelector of one of the two, or delete one"
    )


def test_labels_of_a_namespace_decide_and_make_due_whom_they_concern() -> None:
    there = a_world(cluster_placement(), placement(), pods=(pod("b", namespace="other"),))
    assert of(there, "cmp").matched_pods == 1
    there.due = {}
    there.put_namespace(namespace("other", kind="web"))
    assert set(there.due) == {"uid-cmp"}
    assert condition(of(there, "cmp")) == ("True", "NoPods")
    assert "namespaceSelector selects" in message(of(there, "cmp"))
    there.due = {}
    there.put_namespace(namespace("other", kind="web", color="blue"))
    assert set(there.due) == set()
    there.put_namespace(namespace("other", kind="batch"))
    assert set(there.due) == {"uid-cmp"}


def test_a_label_gives_a_pod_to_another_placement_and_back() -> None:
    there = a_world(cluster_placement(enforced=True), placement(), pods=(pod("a"),))
    assert condition(of(there, "mp")) == ("False", "Conflict")
    for kind, own, other in (("web", "Placed", "NoPods"), ("batch", "Conflict", "Placed")):
        there.due = {}
        there.put_namespace(namespace("cache", kind=kind))
        assert set(there.due) == {"uid-cmp", "uid-mp"}
        assert condition(of(there, "mp"))[1] == own
        assert condition(of(there, "cmp"))[1] == other


def test_other_namespaces_that_are_meant_concern_whom_that_frees() -> None:
    there = a_world(cluster_placement(enforced=True), placement(), pods=(pod("a"),))
    assert condition(of(there, "mp")) == ("False", "Conflict")
    there.due = {}
    web = LabelSelector({"kind": "web"})
    there.put_placement(cluster_placement(enforced=True, namespaces=web))
    assert set(there.due) == {"uid-cmp", "uid-mp"}
    assert condition(of(there, "mp")) == ("True", "Placed")


def test_a_namespace_made_anew_is_not_forgotten_with_the_old_one() -> None:
    there = a_world(cluster_placement(), pods=(pod("a"),))
    there.put_namespace(type(BATCH)("another-uid", "cache", {"kind": "batch"}))
    there.drop_namespace(BATCH.uid)
    assert of(there, "cmp").matched_pods == 1
    there.drop_namespace("another-uid")
    assert of(there, "cmp").matched_pods == 0


def test_one_that_picks_no_namespace_costs_a_look_at_no_group() -> None:
    there = World()
    for number in range(1000):
        there.put_namespace(namespace(f"n{number}", kind=f"k{number}"))
        there.put_pod(pod(f"p{number}", namespace=f"n{number}"))
    subject = cluster_placement(namespaces=LabelSelector({"kind": "k7"}))
    there.put_placement(subject)
    assert [group.namespace for group in there.selection.groups_of(subject)] == ["n7"]


# --- what the watches bring ----------------------------------------------------------------


def an_object(name: str, **metadata: Any) -> dict[str, Any]:
    made = {"creationTimestamp": "2026-11-24T12:00:00Z", "resourceVersion": "1", "generation": 1}
    return {"metadata": {"name": name, "uid": f"uid-{name}"} | made | metadata}


RULE = {"name": "heap", "regions": [{"type": "Heap"}], "policy": {"mode": "Local"}}


def a_default() -> dict[str, Any]:
    return an_object("cmp") | {"spec": {"selector": {}, "namespaceSelector": {}, "rules": [RULE]}}


def a_placement() -> dict[str, Any]:
    return an_object("mp", namespace="cache") | {"spec": {"selector": {}, "rules": [RULE]}}


def news(kind: Kind, obj: Any) -> News:
    return reader(kind)(json.dumps(obj).encode())


@pytest.fixture
def feeds() -> Feeds:
    found = Feeds(World(), Beats())
    for kind, obj in (
        (Kind.PLACEMENT, a_placement()),
        (Kind.CLUSTER_PLACEMENT, a_default()),
        (Kind.NAMESPACE, an_object("cache", labels={"kind": "batch"})),
    ):
        found.replace(kind, [news(kind, obj)])
    return found


def test_a_list_of_one_kind_forgets_none_of_the_other(feeds: Feeds) -> None:
    feeds.replace(Kind.PLACEMENT, [])
    assert feeds.world.placement_uids() == ["uid-cmp"]
    feeds.replace(Kind.PLACEMENT, [news(Kind.PLACEMENT, a_placement())])
    feeds.replace(Kind.CLUSTER_PLACEMENT, [])
    assert feeds.world.placement_uids() == ["uid-mp"]


def test_a_namespace_without_labels_is_one_too(feeds: Feeds) -> None:
    feeds.event(Kind.NAMESPACE, "MODIFIED", news(Kind.NAMESPACE, an_object("cache")))
    feeds.world.put_pod(pod("a"))
    assert of(feeds.world, "cmp").matched_pods == 1
    feeds.event(Kind.NAMESPACE, "DELETED", news(Kind.NAMESPACE, an_object("cache")))
    assert of(feeds.world, "cmp").matched_pods == 0


def test_nothing_is_known_before_namespaces_are(feeds: Feeds) -> None:
    feeds.listed |= {Kind.POD, Kind.NODE, Kind.TIER}
    feeds.listed.remove(Kind.NAMESPACE)
    assert feeds.missing == {Kind.NAMESPACE} and not feeds.is_synced
    feeds.replace(Kind.NAMESPACE, [])
    assert feeds.is_synced


def test_one_that_cannot_be_read_is_invalid(feeds: Feeds) -> None:
    odd = an_object("cmp") | {"spec": {"selector": {}, "rules": [RULE]}}
    feeds.event(Kind.CLUSTER_PLACEMENT, "MODIFIED", news(Kind.CLUSTER_PLACEMENT, odd))
    found = feeds.world.subject("uid-cmp")
    assert isinstance(found, Unreadable)
    assert (found.namespace, "namespaceSelector" in found.problem) == ("", True)


def test_an_event_is_about_the_right_kind() -> None:
    event = make_event(cluster_placement(), Transition("Placed", "", is_warning=False), NOW)
    assert event["metadata"]["namespace"] == "default"
    assert event["regarding"]["kind"] == "ClusterMemoryPlacement"
    assert "namespace" not in event["regarding"]
