# SPDX-License-Identifier: Apache-2.0
"""What plan says of placements of the cluster, and of nodes that are not meant."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.planner import Planner, manifest, memory_tier, of_cluster, only
from tests.cli.site import Memplace, Site

pytestmark = pytest.mark.timeout(60)


def here(site: Site) -> dict[str, Any]:
    return {"matchLabels": {"test": site.namespace}}


def test_a_new_one(plan: Planner, site: Site) -> None:
    site.run_pod("redis-0")
    site.node_report()
    ran = plan(of_cluster("all", here(site)))
    assert (ran.code, ran.err) == (0, "")
    assert "ClusterMemoryPlacement all would be created" in ran.flat
    assert f"namespace {site.namespace} POD NODE" in ran.flat
    assert f"redis-0 {site.node} redis Comes Placed" in ran.flat
    assert "1 of 1 container would be placed; nothing was changed" in ran.flat
    assert all(len(line) <= 120 for line in ran.out.splitlines())
    code, found = plan.placement(of_cluster("all", here(site)))
    assert (code, found["namespace"], found["pods"][0]["namespace"]) == (0, "", site.namespace)
    assert (only(found)["before"], only(found)["after"]) == ("", "cluster/all")
    code, found = plan.placement(of_cluster("all", {"matchLabels": {"test": "nobody"}}))
    assert (code, found["pods"], found["reason"]) == (0, [], "NoPods")


def test_namespaces_that_leave_and_come(plan: Planner, site: Site) -> None:
    site.apply_default("default-moved")
    site.run_pod("redis-0")
    site.node_report()
    code, found = plan.placement(of_cluster("default-moved", {"matchLabels": {"test": "x"}}))
    assert (code, only(found)["change"], only(found)["after"]) == (0, "Leaves", "")
    assert (
        f"it wants the label test=x of a namespace, the namespace has test={site.namespace}"
        in only(found)["message"]
    )
    assert found["changes"][0] == f"spec.namespaceSelector.matchLabels.test: {site.namespace} -> x"


def test_ranks_are_those_of_enforced_own_and_default(plan: Planner, site: Site) -> None:
    site.place("own")
    site.run_pod("redis-0")
    site.node_report()
    code, found = plan.placement(of_cluster("default", here(site), priority=1000))
    # That a default gives way is no conflict.
    assert (code, only(found)["change"], only(found)["reason"]) == (0, "Loses", "")
    assert "placement own is of the pod's namespace, this one a default" in only(found)["message"]
    code, found = plan.placement(of_cluster("first", here(site), enforced=True))
    assert (code, only(found)["change"], only(found)["before"]) == (0, "Comes", "own")
    assert "it takes containers from own, whose work on them is given back" in found["notes"]


def test_one_of_a_namespace_is_planned_against_those_of_the_cluster(
    plan: Planner, site: Site
) -> None:
    site.apply_default("default-first", enforced=True)
    site.apply_default("default-last")
    site.run_pod("redis-0")
    site.node_report()
    code, found = plan.placement(manifest("own", priority=9))
    assert (code, only(found)["change"], only(found)["reason"]) == (1, "Loses", "Conflict")
    assert "placement cluster/default-first is enforced, this one is not," in only(found)["message"]
    code, found = plan.placement(of_cluster("default-first", here(site), enforced=False))
    assert (code, only(found)["change"]) == (0, "Stays")
    both = (of_cluster("default-first", {"matchLabels": {"test": "x"}}), manifest("own"))
    ran = plan(*both, options=("-o", "json"))
    _, own = ran.json()["placements"]
    assert (only(own)["change"], only(own)["before"]) == ("Comes", "cluster/default-first")


def test_several_documents_of_all_kinds(plan: Planner, site: Site) -> None:
    site.run_pod("redis-0")
    site.node_report()
    wrong = of_cluster("wrong", here(site), rules=[])
    documents = (memory_tier("far", 2), of_cluster("all", here(site), tier="far"), manifest("own"))
    ran = plan(*documents, wrong)
    assert ran.code == 2
    assert "MemoryTier far would be created" in ran.flat
    assert "ClusterMemoryPlacement all would be created" in ran.flat
    assert f"MemoryPlacement {site.namespace}/own would be created" in ran.flat
    assert "ClusterMemoryPlacement wrong is wrong" in ran.flat and "document 4)" in ran.flat
    found = plan(*documents, options=("-o", "json")).json()["placements"]
    assert [only(each)["after"] for each in found] == ["own", "own"]
    without = of_cluster("all", here(site))
    del without["spec"]["namespaceSelector"]
    assert "namespaceSelector" in plan(without).flat


def test_who_may_read_one_namespace(plan: Planner, site: Site) -> None:
    site.run_pod("redis-0")
    site.node_report()
    site.may_read("tenant")
    may_see(site)
    ran = plan(of_cluster("all", here(site)), memory_tier("far", 2), user="tenant")
    assert ran.code == 0, ran.err
    assert f"redis-0 {site.node} redis Comes" in ran.flat
    assert f"other namespaces than {site.namespace}: namespaces is forbidden" in ran.flat
    assert "ClusterMemoryPlacement all as it is there; it is planned as a new one: " in ran.flat
    assert "MemoryTier far as it is there; it is planned as a new one: " in ran.flat
    ran = plan(of_cluster("all", {"matchLabels": {"test": "x"}}), user="tenant")
    assert "it would select no pod of the namespaces that could be read" in ran.flat


def test_a_tenant_is_told_that_those_of_the_cluster_are_left_out(plan: Planner, site: Site) -> None:
    site.apply_default("default-hidden", enforced=True)
    site.run_pod("redis-0")
    site.may_read("tenant")
    ran = plan(manifest("own"), user="tenant")
    assert ran.code == 0, ran.err
    assert "placements of the cluster: clustermemoryplacements.memplace.dev is forbidden" in (
        ran.flat
    )


def may_see(site: Site) -> None:
    """Let the tenant read the namespace itself, as the role view does."""
    rules = [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]
    site.may("tenant", rules, namespace=site.namespace)


def test_other_nodes(plan: Planner, site: Site) -> None:
    site.join()
    site.run_pod("redis-0")
    site.node_report()
    wanted = manifest("mp", nodeSelector={"pool": "cxl"})
    ran = plan(wanted)
    assert ran.code == 0, ran.err
    assert f"redis-0 {site.node} redis Elsewhere - " in ran.flat
    assert "its spec.nodeSelector wants pool=cxl, the pod's node has no label pool" in ran.flat
    assert "NoPods: it would select no pod on a node that its spec.nodeSelector means" in ran.flat
    assert "no container is selected; nothing was changed" in ran.flat
    site.label_node(pool="cxl")
    code, found = plan.placement(wanted)
    assert (code, only(found)["change"], only(found)["reason"]) == (0, "Comes", "Placed")
    # The placement that is there loses the node, and the next one gets the pod.
    site.place("mp", nodeSelector={"pool": "cxl"})
    site.place("rest", priority=-1)
    code, found = plan.placement(manifest("mp", nodeSelector={"pool": "other"}))
    assert (code, only(found)["change"], only(found)["after"]) == (0, "Leaves", "rest")
    assert (
        "its spec.nodeSelector wants pool=other, the pod's node has pool=cxl"
        in (only(found)["message"])
    )


def test_others_that_do_not_mean_the_node_win_nothing(plan: Planner, site: Site) -> None:
    site.join()
    site.place("elsewhere", priority=9, nodeSelector={"pool": "cxl"})
    site.run_pod("redis-0")
    site.node_report()
    code, found = plan.placement(manifest("mp"))
    assert (code, only(found)["change"], only(found)["before"]) == (0, "Comes", "")


def test_a_tier_s_node_selector_counts(plan: Planner, site: Site) -> None:
    site.join()
    site.run_pod("redis-0")
    site.node_report()
    tier = memory_tier("far", 2, nodeSelector={"pool": "cxl"})
    ran = plan(tier, manifest(tier="far"))
    assert ran.code == 1
    assert "no node from which an agent reports has the labels of its nodeSelector" in ran.flat
    assert "TierNotOnNode" in ran.flat
    site.label_node(pool="cxl")
    ran = plan(tier, manifest(tier="far"), options=("-o", "json"))
    assert ran.code == 0, ran.out
    (node,) = ran.json()["tiers"][0]["nodes"]
    assert (node["name"], node["after"]) == (site.node, [2])
    assert only(ran.json()["placements"][0])["reason"] == "Placed"


def test_labels_unread(plan: Planner, site: Site) -> None:
    site.run_pod("redis-0")
    site.node_report()
    site.may_read("tenant")
    ran = plan(manifest("mp", nodeSelector={"pool": "cxl"}), user="tenant")
    assert ran.code == 0, ran.err
    assert f"whether its spec.nodeSelector means node {site.node} can't be told" in ran.flat
    assert "labels of nodes, which a nodeSelector asks for: nodes is forbidden" in ran.flat


def test_a_pod_without_a_node_waits(plan: Planner, site: Site, memplace: Memplace) -> None:
    path = f"/api/v1/namespaces/{site.namespace}/pods"
    body = {"metadata": {"name": "new", "labels": {"app": "redis"}}}
    site._create(path, body | {"spec": {"containers": [{"name": "redis", "image": "redis"}]}})
    _, found = plan.placement(manifest("mp", nodeSelector={"pool": "cxl"}))
    assert (only(found)["change"], only(found)["reason"]) == ("Comes", "Pending")
