# SPDX-License-Identifier: Apache-2.0
"""Which namespaces' placements an agent knows, and what it does not conclude of the others."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from memplace.ledger import claim_for
from memplace_agent.cluster import following
from memplace_agent.cluster.collections import collections
from memplace_agent.cluster.following import Following
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.world import Cache
from memplace_agent.engine.known import State, standing_of
from memplace_agent.world import World
from memplace_kube import watch

from tests.unit.agent_pkg.answers import Request, reply, serving, stream
from tests.unit.agent_pkg.test_watch import eventually
from tests.unit.agent_pkg.test_worker import Agent
from tests.unit.agent_pkg.test_world import ANEW, RUNNING, A, newer, placement, pod

B_POD = {"uid": "pod-b", "namespace": "other"}


def of_other(obj: dict[str, Any]) -> dict[str, Any]:
    return obj | {"metadata": obj["metadata"] | B_POD}


@pytest.fixture
def cache() -> Cache:
    """A node with a pod in `ns`, of which the placements are not known yet."""
    found = Cache("n")
    for kind in set(Kind) - {Kind.PLACEMENT, Kind.POD}:
        found.replace(kind, [])
    found.replace(Kind.POD, [pod(RUNNING)])
    return found


def test_nothing_is_concluded_before_the_namespaces_of_all_pods_are_listed(cache: Cache) -> None:
    assert not cache.is_synced and cache.asked.is_set()
    assert cache.needed == {"ns"}
    cache.replace(Kind.PLACEMENT, [placement()], cache.begin("ns"))
    assert cache.is_synced and cache.namespaces == {"ns"}
    assert [each.uid for each in cache.snapshot().placements] == ["mp"]


def test_a_node_without_pods_waits_for_nobody() -> None:
    cache = Cache("n")
    for kind in set(Kind) - {Kind.PLACEMENT, Kind.POD}:
        cache.replace(kind, [])
    assert not cache.is_synced, "which pods there are is not known"
    cache.replace(Kind.POD, [])
    assert cache.is_synced


def test_a_pod_of_a_namespace_that_comes_is_held_until_that_is_listed(cache: Cache) -> None:
    cache.replace(Kind.PLACEMENT, [placement()], cache.begin("ns"))
    cache.asked.clear()
    cache.event(Kind.POD, "ADDED", of_other(pod(ANEW)))
    world = cache.snapshot()
    assert cache.asked.is_set() and cache.is_synced
    assert world.held == {"b" * 64} and world.held_pods == {"pod-b"}
    cache.changed.clear()
    cache.replace(Kind.PLACEMENT, [], cache.begin("other"))
    assert cache.changed.is_set(), "what was held may be placed by a placement of the cluster"
    world = cache.snapshot()
    assert not world.held and not world.held_pods
    assert [each.uid for each in world.placements] == ["mp"]


def test_a_list_of_one_namespace_says_nothing_of_another(cache: Cache) -> None:
    cache.event(Kind.POD, "ADDED", of_other(pod(ANEW)))
    ours, others = cache.begin("ns"), cache.begin("other")
    cache.replace(Kind.PLACEMENT, [placement(), newer(placement("odd"))], ours)
    cache.replace(Kind.PLACEMENT, [placement("there", namespace="other")], others)
    cache.replace(Kind.PLACEMENT, [], others)
    world = cache.snapshot()
    assert [each.uid for each in world.placements] == ["mp"] and world.has("odd")
    cache.replace(Kind.PLACEMENT, [placement("new")], ours)
    world = cache.snapshot()
    assert [each.uid for each in world.placements] == ["new"]
    assert not world.has("mp") and not world.has("odd")


def test_what_is_forgotten_is_not_deleted(cache: Cache) -> None:
    token = cache.begin("ns")
    cache.replace(Kind.PLACEMENT, [placement(), newer(placement("odd"))], token)
    assert not cache.end(token), "a pod needs it"
    cache.event(Kind.POD, "DELETED", pod(RUNNING))
    assert cache.end(token)
    world = cache.snapshot()
    assert not world.existing and not world.held_placements
    assert not world.last_words and not world.knows("ns") and world.knows("")


def test_what_was_done_keeps_its_namespace(cache: Cache) -> None:
    token = cache.begin("ns")
    cache.replace(Kind.PLACEMENT, [placement()], token)
    cache.claim(frozenset({"ns"}))
    cache.event(Kind.POD, "DELETED", pod(RUNNING))
    assert not cache.end(token)
    cache.asked.clear()
    cache.claim(frozenset({"ns", "other"}))
    assert cache.asked.is_set() and cache.needed == {"ns", "other"}


def test_a_pod_that_has_ended_needs_nothing(cache: Cache) -> None:
    cache.event(Kind.POD, "MODIFIED", pod(phase="Succeeded"))
    assert cache.needed == frozenset()


def test_a_watch_that_was_ended_says_nothing_any_more(cache: Cache) -> None:
    old = cache.begin("ns")
    cache.replace(Kind.PLACEMENT, [placement()], old)
    new = cache.begin("ns")
    cache.event(Kind.PLACEMENT, "DELETED", placement(), old)
    cache.replace(Kind.PLACEMENT, [], old)
    assert cache.snapshot().placements
    cache.event(Kind.PLACEMENT, "DELETED", placement(), new)
    assert not cache.snapshot().placements
    cache.replace(Kind.PLACEMENT, [placement()])
    cache.event(Kind.PLACEMENT, "DELETED", placement(), new)
    assert cache.snapshot().placements, "the watch of all speaks for each"


# --- what was done here ----------------------------------------------------------------------


@pytest.fixture
def restarted(node, kit) -> Agent:
    """An agent that has come to a container which the one before it placed, and to no pod of it."""
    node.machine.start(100, A, kit.heap(), kit.anon(), pod="pod")
    Agent(node).list((Kind.PLACEMENT, placement()), (Kind.POD, pod(RUNNING)))
    node.restart()
    agent = Agent(node)
    for kind in set(Kind) - {Kind.PLACEMENT}:
        agent.cache.replace(kind, [])
    return agent


def test_what_was_done_is_kept_while_its_namespace_is_not_known(restarted, node, kit) -> None:
    calls = len(node.machine.calls)
    restarted.run(120)
    assert restarted.cache.needed == {"ns"}, "the worker has said whose placements it needs"
    assert node.machine.policies(100)["[heap]"] == kit.CXL
    assert len(node.machine.calls) == calls and node.claims


def test_what_was_done_is_undone_once_its_placement_is_known_to_be_gone(
    restarted, node, kit
) -> None:
    restarted.run(30)
    token = restarted.cache.begin("ns")
    restarted.cache.replace(Kind.PLACEMENT, [placement()], token)
    restarted.run(30)
    assert node.machine.policies(100)["[heap]"] == kit.CXL and node.claims
    restarted.cache.event(Kind.PLACEMENT, "DELETED", placement(), token)
    restarted.run(30)
    assert node.machine.policies(100)["[heap]"] != kit.CXL and not node.claims


def test_a_pod_that_is_held_is_neither_undone_nor_placed(restarted, node, kit) -> None:
    restarted.run(1)
    calls = len(node.machine.calls)
    restarted.cache.event(Kind.POD, "ADDED", pod(RUNNING))
    restarted.run(60)
    assert node.machine.policies(100)["[heap]"] == kit.CXL
    assert len(node.machine.calls) == calls and node.claims


@pytest.mark.parametrize(("namespaces", "is_known"), [(None, True), ({"other"}, False)])
def test_of_an_object_nothing_follows_from_what_is_missing(
    namespaces: set[str] | None, *, is_known: bool
) -> None:
    """Shared memory outlives its pods, and has no container that could be held."""
    known = None if namespaces is None else frozenset(namespaces)
    state = State(world=World(namespaces=known), is_synced=True)
    claim = claim_for("object-1-2-3", ("mp", "ns", "mp"), 0.0)
    standing = standing_of(claim, state, is_populated=None)
    assert standing.placement_exists is not is_known
    assert standing.is_understood is is_known


# --- who follows -----------------------------------------------------------------------------


class Served:
    """An API server with a placement in each namespace."""

    def __init__(self) -> None:
        self.silent: set[str] = set()

    def __call__(self, request: Request, file: Any) -> None:
        _, _, where = request.path.partition("/namespaces/")
        namespace = where.partition("/")[0]
        if namespace in self.silent:
            return
        if "watch" in request.query:
            time.sleep(0.2)
            stream(file)
        else:
            names = [namespace] if namespace else ["ns", "other", "third"]
            items = [placement(f"mp-{each}", namespace=each) for each in names]
            reply(file, {"metadata": {"resourceVersion": "7"}, "items": items})


class Run:
    """A node whose placements are followed, at an API server of its own."""

    def __init__(self, server: Any) -> None:
        self.cache, self.stop, self.ticks = Cache("n"), threading.Event(), 0
        for kind in set(Kind) - {Kind.PLACEMENT, Kind.POD}:
            self.cache.replace(kind, [])
        (what,) = [each for each in collections("n") if each.kind is Kind.PLACEMENT]
        self.following = Following(server, self.cache, what)
        args = self.stop, self.tick
        threading.Thread(target=self.following.run, args=args, daemon=True).start()

    def tick(self) -> None:
        self.ticks += 1

    def pods(self, *namespaces: str) -> None:
        meta = pod()["metadata"]
        pods = [pod() | {"metadata": meta | {"uid": ns, "namespace": ns}} for ns in namespaces]
        self.cache.replace(Kind.POD, pods)

    @property
    def placements(self) -> set[str]:
        return {each.uid for each in self.cache.snapshot().placements}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pauses be short: what is waited for is the same."""
    monkeypatch.setattr(watch, "SPREAD_S", 0.05)
    monkeypatch.setattr(watch, "_TOO_SHORT_S", 0.0)
    monkeypatch.setattr(following, "_LOOK_S", 0.05)


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
def run(served: Served) -> Any:
    """Follow nothing yet."""
    with serving(served) as api:
        found = Run(api.server)
        found.api = api  # type: ignore[attr-defined]
        yield found
        found.stop.set()


