# SPDX-License-Identifier: Apache-2.0
"""nodeSelector in the operator: on other nodes a placement does not exist."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from memplace.api.conditions import find_condition
from memplace.api.v1alpha1 import PlacementStatus
from memplace_operator.beats import Beats
from memplace_operator.feeds import Feeds, reader
from memplace_operator.kinds import Kind
from memplace_operator.nodes import Kinds, labels_of
from memplace_operator.world import World

from tests.unit.operator_pkg.worlds import node, placement, pod, pod_report, report, seen, status_of

CXL = {"memplace.dev/pool": "cxl"}


def ready(status: PlacementStatus) -> tuple[str, str, str]:
    found = find_condition(status.conditions, "Ready")
    assert found is not None
    return found.status, found.reason, found.message


def status(world: World, name: str = "mp") -> PlacementStatus:
    subject = world.subject(f"uid-{name}")
    assert subject is not None
    return status_of(subject, world)


@pytest.fixture
def mixed() -> World:
    """Pods on a node with the label, where they are placed, and on one that nobody runs on."""
    world = World()
    world.put_labels(labels_of("1", "a", CXL | {"zone": "1"}))
    world.put_labels(labels_of("2", "b", {"zone": "1"}))
    world.labels_listed()
    world.put_placement(placement(node_selector=CXL))
    world.put_pod(pod("redis-0", node="a"))
    world.put_pod(pod("redis-1", node="b"))
    world.put_node(seen(node(report(pod_report("redis-0")), name="a")))
    world.due = {}
    return world


def test_a_mixed_cluster_is_ready(mixed: World) -> None:
    found = status(mixed)
    assert ready(found)[:2] == ("True", "Placed") and found.matched_pods == 1


def test_on_other_nodes_it_has_no_conflict_and_is_in_nobodys_way(mixed: World) -> None:
    mixed.put_placement(placement("other", priority=-5))
    mixed.put_node(seen(node(report(pod_report("redis-1"), name="other"), name="b")))
    other = status(mixed, "other")
    assert (other.matched_pods, other.placed_pods) == (2, 1)
    assert ready(other)[1] == "Conflict" and "redis-0" in ready(other)[2]
    assert ready(status(mixed))[1] == "Placed"


def test_labels_that_change_concern_who_has_pods_there(mixed: World) -> None:
    mixed.put_placement(placement("stranger", node_selector={"zone": "2"}, containers=("x",)))
    mixed.put_labels(labels_of("9", "idle", {}))
    mixed.due = {}
    mixed.put_labels(labels_of("9", "idle", CXL))
    mixed.put_labels(labels_of("1", "a", CXL | {"zone": "3", "more": "x"}))
    assert not mixed.due
    mixed.put_labels(labels_of("2", "b", CXL))
    assert "uid-mp" in mixed.due
    assert status(mixed).matched_pods == 2
    mixed.due = {}
    mixed.drop_labels("2")
    assert "uid-mp" in mixed.due and status(mixed).matched_pods == 1


def test_another_selector_means_other_nodes(mixed: World) -> None:
    assert status(mixed).matched_pods == 1
    mixed.put_placement(placement(node_selector={"zone": "1"}))
    assert status(mixed).matched_pods == 2


def test_no_pod_on_a_node_of_it_is_said_so(mixed: World) -> None:
    mixed.put_placement(placement(node_selector={"memplace.dev/pool": "hbm"}))
    found = ready(status(mixed))
    assert found[:2] == ("True", "NoPods") and "nodeSelector" in found[2]


def test_a_new_selector_that_takes_a_container_concerns_the_loser(mixed: World) -> None:
    mixed.put_placement(placement("first"))
    assert ready(status(mixed, "first"))[1] == "Pending"
    mixed.due = {}
    mixed.put_placement(placement("taker", priority=9, node_selector={"zone": "1"}))
    assert "uid-first" in mixed.due and ready(status(mixed, "first"))[1] == "Conflict"


def test_selectors_that_come_and_go_leave_nothing(mixed: World) -> None:
    (group,) = mixed.selection.groups_of(placement())
    # It has no container: what it asks for is another's, on a kind of nodes of its own.
    each = placement("churn", node_selector=CXL | {"zone": "1"}, priority=-1)
    for _ in range(500):
        mixed.put_placement(each)
        status(mixed, "churn")
        mixed.drop_placement(each.uid)
    assert len(group.winners) < 100


def test_five_thousand_nodes_are_small() -> None:
    def labels(number: int) -> dict[str, str]:
        common = {f"feature.node.kubernetes.io/cpu-{i}": "true" for i in range(40)}
        return common | {"kubernetes.io/hostname": f"node-{number}", "zone": f"z{number % 3}"}

    kinds = Kinds()
    kinds.use(placement(node_selector={"zone": "z1"}))
    tracemalloc.start()
    for number in range(5000):
        kinds.put(labels_of(f"uid-{number}", f"node-{number}", labels(number)))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 8 << 20
    assert sum(bool(kinds.of(f"node-{number}")) for number in range(5000)) == 1667


# --- what the watches bring ---


def a_placement(name: str, **spec: Any) -> dict[str, Any]:
    rules = [
        {
            "name": "heap",
            "regions": [{"type": "Heap"}],
            "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
        }
    ]
    meta = {
        "name": name,
        "uid": f"uid-{name}",
        "namespace": "cache",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"metadata": meta, "spec": {"selector": {}, "rules": rules, **spec}}


def news(kind: Kind, obj: Any) -> Any:
    return reader(kind)(json.dumps(obj).encode())


@pytest.fixture
def feeds() -> Feeds:
    found = Feeds(World(), Beats())
    for kind in (Kind.POD, Kind.NODE, Kind.CLUSTER_PLACEMENT, Kind.NAMESPACE):
        found.replace(kind, [])
    found.replace_tiers({})
    return found


def test_labels_are_asked_for_only_if_somebody_wants_them(feeds: Feeds) -> None:
    feeds.replace(Kind.PLACEMENT, [news(Kind.PLACEMENT, a_placement("plain"))])
    assert feeds.is_synced and not feeds.needs_labels.is_set()
    chosen = news(Kind.PLACEMENT, a_placement("chosen", nodeSelector=CXL))
    feeds.event(Kind.PLACEMENT, "ADDED", chosen)
    # Others do not wait for what one wants.
    assert feeds.needs_labels.is_set() and feeds.is_synced and feeds.missing == {Kind.LABELS}
    world = feeds.world
    assert [world.knows_nodes_of(chosen.seen), world.knows_nodes_of(placement())] == [False, True]
    world.due = {}
    meta = {"name": "a", "uid": "1", "labels": CXL}
    feeds.replace(Kind.LABELS, [news(Kind.LABELS, {"metadata": meta})])
    assert world.due == {"uid-chosen": None} and world.knows_nodes_of(chosen.seen)
    assert not feeds.missing
    feeds.replace(Kind.LABELS, [])
    assert world.selection.kinds.uids() == []


def test_after_a_start_nothing_is_judged_without_the_labels_that_are_needed(feeds: Feeds) -> None:
    chosen = news(Kind.PLACEMENT, a_placement("chosen", nodeSelector=CXL))
    feeds.replace(Kind.PLACEMENT, [chosen])
    assert not feeds.is_synced
    feeds.replace(Kind.LABELS, [])
    assert feeds.is_synced
