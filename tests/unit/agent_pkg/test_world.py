# SPDX-License-Identifier: Apache-2.0
"""What of the API server's news wakes the worker, and what of it is not understood."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.world import Cache

A, B = "a" * 64, "b" * 64
RUNNING = {"name": "c", "containerID": f"containerd://{A}", "state": {"running": {}}}
ANEW = RUNNING | {"containerID": f"containerd://{B}"}


def pod(*containers: dict[str, Any], labels: dict[str, str] | None = None, **status: Any) -> Any:
    labels = {"app": "x"} if labels is None else labels
    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "pod", "labels": labels},
        "spec": {"nodeName": "n"},
        "status": {"containerStatuses": containers, **status},
    }


def placement(
    uid: str = "mp",
    *,
    namespace: str = "ns",
    app: str = "x",
    day: int = 1,
    generation: int = 1,
    **spec: Any,
) -> dict[str, Any]:
    rule = {
        "name": "heap",
        "regions": [{"type": "Heap"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    return {
        "metadata": {
            "name": uid,
            "namespace": namespace,
            "uid": uid,
            "generation": generation,
            "creationTimestamp": f"2026-01-{day:02}T00:00:00Z",
        },
        "spec": {"selector": {"matchLabels": {"app": app}}, "rules": [rule], **spec},
    }


def newer(obj: dict[str, Any]) -> dict[str, Any]:
    """Return a placement as a version to come writes it."""
    found = copy.deepcopy(obj)
    found["metadata"]["generation"] += 1
    found["spec"]["fromTheFuture"] = {"speed": "warp"}
    return found


@pytest.fixture
def cache() -> Cache:
    """A node `n` with a pod that follows a placement, and nothing new."""
    found = Cache("n")
    for kind in Kind:
        found.replace(kind, [])
    found.event(Kind.PLACEMENT, "ADDED", placement())
    found.event(Kind.POD, "ADDED", pod(RUNNING))
    found.changed.clear()
    return found


@pytest.mark.parametrize(
    ("news", "wakes"),
    [
        (pod(RUNNING, phase="Running"), False),
        (pod(RUNNING, startTime="2026-11-24T12:00:00Z"), False),
        (pod(RUNNING, labels={"app": "x", "more": "1"}), False),
        (pod(ANEW), True),
        (pod(), True),
        (pod(RUNNING, labels={"app": "y"}), True),
    ],
)
def test_of_a_pod_only_what_its_containers_follow_wakes(
    cache: Cache, news: dict[str, Any], *, wakes: bool
) -> None:
    cache.event(Kind.POD, "MODIFIED", news)
    assert cache.changed.is_set() is wakes


@pytest.mark.parametrize(
    ("news", "wakes"),
    [
        (placement("other", namespace="other"), False),
        (placement("other", app="y"), False),
        (placement("other"), True),
        (placement(app="y"), True),
        (placement() | {"status": {"matchedPods": 7}}, False),
        (placement(generation=2), True),
    ],
)
def test_of_placements_only_those_that_select_a_pod_here_wake(
    cache: Cache, news: dict[str, Any], *, wakes: bool
) -> None:
    cache.event(Kind.PLACEMENT, "MODIFIED", news)
    assert cache.changed.is_set() is wakes


def test_a_pod_nobody_places_wakes_nobody(cache: Cache) -> None:
    cache.event(Kind.PLACEMENT, "DELETED", placement())
    cache.changed.clear()
    cache.event(Kind.POD, "MODIFIED", pod(ANEW, labels={"a": "2"}))
    assert not cache.changed.is_set()


@pytest.mark.parametrize(
    ("spec", "wakes"),
    [
        ({"numaNodes": [1]}, True),
        ({"numaNodes": [1], "nodeNames": ["n"]}, True),
        ({"numaNodes": [1], "nodeNames": ["m"]}, False),
        ({"numaNodes": [1], "nodeSelector": {"pool": "x"}}, True),
        ({"numaNodes": [1], "nodeSelector": {"pool": "y"}}, False),
    ],
)
def test_of_tiers_only_those_of_this_node_wake(
    cache: Cache, spec: dict[str, Any], *, wakes: bool
) -> None:
    cache.event(
        Kind.NODE, "ADDED", {"metadata": {"name": "n", "uid": "n", "labels": {"pool": "x"}}}
    )
    cache.changed.clear()
    meta = {"name": "far", "uid": "t", "creationTimestamp": "2026-01-01T00:00:00Z"}
    cache.event(Kind.TIER, "ADDED", {"metadata": meta, "spec": spec})
    assert cache.changed.is_set() is wakes


def test_a_list_that_says_what_was_known_wakes_nobody(cache: Cache) -> None:
    before = cache.snapshot()
    cache.replace(Kind.POD, [pod(RUNNING, phase="Running")])
    cache.replace(Kind.PLACEMENT, [placement(), placement("z", namespace="other")])
    assert not cache.changed.is_set()
    assert len(cache.snapshot().placements) == len(before.placements) + 1
    cache.replace(Kind.PLACEMENT, [])
    assert cache.changed.is_set()


def test_an_ephemeral_container_is_one_too(cache: Cache) -> None:
    debugger = RUNNING | {"name": "debugger", "containerID": f"containerd://{B}"}
    cache.event(Kind.POD, "MODIFIED", pod(RUNNING, ephemeralContainerStatuses=[debugger]))
    assert cache.changed.is_set()
    (found,) = cache.snapshot().pods
    assert found.container_ids == {"c": A, "debugger": B}


@pytest.mark.parametrize("what", [{"uid": "u", "name": "p"}, {}, None, {"uid": 7}])
def test_what_is_no_pod_is_ignored(what: Any) -> None:
    cache = Cache()
    cache.event(Kind.POD, "ADDED", {"metadata": what})
    cache.replace(Kind.POD, [{"metadata": what}])
    assert cache.snapshot().pods == ()


# --- placements of a version to come -------------------------------------------------------


def test_the_last_spec_that_was_understood_is_kept_and_said(cache: Cache) -> None:
    before = cache.snapshot().placements
    cache.event(Kind.PLACEMENT, "MODIFIED", newer(placement()))
    world = cache.snapshot()
    assert world.placements == before
    (odd,) = world.not_understood
    assert (odd.uid, odd.kept) == ("mp", True)
    assert "fromTheFuture" in odd.problem
    assert (world.held, world.held_placements) == (frozenset(), frozenset())


def test_after_a_restart_what_it_may_select_is_held() -> None:
    cache = Cache("n")
    cache.replace(Kind.PLACEMENT, [newer(placement())])
    cache.event(Kind.POD, "ADDED", pod(RUNNING))
    world = cache.snapshot()
    assert (world.placements, set(world.held)) == ((), {A})
    assert world.held_placements == {"mp"}
    (odd,) = world.not_understood
    assert not odd.kept


@pytest.mark.parametrize("gone", ["DELETED", "list"])
def test_when_it_is_gone_it_is_gone(cache: Cache, gone: str) -> None:
    cache.event(Kind.PLACEMENT, "MODIFIED", newer(placement()))
    cache.changed.clear()
    if gone == "list":
        cache.replace(Kind.PLACEMENT, [])
    else:
        cache.event(Kind.PLACEMENT, "DELETED", newer(placement()))
    assert cache.changed.is_set()
    world = cache.snapshot()
    assert (world.placements, world.not_understood, world.held) == ((), (), frozenset())


def test_what_is_understood_again_is_followed(cache: Cache) -> None:
    cache.event(Kind.PLACEMENT, "MODIFIED", newer(placement()))
    cache.changed.clear()
    cache.event(Kind.PLACEMENT, "MODIFIED", placement(generation=3))
    assert cache.changed.is_set()
    world = cache.snapshot()
    assert [p.generation for p in world.placements] == [3]
    assert world.not_understood == ()


@pytest.mark.parametrize(
    ("day", "held"),
    [(1, {A}), (20, set())],  # an understood one of the 10th has the container, or has not
)
def test_an_older_placement_that_is_understood_has_its_containers(day: int, held: set[str]) -> None:
    cache = Cache("n")
    cache.replace(Kind.PLACEMENT, [newer(placement("odd", day=day)), placement("known", day=10)])
    cache.event(Kind.POD, "ADDED", pod(RUNNING))
    assert cache.snapshot().held == held


@pytest.mark.parametrize(
    ("mine", "held"),
    [(None, set()), (4, set()), (6, {A}), ("high", {A}), (-5000, {A})],
)
def test_so_has_one_of_higher_priority(mine: Any, held: set[str]) -> None:
    cache = Cache("n")
    odd = newer(placement("odd", day=1, **({} if mine is None else {"priority": mine})))
    cache.replace(Kind.PLACEMENT, [odd, placement("known", day=10, priority=5)])
    cache.event(Kind.POD, "ADDED", pod(RUNNING))
    assert cache.snapshot().held == held


def test_one_that_only_tells_takes_no_container_from_one_that_acts() -> None:
    cache = Cache("n")
    odd = newer(placement("odd", day=1, mode="DryRun"))
    cache.replace(Kind.PLACEMENT, [odd, placement("known", day=10)])
    cache.event(Kind.POD, "ADDED", pod(RUNNING))
    assert cache.snapshot().held == set()


@pytest.mark.parametrize(
    ("spec", "held"),
    [
        ({"selector": {"matchLabels": {"app": "y"}}}, set()),
        ({"selector": {"matchStars": {}}}, {A}),
        ({"selector": None}, {A}),
        ({"selector": {"matchLabels": {"app": "x"}}, "containers": ["other"]}, set()),
        ({"selector": {"matchLabels": {"app": "x"}}, "containers": {"regex": "."}}, {A}),
        ({"whom": "all"}, {A}),
        (None, {A}),
    ],
)
def test_what_can_be_read_of_it_bounds_what_is_held(spec: Any, held: set[str]) -> None:
    odd = {**placement(), "spec": spec}
    cache = Cache("n")
    cache.replace(Kind.PLACEMENT, [odd])
    cache.event(Kind.POD, "ADDED", pod(RUNNING))
    assert cache.snapshot().held == held


def test_a_mode_of_a_version_to_come_changes_nothing() -> None:
    cache = Cache("n")
    meta = {"name": "n", "uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    cache.event(Kind.NODE_MEMORY, "ADDED", {"metadata": meta, "spec": {"agent": "Retired"}})
    cache.event(Kind.NODE_MEMORY, "MODIFIED", {"metadata": meta, "spec": {"agent": "Asleep"}})
    assert cache.snapshot().mode == "Retired"
    assert cache.own_uid == "u"


@pytest.mark.parametrize(
    ("told", "owner", "mode"),
    [
        ("", "ds-2", "Retired"),
        ("ds-2", "ds-2", "Retired"),
        ("ds-1", "ds-2", "Active"),  # an uninstall that got no further than this
        ("ds-1", "", "Retired"),  # who does not know whose it is obeys
    ],
)
def test_what_an_uninstall_said_is_for_its_own_agents(told: str, owner: str, mode: str) -> None:
    cache = Cache("n", pod_uid="me")
    meta = {"name": "n", "uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    spec = {"agent": "Retired", "installation": told}
    cache.event(Kind.NODE_MEMORY, "ADDED", {"metadata": meta, "spec": spec})
    for uid in ("me", "another"):
        found = pod()
        maker = {"kind": "DaemonSet", "uid": owner if uid == "me" else "ds-1", "controller": True}
        owners = [{"kind": "Other", "uid": "x"}, *([maker] if maker["uid"] else [])]
        found["metadata"] |= {"uid": uid, "name": uid, "ownerReferences": owners}
        cache.event(Kind.POD, "ADDED", found)
    assert cache.snapshot().mode == mode


@pytest.mark.parametrize(("app", "wakes"), [("x", True), ("y", False)])
def test_a_pod_that_will_follow_a_placement_wakes_before_it_runs(app: str, *, wakes: bool) -> None:
    found = Cache("n")
    for kind in Kind:
        found.replace(kind, [])
    found.event(Kind.PLACEMENT, "ADDED", placement())
    found.changed.clear()
    new = pod(labels={"app": app})
    new["spec"]["containers"] = [{"name": "c"}]
    found.event(Kind.POD, "ADDED", new)
    assert found.changed.is_set() is wakes


def test_a_pod_that_may_follow_one_nobody_understands_is_held_before_it_runs() -> None:
    found = Cache("n")
    for kind in Kind:
        found.replace(kind, [])
    found.event(Kind.PLACEMENT, "ADDED", newer(placement()))
    found.event(Kind.POD, "ADDED", pod())
    assert found.snapshot().held_pods == {"pod"}
    found.event(Kind.POD, "MODIFIED", pod(labels={"app": "other"}))
    assert not found.snapshot().held_pods


# --- nodeSelector ------------------------------------------------------------------------

POOL = {"pool": "cxl"}


def own_node(labels: dict[str, str] | None, uid: str = "node") -> Any:
    return {"metadata": {"name": "n", "uid": uid, "labels": labels}}


def names(cache: Cache) -> tuple[list[str], list[str]]:
    world = cache.snapshot()
    return [p.name for p in world.placements], [p.name for p in world.elsewhere]


def test_on_another_node_a_placement_does_not_exist(cache: Cache) -> None:
    cache.event(Kind.PLACEMENT, "MODIFIED", placement(nodeSelector=POOL))
    assert names(cache) == ([], ["mp"])
    assert cache.snapshot().has("mp") and not cache.snapshot().has("nobody")
    cache.changed.clear()
    cache.event(Kind.NODE, "ADDED", own_node(POOL | {"zone": "1"}))
    assert cache.changed.is_set() and names(cache) == (["mp"], [])
    cache.changed.clear()
    cache.event(Kind.NODE, "MODIFIED", own_node(POOL | {"zone": "1"}))
    assert not cache.changed.is_set()
    cache.event(Kind.NODE, "MODIFIED", own_node({"pool": "other"}))
    assert cache.changed.is_set() and names(cache) == ([], ["mp"])


def test_a_pod_that_follows_another_one_here_wakes_whoever_has_it_elsewhere(cache: Cache) -> None:
    cache.event(Kind.PLACEMENT, "MODIFIED", placement(nodeSelector=POOL))
    second = placement("second", app="z", day=2)
    second["spec"]["selector"] = {"matchLabels": {"app": "x", "more": "1"}}
    cache.event(Kind.PLACEMENT, "ADDED", second)
    cache.changed.clear()
    cache.event(Kind.POD, "MODIFIED", pod(RUNNING, labels={"app": "x", "more": "1"}))
    assert cache.changed.is_set()


def test_the_nodes_labels_outlive_its_object(cache: Cache) -> None:
    cache.event(Kind.PLACEMENT, "MODIFIED", placement(nodeSelector=POOL))
    cache.event(Kind.NODE, "ADDED", own_node(POOL))
    cache.event(Kind.NODE, "DELETED", own_node(POOL))
    cache.replace(Kind.NODE, [])
    assert names(cache) == (["mp"], [])
    cache.event(Kind.NODE, "ADDED", own_node(None, "another"))
    assert names(cache) == ([], ["mp"])


def test_labels_that_may_not_be_read_keep_nobody_waiting_for_long() -> None:
    now = [0.0]
    cache = Cache("n", clock=lambda: now[0])
    cache.event(Kind.NODE_MEMORY, "ADDED", {"metadata": {"uid": "m"}, "spec": {}})
    for kind in set(Kind) - {Kind.NODE}:
        cache.replace(kind, [placement(nodeSelector=POOL)] if kind is Kind.PLACEMENT else [])
    assert not cache.is_synced
    now[0] = 9.0
    assert not cache.is_synced
    now[0] = 10.0
    assert cache.is_synced
    # What was done for it stays as it is: nobody knows whether this is one of its nodes.
    assert cache.snapshot().held_placements == {"mp"} and names(cache) == ([], ["mp"])


def test_one_that_is_not_understood_holds_nothing_on_other_nodes(cache: Cache) -> None:
    cache.replace(Kind.PLACEMENT, [newer(placement("odd", nodeSelector=POOL))])
    cache.event(Kind.POD, "ADDED", pod(RUNNING))
    assert not cache.snapshot().held and not cache.snapshot().not_understood
    cache.event(Kind.NODE, "ADDED", own_node(POOL))
    assert cache.snapshot().held == {A}