def test_only_namespaces_of_pods_are_asked_for(run: Any) -> None:
    run.pods("ns", "other")
    eventually(lambda: run.placements == {"mp-ns", "mp-other"})
    asked = {request.path for request in run.api.seen}
    assert asked == {
        f"/apis/memplace.dev/v1alpha1/namespaces/{each}/memoryplacements"
        for each in ("ns", "other")
    }


def test_a_namespace_without_pods_is_followed_for_a_while_and_then_not(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.pods("ns", "other")
    eventually(lambda: len(run.placements) == 2)
    run.pods("ns")
    time.sleep(0.3)
    assert run.placements == {"mp-ns", "mp-other"}, "its next pod may come"
    monkeypatch.setattr(following, "LINGER_S", 0.0)
    eventually(lambda: run.placements == {"mp-ns"})
    assert run.cache.namespaces == run.following.namespaces == {"ns"}
    run.pods("ns", "other")
    eventually(lambda: len(run.placements) == 2)


def test_many_namespaces_are_one_watch_and_nothing_is_lost_meanwhile(
    run: Any, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST", 2)
    served.silent = {""}
    run.pods("ns", "other")
    eventually(lambda: len(run.placements) == 2)
    run.pods("ns", "other", "third")
    eventually(lambda: run.following.namespaces is None)
    time.sleep(0.3)
    assert run.placements == {"mp-ns", "mp-other"}, "until all are listed two are known"
    assert run.cache.namespaces == {"ns", "other"}
    served.silent = set()
    eventually(lambda: run.placements == {"mp-ns", "mp-other", "mp-third"})
    assert run.cache.namespaces is None
    eventually(lambda: not run.following._watches)
    before = len(run.api.seen)
    eventually(lambda: len(run.api.seen) > before + 3)
    assert {r.path.count("/namespaces/") for r in run.api.seen[before + 3 :]} == {0}


def test_silence_about_one_namespace_is_seen(run: Any, served: Served) -> None:
    served.silent = {"other"}
    run.pods("ns", "other")
    eventually(lambda: run.following.age_s > 1)
    assert not run.cache.is_synced


def test_a_watch_that_hangs_or_ends_is_noticed(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run.pods("ns")
    eventually(lambda: run.placements)
    (each,) = run.following._watches.values()
    monkeypatch.setattr(following, "WAITS_S", -1.0)
    time.sleep(0.2)
    before = run.ticks
    time.sleep(0.3)
    assert run.ticks == before, "no tick while one of them hangs"
    monkeypatch.setattr(following, "WAITS_S", 240.0)
    eventually(lambda: run.ticks > before)
    thread = each.thread
    each.stop.set()
    eventually(lambda: not thread.is_alive())
    each.stop.clear()
    eventually(lambda: each.thread is not thread and each.thread.is_alive())
