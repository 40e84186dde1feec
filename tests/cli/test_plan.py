# SPDX-License-Identifier: Apache-2.0
"""What plan says of manifests, by a real API server, and that it changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from memplace_lab.product.operating import API

from tests.cli.planner import Planner, manifest, memory_tier, only
from tests.cli.site import GIB, Site
from tests.support.cluster import result

pytestmark = pytest.mark.timeout(60)

NO_CALL = {
    "type": "Supported",
    "status": "False",
    "reason": "KernelWithoutProcessMbind",
    "message": "the kernel announces no process_mbind()",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def test_a_new_placement_of_a_pod_that_runs(plan: Planner, site: Site) -> None:
    site.run_pod("redis-0")
    site.node_report()
    ran = plan(manifest())
    assert (ran.code, ran.err) == (0, "")
    assert f"MemoryPlacement {site.namespace}/values would be created" in ran.flat
    assert f"redis-0 {site.node} redis Comes Placed not known" in ran.flat
    assert "ProcessMbind cxl 16.0 GiB - - - " in ran.flat
    assert "only the agents can tell: apply it with mode: DryRun first" in ran.flat
    assert "1 of 1 container would be placed; nothing was changed" in ran.flat
    assert all(len(line) <= 120 for line in ran.out.splitlines())
    _, found = plan.placement(manifest())
    assert found["nodes"][0]["room"] == {
        "tiers": ["cxl"],
        "capacityBytes": 16 * GIB,
        "placedBytes": 0,
        "wouldMoveBytes": 0,
        "limitBytes": 0,
        "unknown": 1,
        "message": "whether it fits can't be told: 1 container with neither a measurement nor a "
        "memory limit",
    }
    # And nothing was.
    path = site.placement_path("values")
    assert site.api.call("GET", path).status == 404


def test_a_roll_out_is_said(plan: Planner, site: Site) -> None:
    site.run_pod("redis-0")
    site.node_report()
    _, found = plan.placement(manifest("mp"))
    assert not any("rollout" in note for note in found["notes"])
    _, found = plan.placement(manifest("mp", rollout={"maxNodes": 1}))
    assert any("spec.rollout: nodes take it one step" in note for note in found["notes"])


def test_a_limit_of_the_namespace_is_foreseen_as_far_as_reports_tell(
    plan: Planner, site: Site
) -> None:
    pod = site.run_pod("redis-0")
    placed = site.place("values")
    report = result(placed, pod)  # 1 MiB is not on cxl, 64 MiB are
    site.node_report(report)
    limits = [{"namespace": site.namespace, "perNode": "1%"}]
    tier = memory_tier("cxl", 1, namespaceLimits=limits)
    (found,) = plan(tier, options=("-o", "json")).json()["tiers"]
    assert any("whom its namespaceLimits would refuse" in note for note in found["notes"])
    _, found = plan.placement(manifest())
    assert not any("may have" in note for note in found["notes"])
    has = "of tier cxl, and has 64.0 MiB of it by what its agent reports"
    for size, code, reason, says in (
        ("1%", 0, "Placed", "this placement fits"),
        ("65Mi", 0, "Placed", "this placement fits"),
        ("64Mi", 1, "NamespaceLimit", "1 container of this placement would be refused"),
    ):
        limits[0]["perNode"] = size
        (found,) = plan(tier, manifest(), options=("-o", "json")).json()["placements"]
        (note,) = (each for each in found["notes"] if "may have" in each)
        assert has in note and says in note and only(found)["reason"] == reason
        assert plan(tier, manifest()).code == code
    assert "nothing new is placed there" in only(found)["message"]
    # Of another one nobody measured anything.
    site.run_pod("web-0", app="web")
    web = manifest("web", selector={"matchLabels": {"app": "web"}})
    (found,) = plan(tier, web, options=("-o", "json")).json()["placements"]
    (note,) = (each for each in found["notes"] if "may have" in each)
    assert "whether 1 container of this placement would be refused can't be told" in note


def test_one_that_loses_and_one_that_takes(plan: Planner, site: Site) -> None:
    site.place("first")
    site.run_pod("redis-0")
    site.node_report()
    code, lost = plan.placement(manifest("second"))
    assert (code, only(lost)["change"], only(lost)["reason"]) == (1, "Loses", "Conflict")
    assert "placement first is" in only(lost)["message"]
    code, won = plan.placement(manifest("second", priority=1))
    assert (code, only(won)["change"], only(won)["before"]) == (0, "Comes", "first")
    assert "it takes containers from first, whose work on them is given back" in won["notes"]
    ran = plan(manifest("second", priority=1))
    assert "placement first has it now" in ran.flat


def test_a_dry_run_takes_nothing_from_who_acts(plan: Planner, site: Site) -> None:
    site.place("first")
    site.run_pod("redis-0")
    site.node_report()
    code, found = plan.placement(manifest("second", mode="DryRun", priority=9))
    assert (code, only(found)["change"], only(found)["reason"]) == (0, "Loses", "DryRun")
    assert only(found)["message"] == (
        f"placement {site.namespace}/first has it, and with mode Enforce this one would: it has "
        "priority 9, that one 0"
    )
    code, found = plan.placement(manifest("second", mode="DryRun"))
    assert (code, only(found)["change"], only(found)["reason"]) == (1, "Loses", "Conflict")
    assert "would have it with mode Enforce, too: it is" in only(found)["message"]
    code, found = plan.placement(manifest("first", mode="DryRun"))
    assert (code, only(found)["change"], only(found)["reason"]) == (0, "Stays", "DryRun")
    assert found["changes"] == ["spec.mode: (not set) -> DryRun"]


def test_pods_that_leave_and_pods_that_come(plan: Planner, site: Site) -> None:
    site.place("values")
    site.place("rest", priority=-5, selector={})
    site.run_pod("redis-0")
    site.run_pod("web-0", app="web")
    site.node_report()
    code, found = plan.placement(manifest(selector={"matchLabels": {"app": "web"}}))
    assert code == 0
    by_name = {pod["name"]: pod["containers"][0] for pod in found["pods"]}
    assert by_name["redis-0"]["change"] == "Leaves"
    assert by_name["redis-0"]["after"] == "rest"
    assert (
        "it wants the label app=web, the pod has app=redis; placement rest has it then"
        in (by_name["redis-0"]["message"])
    )
    assert (by_name["web-0"]["change"], by_name["web-0"]["before"]) == ("Comes", "rest")
    assert found["changes"] == ["spec.selector.matchLabels.app: redis -> web"]
    ran = plan(manifest(selector={"matchLabels": {"app": "nobody"}}))
    assert (ran.code, "NoPods: it would select no pod" in ran.flat) == (0, True)


def test_several_manifests_are_planned_together(plan: Planner, site: Site) -> None:
    site.run_pod("redis-0")
    site.node_report()
    ran = plan(manifest("a"), manifest("b", priority=3), options=("-o", "json"))
    a, b = ran.json()["placements"]
    assert (only(a)["change"], only(a)["after"]) == ("Loses", "b")
    assert (only(b)["change"], ran.code) == ("Comes", 1)


def test_nodes_that_can_not(plan: Planner, site: Site) -> None:
    site.run_pod("redis-0")
    code, found = plan.placement(manifest())
    assert (code, only(found)["reason"]) == (1, "AgentNotReporting")
    site.node_report(tiers=[{"name": "dram", "numaNodes": [0]}])
    code, found = plan.placement(manifest())
    assert (code, only(found)["reason"]) == (1, "TierNotOnNode")
    assert only(found)["message"] == "rule heap: this node has no memory of tier cxl"
    moves = {"name": "MovePages", "capabilities": ["Measures", "Moves"]}
    site.node_report(conditions=[NO_CALL], backend=moves)
    code, found = plan.placement(manifest())
    assert (code, only(found)["reason"], found["nodes"][0]["backend"]) == (
        1,
        "Unsupported",
        "MovePages",
    )
    code, found = plan.placement(manifest(onUnsupported="BestEffort"))
    assert (code, only(found)["reason"]) == (0, "PlacedBestEffort")
    code, found = plan.placement(manifest(onUnsupported="Observe"))
    assert (code, only(found)["reason"]) == (1, "Observed")
    path = f"{API}/nodememories/{site.node}"
    assert site.api.call("PATCH", path, {"spec": {"agent": "Retired"}}).ok
    code, found = plan.placement(manifest())
    assert (code, only(found)["reason"]) == (1, "AgentNotReporting")
    assert "is retired" in only(found)["message"]


@pytest.mark.parametrize(
    ("can", "asked", "reason"),
    [
        (["Measures", "Moves", "Policies"], "Fail", "Placed"),
        (["Measures", "Moves"], "BestEffort", "PlacedBestEffort"),
        (["Measures"], "BestEffort", "Observed"),
        (["Measures"], "Fail", "Unsupported"),
    ],
)
def test_capabilities(plan: Planner, site: Site, can: list[str], asked: str, reason: str) -> None:
    site.run_pod("redis-0")
    conditions = [] if "Policies" in can else [NO_CALL]
    site.node_report(conditions=conditions, backend={"name": "None", "capabilities": can})
    _, found = plan.placement(manifest(onUnsupported=asked))
    assert only(found)["reason"] == reason


def test_a_tier_that_is_nowhere_is_said_though_no_pod_runs(plan: Planner, site: Site) -> None:
    site.node_report()
    code, found = plan.placement(manifest(tier="cxxl"))
    assert (code, found["reason"]) == (1, "TierUnknown")
    assert "rule heap: no node has a tier cxxl and no MemoryTier is called that" in found["message"]


def test_a_tier_of_the_same_file_counts(plan: Planner, site: Site) -> None:
    site.run_pod("redis-0")
    site.node_report()
    ran = plan(memory_tier("far", 2, 9), manifest(tier="far"), options=("-o", "json"))
    assert ran.code == 0, ran.out
    (tier,) = ran.json()["tiers"]
    (node,) = [each for each in tier["nodes"] if each["name"] == site.node]
    assert (node["before"], node["after"]) == ([], [2])
    assert "it has no memory on NUMA nodes 9" in node["message"]
    (placement,) = ran.json()["placements"]
    assert only(placement)["reason"] == "Placed"
    (at,) = placement["nodes"]
    assert (at["room"]["tiers"], at["room"]["capacityBytes"]) == (["far"], GIB)


def test_a_tier_takes_from_another_and_leaves_cpus_aside(plan: Planner, site: Site) -> None:
    site.node_report()
    ran = plan(memory_tier("far", 0, 1))
    assert f"{site.node} - 1 NUMA node 1 is of cxl now; NUMA node 0 is not taken: it has CPUs" in (
        ran.flat
    )
    named = plan(memory_tier("far", 0, nodeNames=[site.node, "not-there"]))
    assert f"{site.node} - 0 NUMA node 0 is of dram now" in named.flat
    assert "no agent reports from not-there, which its nodeNames name" in named.flat
    assert plan(memory_tier("other", 1)).code == 2


def measured(site: Site, *, elsewhere: int, name: str = "values", **spec: Any) -> None:
    """Have a placement with a pod whose memory is measured, some of it on dram."""
    placement = site.place(name, **spec)
    report = result(placement, site.run_pod("redis-0"), state="Moving")
    rule = report["pods"][0]["containers"][0]["rules"][0]
    rule["numaNodes"] = [{"id": 0, "bytes": elsewhere}, {"id": 1, "bytes": GIB}]
    rule["bytes"] = elsewhere + GIB
    site.node_report(report)


def test_bytes_that_would_move_are_told_where_they_can_be(plan: Planner, site: Site) -> None:
    measured(site, elsewhere=2 * GIB)
    ran = plan(manifest())
    assert ran.code == 0, ran.out
    assert "cxl 1.0 GiB 2.0 GiB would move" in ran.flat
    assert f"{site.node} ProcessMbind cxl 16.0 GiB 1.0 GiB 2.0 GiB -" in ran.flat
    assert "only the agents can tell" not in ran.flat
    # Other regions, and nobody knows.
    other = {
        "name": "heap",
        "regions": [{"type": "Stack"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    code, found = plan.placement(manifest(rules=[other]))
    assert (code, only(found)["wouldMoveBytes"], only(found)["measured"]) == (0, None, True)
    assert any("only the agents can tell" in note for note in found["notes"])
    # Another tier: what is on cxl moves now, too.
    _, found = plan.placement(manifest(tier="dram"))
    assert only(found)["wouldMoveBytes"] == GIB


def test_what_does_not_fit(plan: Planner, site: Site) -> None:
    measured(site, elsewhere=20 * GIB)
    ran = plan(manifest())
    assert ran.code == 1
    assert "TierFull" in ran.flat
    assert "20.0 GiB would move, and only 15.0 GiB of cxl there is not held by placements" in (
        ran.flat
    )
    assert "-> Free memory on the tier" in ran.flat


def test_a_limit_is_a_bound(plan: Planner, site: Site) -> None:
    site.node_report()
    path = f"/api/v1/namespaces/{site.namespace}/pods"
    limits = {"limits": {"memory": "20Gi"}}
    spec = {
        "containers": [{"name": "redis", "image": "redis", "resources": limits}],
        "nodeName": site.node,
    }
    meta = {"name": "redis-0", "labels": {"app": "redis"}}
    site.pod_status("redis-0", site._create(path, {"metadata": meta, "spec": spec}))
    ran = plan(manifest())
    assert ran.code == 0, ran.out
    assert "Placed limit 20.0 GiB" in ran.flat
    assert "may not fit: the containers may use 20.0 GiB, and only 16.0 GiB of cxl" in ran.flat


def test_pods_that_do_not_run(plan: Planner, site: Site) -> None:
    site.node_report()
    pod = site.run_pod("redis-0")
    site.pod_status("redis-0", pod, phase="Pending")
    code, found = plan.placement(manifest())
    assert (code, only(found)["reason"], only(found)["message"]) == (
        0,
        "Pending",
        "it does not run yet",
    )
    path = f"/api/v1/namespaces/{site.namespace}/pods/redis-0/status"
    assert site.api.call("PATCH", path, {"status": {"phase": "Failed"}}).ok
    assert plan.placement(manifest())[1]["pods"] == []


def test_a_container_in_a_machine_of_its_own(plan: Planner, site: Site) -> None:
    measured(site, elsewhere=0, priority=-1)
    path = f"{API}/nodememories/{site.node}"
    placements = site.api.call("GET", path).body["status"]["placements"]
    container = placements[0]["pods"][0]["containers"][0]
    container |= {"state": "Unsupported", "reason": "SandboxedRuntime", "message": "kata"}
    site.node_report(*placements)
    code, found = plan.placement(manifest("other"))
    assert (code, only(found)["reason"]) == (1, "Unsupported")
    assert "SandboxedRuntime: kata" in only(found)["message"]


def test_who_may_read_one_namespace_only(plan: Planner, site: Site) -> None:
    site.run_pod("redis-0")
    site.node_report()
    site.may_read("tenant")
    ran = plan(manifest(), user="tenant")
    assert ran.code == 0, ran.err
    found = plan(manifest(), user="tenant", options=("-o", "json")).json()["placements"][0]
    assert (only(found)["change"], only(found)["reason"], found["nodes"]) == ("Comes", "", [])
    assert "what its node can do is not known" in only(found)["message"]
    assert "the API server's own checks, such as admission: memoryplacements" in ran.flat
    assert "nodes and tiers: nodememories" in ran.flat
    ran = plan(manifest(), user="nobody")
    assert (ran.code, ran.out) == (4, "")


def test_yaml_has_the_same_words(plan: Planner, site: Site) -> None:
    site.run_pod("redis-0")
    site.node_report()
    as_yaml = plan(manifest(), options=("-o", "yaml"))
    as_json = plan(manifest(), options=("-o", "json"))
    assert yaml.safe_load(as_yaml.out) == as_json.json()
    assert as_json.json()["schema"] == 1
