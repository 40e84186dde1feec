# SPDX-License-Identifier: Apache-2.0
"""What explain prints of a pod that is placed, and in each situation in which one is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from memplace_cli import beats

from tests.cli.site import Memplace, Site
from tests.support.cluster import result

pytestmark = pytest.mark.timeout(60)

HOUR = 3600.0
NO_CALL = {
    "type": "Supported",
    "status": "False",
    "reason": "KernelWithoutProcessMbind",
    "message": "the kernel announces no process_mbind()",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def told(site: Site, memplace: Memplace, *more: str) -> str:
    """Explain the pod redis-0 and return what was printed, as one line."""
    ran = memplace("explain", "redis-0", "-n", site.namespace, *more)
    assert ran.code == 0, ran.err
    lines = [line for line in ran.out.splitlines() if "kubectl -n" not in line]
    assert all(len(line) <= 120 for line in lines)
    return ran.flat


def reported(
    site: Site, state: str = "Failed", *, rule: dict[str, Any] | None = None, **why: Any
) -> Any:
    """Have one placement, one pod of it, and an agent that says how it fares."""
    placement = site.place("values")
    pod = site.run_pod("redis-0")
    report = result(placement, pod, state=state, **why)
    report["pods"][0]["containers"][0]["rules"][0] |= rule or {}
    site.node_report(report)
    site.renew()
    return placement


def test_a_pod_that_is_placed(site: Site, memplace: Memplace) -> None:
    reported(site, "Placed")
    said = told(site, memplace)
    assert f"on node {site.node}, backend ProcessMbind, agent Alive" in said
    assert "follows placement values Placed: All memory was measured" in said
    assert "heap PreferredMany on cxl 2 65.0 MiB - 0 cxl 64.0 MiB, other 1.0 MiB" in said
    assert "->" not in said


def test_a_picture_of_it(site: Site, memplace: Memplace, tmp_path: Path) -> None:
    reported(site, "Placed")
    file = tmp_path / "it.svg"
    said = told(site, memplace, "--svg", str(file))
    assert re.search(r"where it is, by container and rule: redis C{58,59}O{1,2} 65.0 MiB", said)
    assert "heap CCC" in said and "bars: CCC cxl OOO other" in said
    assert ElementTree.fromstring(file.read_text()).attrib["role"] == "img"
    only = memplace("explain", "redis-0", "-n", site.namespace, "--svg", "-")
    assert only.out == file.read_text()
    bad = memplace("explain", "redis-0", "-n", site.namespace, "--svg", str(tmp_path))
    assert (bad.code, bad.out) == (1, "")
    assert "can't be written: Is a directory" in bad.err


def test_the_agent_is_the_one_to_ask_for_regions(site: Site, memplace: Memplace) -> None:
    reported(site, "Placed")
    asks = f"memplace-agent explain {site.namespace}/redis-0"
    assert f"exec AGENT-POD -c agent -- {asks}" in told(site, memplace)
    site.agent_pods("memplace-agent-0", desired=1)
    assert f"kubectl -n default exec memplace-agent-0 -c agent -- {asks}" in told(site, memplace)


def test_1_no_placement_selects_it(site: Site, memplace: Memplace) -> None:
    site.place("web", selector={"matchLabels": {"app": "web"}})
    site.place("sidecar", containers=["envoy"])
    site.run_pod("redis-0")
    said = told(site, memplace)
    assert "container redis follows no placement" in said
    assert "web: it wants the label app=web, the pod has app=redis" in said
    assert "sidecar: its spec.containers names envoy only" in said
    assert "-> Compare spec.selector with the pods' labels" in said


def test_1_there_is_no_placement_at_all(site: Site, memplace: Memplace) -> None:
    site.run_pod("redis-0")
    assert f"namespace {site.namespace} has no MemoryPlacement" in told(site, memplace)


def test_2_two_placements_select_it(site: Site, memplace: Memplace) -> None:
    placement = reported(site, "Placed")
    other = site.place("z-later")
    assert placement["metadata"]["creationTimestamp"] <= other["metadata"]["creationTimestamp"]
    said = told(site, memplace)
    assert "follows placement values" in said
    # They may be of one second.
    why = "is (older|as old, comes first by name)"
    assert re.search(rf"z-later: selects it, too, but values {why} and has precedence", said)


def test_3_its_node_has_no_agent(site: Site, memplace: Memplace) -> None:
    site.place("values")
    site.run_pod("redis-0")
    said = told(site, memplace)
    assert "agent NeverReported" in said
    assert "AgentNotReporting: The agent of the pod's node is silent" in said
    assert f"no agent ever reported from node {site.node}: check that the agent's DaemonSet" in said


def test_4_the_agent_is_silent(
    site: Site, memplace: Memplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported(site, "Placed")
    site.report(*site.api.call("GET", report_path(site)).body["status"]["placements"], age_s=HOUR)
    site.renew(age_s=HOUR)
    monkeypatch.setattr(beats, "DOUBT_S", 1.0)
    said = told(site, memplace, "--wait", "1")
    assert "agent Silent" in said
    assert f"the agent of node {site.node} is silent; what it reported last is below" in said
    assert "note: last reported: Placed" in said
    assert "65.0 MiB" in said


def test_4_an_agent_whose_clock_is_wrong_is_not_silent(site: Site, memplace: Memplace) -> None:
    reported(site, "Placed")
    site.renew(age_s=HOUR)
    site.report(*site.api.call("GET", report_path(site)).body["status"]["placements"], age_s=HOUR)
    said = told(site, memplace, "--wait", "0")
    # Nobody waited to see: neither alive nor dead.
    assert "agent Unknown" in said
    assert "Placed: All memory was measured" in said
    assert "lives can't be told from here" in said


def report_path(site: Site) -> str:
    return f"/apis/memplace.dev/v1alpha1/nodememories/{site.node}"


def test_5_its_node_lacks_the_tier(site: Site, memplace: Memplace) -> None:
    reported(site, reason="TierNotOnNode", message="rule heap: no node of tier cxl here")
    site.node_report(
        *site.api.call("GET", report_path(site)).body["status"]["placements"],
        tiers=[{"name": "dram", "numaNodes": [0]}],
    )
    said = told(site, memplace)
    assert "TierNotOnNode: The node of the pod has no memory of the tiers" in said
    assert f"rule heap names cxl, which node {site.node} does not have (it has dram)" in said
    assert "-> Schedule the pod to a node that has the tier" in said


def test_6_its_node_has_no_process_mbind(site: Site, memplace: Memplace) -> None:
    site.place("values")
    site.run_pod("redis-0")
    site.node_report(conditions=[NO_CALL], backend={"name": "MovePages"})
    site.renew()
    said = told(site, memplace)
    assert "backend MovePages" in said
    assert "Unsupported: The node of the pod cannot place memory" in said
    assert "(KernelWithoutProcessMbind): the kernel announces no process_mbind()" in said
    assert "onUnsupported: BestEffort or Observe" in said


def test_6_and_the_placement_asks_for_best_effort(site: Site, memplace: Memplace) -> None:
    placement = site.place("values", onUnsupported="BestEffort")
    report = result(placement, site.run_pod("redis-0"), state="PlacedBestEffort")
    site.node_report(report, conditions=[NO_CALL], backend={"name": "MovePages"})
    site.renew()
    said = told(site, memplace)
    assert "PlacedBestEffort: The pages were moved and measured" in said
    assert "-> Boot the node with a kernel that has process_mbind()" in said


def test_7_the_tier_is_full(site: Site, memplace: Memplace) -> None:
    message = "rule heap: NUMA nodes 1 have 12Mi free, 64Mi did not fit"
    reported(site, reason="TierFull", message=message, rule={"misplacedBytes": 64 << 20})
    said = told(site, memplace)
    assert f"TierFull: The tier has no room for the pages that remain elsewhere. {message}" in said
    assert "-> Free memory on the tier, move a pod away, or name a further tier" in said
    assert "65.0 MiB 64.0 MiB 0" in said


def test_8_its_container_does_not_run_yet(site: Site, memplace: Memplace) -> None:
    site.place("values")
    pod = site.run_pod("redis-0")
    site.pod_status("redis-0", pod, phase="Pending")
    site.api.call(
        "PATCH",
        f"/api/v1/namespaces/{site.namespace}/pods/redis-0/status",
        {"status": {"containerStatuses": [not_running("ImagePullBackOff", "no such image")]}},
    )
    said = told(site, memplace)
    assert "follows placement values Pending" in said
    assert "the container does not run: ImagePullBackOff: no such image" in said


def not_running(reason: str, message: str) -> dict[str, Any]:
    return {
        "name": "redis",
        "image": "redis",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }


def test_9_the_program_has_set_the_policy_itself(site: Site, memplace: Memplace) -> None:
    reported(site, "Placed", rule={"ownRegions": 3})
    said = told(site, memplace)
    assert "rule heap leaves 3 regions alone, whose policy the program has set itself" in said
    assert "override: true would take them" in said


def test_10_others_map_its_memory(site: Site, memplace: Memplace) -> None:
    reported(site, reason="SharedWithOthers", message="memfd:ring is mapped by pod other/web-0")
    said = told(site, memplace)
    assert "SharedWithOthers: Others also map shared memory that a rule selects" in said
    assert "memfd:ring is mapped by pod other/web-0" in said
    assert "or leave it out of the rule (exclude); see docs/regions.md" in said


def test_a_node_whose_agent_is_retired(site: Site, memplace: Memplace) -> None:
    reported(site, "Placed")
    path = f"/apis/memplace.dev/v1alpha1/nodememories/{site.node}"
    assert site.api.call("PATCH", path, {"spec": {"agent": "Retired"}}).ok
    said = told(site, memplace)
    assert "agent Retired" in said
    assert "AgentNotReporting: The agent of the pod's node is silent, retired" in said
    assert f"the agent of node {site.node} is retired" in said


def test_an_agent_that_does_not_understand_the_placement(site: Site, memplace: Memplace) -> None:
    placement = site.place("values")
    report = result(placement, site.run_pod("redis-0"), generation=7)
    site.node_report(report | {"reason": "NotUnderstood", "message": "spec.novelty is unknown"})
    said = told(site, memplace)
    assert "NotUnderstood: The agent's version does not understand the spec" in said
    assert "spec.novelty is unknown -> Update the agent of that node" in said


def test_trouble_of_the_whole_placement_on_the_node(site: Site, memplace: Memplace) -> None:
    placement = site.place("values")
    report = result(placement, site.run_pod("redis-0"))
    site.node_report(report | {"reason": "Failed", "message": "the journal is full"})
    said = told(site, memplace)
    assert "Failed: An error without a reason of its own" in said
    assert "the journal is full" in said


def test_a_report_that_has_no_room_for_the_placement(site: Site, memplace: Memplace) -> None:
    site.place("values")
    site.run_pod("redis-0")
    site.node_report(truncated={"placements": 1, "pods": 0, "details": 0})
    assert f"the report of node {site.node} has no room for the placement" in told(site, memplace)


def test_a_pod_that_has_ended(site: Site, memplace: Memplace) -> None:
    reported(site, "Placed")
    path = f"/api/v1/namespaces/{site.namespace}/pods/redis-0/status"
    assert site.api.call("PATCH", path, {"status": {"phase": "Succeeded"}}).ok
    assert "the pod has ended, or is being deleted" in told(site, memplace)


def test_a_report_about_an_earlier_life_of_the_container_does_not_count(
    site: Site, memplace: Memplace
) -> None:
    reported(site, "Placed", number=7)
    said = told(site, memplace)
    assert "Pending: The pod or the agent is not ready" in said
    assert f"the agent of node {site.node} has not reported it yet" in said


def test_a_report_about_an_older_spec_does_not_count(site: Site, memplace: Memplace) -> None:
    reported(site, "Placed", generation=7)
    assert "has not looked at generation 1 of the placement yet" in told(site, memplace)


def test_names_of_programs_move_no_cursor(site: Site, memplace: Memplace) -> None:
    reported(site, reason="Failed", message="process \x1b[2Jevil [bold]x[/bold] failed")
    said = told(site, memplace)
    assert "process \\x1b[2Jevil [bold]x[/bold] failed" in said


def test_a_container_of_another_name_is_not_there(site: Site, memplace: Memplace) -> None:
    site.run_pod("redis-0")
    ran = memplace("explain", f"{site.namespace}/redis-0", "-c", "envoy")
    assert (ran.code, ran.out) == (3, "")
    assert "pod redis-0 has no container 'envoy'" in ran.err


def test_a_pod_that_is_not_there(site: Site, memplace: Memplace) -> None:
    ran = memplace("explain", f"{site.namespace}/nothing")
    assert ran.code == 3
    assert 'pods "nothing" not found' in ran.err


def test_who_reads_one_namespace_only_gets_what_the_operator_says(
    site: Site, memplace: Memplace
) -> None:
    placement = reported(site, "Placed")
    site.judged(placement, ("Ready", "False", "TierFull", "redis-1 did not fit"))
    site.may_read("tenant")
    ran = memplace("explain", "redis-0", "-n", site.namespace, user="tenant")
    assert ran.code == 0, ran.err
    assert "TierFull" in ran.flat
    assert "of the whole placement, the operator says: redis-1 did not fit" in ran.flat
    assert f"left out, for want of the right or the object: what the agent of node {site.node}" in (
        ran.flat
    )
    assert 'User "tenant" cannot get resource "nodememories"' in ran.flat


def test_json_has_names_and_numbers(site: Site, memplace: Memplace) -> None:
    reported(site, "Placed")
    found = memplace("explain", "redis-0", "-n", site.namespace, "-o", "json").json()
    container = found["containers"][0]
    assert (found["schema"], found["agent"], container["placement"]) == (1, "Alive", "values")
    assert container["tiers"] == [
        {"name": "cxl", "bytes": 64 << 20},
        {"name": "other", "bytes": 1 << 20},
    ]
