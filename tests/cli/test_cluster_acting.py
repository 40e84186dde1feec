# SPDX-License-Identifier: Apache-2.0
"""Pause, resume and undo of placements of the cluster, and how one is typed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.site import Memplace, Site
from tests.cli.test_cluster_placements import judged, reported

pytestmark = pytest.mark.timeout(60)


def spec(site: Site, name: str) -> dict[str, Any]:
    found: dict[str, Any] = site.get(name)["spec"]
    return found


def test_one_is_paused_undone_and_goes_on(site: Site, memplace: Memplace) -> None:
    before = site.apply_default("default-acted")["spec"]
    paused = memplace("pause", "cmp/default-acted")
    assert paused.code == 0, paused.err
    assert "cluster placement default-acted paused: what is in place stays" in paused.flat
    assert spec(site, "default-acted") == before | {"paused": True}
    again = memplace("pause", "cmp/default-acted", "-o", "json").json()
    assert (again["namespace"], again["name"], again["changed"]) == ("", "default-acted", False)
    undone = memplace("undo", "clustermemoryplacement/default-acted")
    assert undone.code == 0, undone.err
    assert "cluster placement default-acted was paused, and is not any more" in undone.flat
    assert spec(site, "default-acted") == before | {"paused": False, "mode": "DryRun"}
    resumed = memplace("resume", "clustermemoryplacements.memplace.dev/default-acted")
    assert "cluster placement default-acted resumed: the work goes on" in resumed.flat
    assert spec(site, "default-acted") == before | {"paused": False}


def test_undo_waits_for_its_pods_in_all_namespaces(site: Site, memplace: Memplace) -> None:
    site.apply_default("default-undone")
    pod = site.run_pod("redis-0")
    memplace("undo", "cmp/default-undone")
    report = reported(site.get("default-undone"), pod)
    report["pods"][0]["containers"][0] |= {"state": "Pending", "reason": "Undoing"}
    site.node_report(report)
    args = ("undo", "cmp/default-undone", "--wait", "--timeout", "0")
    early = memplace(*args)
    assert early.code == 1
    assert f"container redis of pod {site.namespace}/redis-0 on node {site.node}" in early.flat
    (left,) = memplace(*args, "-o", "json").json()["left"]
    assert (left["namespace"], left["pod"], left["reason"]) == (
        site.namespace,
        "redis-0",
        "Undoing",
    )
    report["pods"][0]["containers"][0]["state"] = "DryRun"
    site.node_report(report)
    done = memplace(*args)
    assert (done.code, done.err) == (0, "")
    assert "cluster placement default-undone is undone" in done.flat


def test_undo_waits_on_the_operator_s_word_of_one(site: Site, memplace: Memplace) -> None:
    placement = site.apply_default("default-told", mode="DryRun")
    rules = [
        {
            "apiGroups": ["memplace.dev"],
            "resources": ["clustermemoryplacements"],
            "verbs": ["get", "patch"],
        }
    ]
    site.may("tenant", rules)
    args = ("undo", "cmp/default-told", "--wait", "--timeout", "0")
    assert "the operator has not judged the change yet" in memplace(*args, user="tenant").flat
    judged(site, placement, "DryRun")
    done = memplace(*args, user="tenant")
    assert done.code == 0, done.out + done.err


@pytest.mark.parametrize("command", ["pause", "resume", "undo"])
def test_the_other_kind(site: Site, memplace: Memplace, command: str) -> None:
    site.apply_default("default-only")
    ran = memplace(command, "default-only", "-n", site.namespace)
    assert ran.code == 3
    assert (
        f"there is no MemoryPlacement default-only in namespace {site.namespace}, but a "
        f"ClusterMemoryPlacement has that name: write kubectl memplace {command} cmp/default-only"
    ) in ran.err
    site.place("own")
    ran = memplace(command, "cmp/own", "-n", site.namespace)
    assert ran.code == 3
    assert (
        f"there is no ClusterMemoryPlacement own, but namespace {site.namespace} has a "
        f"MemoryPlacement of that name: write kubectl memplace {command} {site.namespace}/own"
    ) in ran.err
    ran = memplace(command, "cmp/nobody", "-n", site.namespace)
    assert ran.code == 3
    assert "no ClusterMemoryPlacement nobody: kubectl memplace status lists all" in ran.err


def test_who_may_not_look_is_not_told_of_it(site: Site, memplace: Memplace) -> None:
    site.apply_default("default-secret")
    site.may_read("tenant")
    ran = memplace("pause", "default-secret", "-n", site.namespace, user="tenant")
    assert ran.code == 3 and "ClusterMemoryPlacement" not in ran.err
    ran = memplace("pause", "cmp/default-secret", user="tenant")
    assert ran.code == 4 and "forbidden" in ran.err
    assert "paused" not in spec(site, "default-secret")


@pytest.mark.parametrize("text", ["cmp/a/b", "cmp/", "/a", "a/b/c", "mp/a/b/c", "a//b"])
def test_what_names_none_is_usage(memplace: Memplace, text: str) -> None:
    ran = memplace("pause", text)
    assert (ran.code, ran.out) == (2, "")
    assert "cmp/NAME" in ran.err


def test_all_words_of_kubectl_for_one_of_a_namespace(site: Site, memplace: Memplace) -> None:
    site.place("own")
    for word in ("mp/", "memoryplacement/", "MemoryPlacements/", "memoryplacements.memplace.dev/"):
        ran = memplace("pause", f"{word}own", "-n", site.namespace)
        assert ran.code == 0, ran.err
    assert memplace("resume", f"mp/{site.namespace}/own").code == 0
