# SPDX-License-Identifier: Apache-2.0
"""The API server that the benchmark of the agent brings along."""

from __future__ import annotations

from memplace_lab.bench.apiserver import GROUP, PLACEMENTS, Object, Store

PODS = "/api/v1/pods"


def pod(name: str, **more: str) -> Object:
    return {"metadata": {"name": name}, **more}


def events(store: Store, since: int) -> list[tuple[str, str]]:
    found = store.watch(PODS, since, 0.05)
    return [(event["type"], event["object"]["metadata"]["name"]) for event in found]


def test_a_watch_goes_on_where_a_list_ended() -> None:
    store = Store()
    store.put(PODS, pod("old"))
    listed = store.list(PODS)
    store.put(PODS, pod("new"))
    store.put("/other", pod("elsewhere"))
    store.put(PODS, pod("old", spec="changed"))
    store.delete(PODS, "new")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["old"]
    assert events(store, int(listed["metadata"]["resourceVersion"])) == [
        ("ADDED", "new"),
        ("MODIFIED", "old"),
        ("DELETED", "new"),
    ]


def test_an_object_keeps_its_uid_and_gets_a_new_version() -> None:
    store = Store()
    first, second = store.put(PODS, pod("p")), store.put(PODS, pod("p"))
    assert first["metadata"]["uid"] == second["metadata"]["uid"]
    assert first["metadata"]["resourceVersion"] != second["metadata"]["resourceVersion"]
    assert store.put(PODS, pod("q"))["metadata"]["uid"] != first["metadata"]["uid"]


def test_what_is_discarded_need_not_be_there() -> None:
    store = Store()
    store.discard(PODS, "p")
    store.put(PODS, pod("p"))
    store.discard(PODS, "p")
    assert store.get(PODS, "p") is None


def test_placements_are_those_of_one_namespace_if_that_is_asked_for() -> None:
    store, path = Store(), f"{GROUP}/namespaces/a/memoryplacements"
    since = store.list(path)["metadata"]["resourceVersion"]
    for name in ("a", "b"):
        store.put(PLACEMENTS, {"metadata": {"name": name, "namespace": name}})
    assert [item["metadata"]["name"] for item in store.list(path)["items"]] == ["a"]
    found = store.watch(path, int(since), 0.05)
    assert [event["object"]["metadata"]["name"] for event in found] == ["a"]
    assert len(store.list(PLACEMENTS)["items"]) == 2
