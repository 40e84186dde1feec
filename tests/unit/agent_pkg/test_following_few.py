# SPDX-License-Identifier: Apache-2.0
"""A node that followed all placements of the cluster follows those of its namespaces again."""

from __future__ import annotations

import time
from typing import Any

import pytest
from memplace_agent.cluster import following
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.world import Cache

from tests.unit.agent_pkg.test_following import cache, quick, run, served
from tests.unit.agent_pkg.test_watch import eventually
from tests.unit.agent_pkg.test_world import newer, placement

# pytest finds fixtures by the names that a module has.
_FIXTURES = cache, quick, run, served


def test_of_all_again_those_that_are_needed_stay_known(cache: Cache) -> None:
    before = cache.begin("far")
    there = [placement(), placement("far", namespace="far"), newer(placement("odd"))]
    whole = cache.begin(None)
    cache.replace(Kind.PLACEMENT, there, whole)
    cache.claim(frozenset({"other"}))
    cache.changed.clear()
    tokens = cache.split()
    assert tokens is not None and tokens.keys() == {"ns", "other"}
    assert cache.namespaces == frozenset(tokens)
    world = cache.snapshot()
    assert [each.uid for each in world.placements] == ["mp"] and world.has("odd")
    assert not world.last_words and not world.held and not cache.changed.is_set()
    cache.event(Kind.PLACEMENT, "DELETED", placement(), whole)
    cache.replace(Kind.PLACEMENT, [], whole)
    assert cache.snapshot().placements, "nobody tells of all any more"
    cache.replace(Kind.PLACEMENT, [placement("far", namespace="far")], before)
    assert not cache.snapshot().knows("far"), "nor who told of one before that"
    cache.event(Kind.PLACEMENT, "DELETED", placement(), tokens["ns"])
    assert not cache.snapshot().placements


def test_all_that_were_never_listed_end_and_nothing_is_forgotten(cache: Cache) -> None:
    ours = cache.begin("ns")
    cache.replace(Kind.PLACEMENT, [placement()], ours)
    whole = cache.begin(None)
    assert cache.split() is None
    cache.replace(Kind.PLACEMENT, [], whole)
    assert cache.snapshot().placements and cache.namespaces == frozenset({"ns"})
    cache.event(Kind.PLACEMENT, "DELETED", placement(), ours)
    assert not cache.snapshot().placements


def test_a_node_without_pods_splits_into_nothing() -> None:
    cache = Cache("n")
    cache.replace(Kind.PLACEMENT, [placement()], cache.begin(None))
    assert cache.split() == {} and cache.namespaces == frozenset()
    assert not cache.snapshot().existing


@pytest.fixture
def one_watch(run: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three namespaces are many, and one is few; for now for how long it may be."""
    monkeypatch.setattr(following, "MOST", 2)
    monkeypatch.setattr(following, "FEW", 1)
    run.pods("ns", "other", "third")
    eventually(lambda: run.cache.namespaces is None)
    return run


def test_few_namespaces_are_followed_by_themselves_again(
    one_watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one_watch
    run.pods("ns")
    time.sleep(0.3)
    assert run.cache.namespaces is None, "they may be many again soon"
    before = len(run.api.seen)
    monkeypatch.setattr(following, "FEW_FOR_S", 0.0)
    eventually(lambda: run.cache.namespaces == {"ns"})
    assert run.placements == {"mp-ns"} and run.following.namespaces == {"ns"}
    path = "/apis/memplace.dev/v1alpha1/namespaces/ns/memoryplacements"
    eventually(lambda: sum("watch" in r.query for r in run.api.seen[before:] if r.path == path) > 1)
    after = len(run.api.seen)
    time.sleep(0.6)
    assert {r.path for r in run.api.seen[after:]} == {path}, "that of all has ended"
    (listed,) = [r.query for r in run.api.seen[before:] if "watch" not in r.query]
    assert (listed["resourceVersion"], listed["resourceVersionMatch"]) == ("7", "NotOlderThan")
    run.pods("ns", "other", "third")
    eventually(lambda: run.cache.namespaces is None)
    assert run.placements == {"mp-ns", "mp-other", "mp-third"}


def test_neither_few_nor_many_stay_as_they_are(
    one_watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "FEW_FOR_S", 0.2)
    one_watch.pods("ns", "other")
    time.sleep(1)
    assert one_watch.cache.namespaces is None
    one_watch.pods("ns")
    eventually(lambda: one_watch.cache.namespaces == {"ns"})
    one_watch.pods("ns", "other")
    eventually(lambda: one_watch.cache.namespaces == {"ns", "other"})


def test_who_takes_over_tells_nothing_older(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST", 1)
    run.pods("ns")
    eventually(lambda: run.placements)
    run.pods("ns", "other")
    eventually(lambda: run.cache.namespaces is None)
    lists = [r for r in run.api.seen if "watch" not in r.query and "/namespaces/" not in r.path]
    assert [each.query["resourceVersion"] for each in lists] == ["7"]
