# SPDX-License-Identifier: Apache-2.0
"""What doctor finds in clusters that are well and that are not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from memplace_cli import beats

from tests.cli.site import SYSTEM, Memplace, Ran, Site
from tests.support.cluster import result
from tests.support.repeating import repeating

pytestmark = pytest.mark.timeout(60)

HOUR = 3600.0


def well(site: Site) -> Any:
    """Have an operator, one agent, and a placement that is placed."""
    site.lead()
    site.agent_pods("memplace-agent-0", desired=1)
    placement = site.place("well")
    site.judged(placement, ("Ready", "True", "Placed", "all are placed"))
    site.node_report(result(placement, site.run_pod("redis-0")))
    site.renew()
    return placement


def check(ran: Ran, what: str) -> dict[str, Any]:
    """Return the check of that name that came out worst."""
    order = ["FAIL", "warn", "skip", "ok"]
    found = [each for each in ran.json()["checks"] if each["what"] == what]
    return min(found, key=lambda each: order.index(each["mark"]))


def test_a_cluster_that_is_well(site: Site, memplace: Memplace) -> None:
    well(site)
    ran = memplace("doctor")
    assert ran.code == 0, ran.out
    assert [line.split()[0] for line in ran.out.splitlines()[1:-2]] == ["ok"] * 6
    assert "all of memplace.dev/v1alpha1, with this version's fields" in ran.out
    assert "operator-0 holds its Lease and renews it" in ran.out
    assert ran.out.endswith("all is well\n")
    assert ran.err == ""


def test_no_operator(site: Site, memplace: Memplace) -> None:
    well(site)
    site.lead(holder="")
    ran = memplace("doctor", "-o", "json")
    assert ran.code == 1
    found = check(ran, "operator")
    assert found["mark"] == "FAIL"
    assert f"nobody holds the Lease memplace-operator in namespace {SYSTEM}" in found["detail"]
    assert "--system-namespace" in found["advice"]


def test_an_operator_and_an_agent_that_are_silent(
    site: Site, memplace: Memplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    well(site)
    site.renew(age_s=HOUR)
    site.report(age_s=HOUR)
    site.lead(age_s=HOUR)
    monkeypatch.setattr(beats, "DOUBT_S", 1.0)
    ran = memplace("doctor", "--wait", "1", "-o", "json")
    assert ran.code == 1
    assert "listening for agents and operator, for at most 1 s" in ran.err
    heartbeats, operator = check(ran, "heartbeats"), check(ran, "operator")
    assert (heartbeats["mark"], operator["mark"]) == ("FAIL", "FAIL")
    assert heartbeats["detail"] == f"no heartbeat from the agents of: {site.node}"
    assert "did not renew it" in operator["detail"]


def test_clocks_that_are_wrong_are_heard_to_go_on(site: Site, memplace: Memplace) -> None:
    well(site)
    site.report(age_s=HOUR)

    def beat() -> None:
        site.renew(age_s=HOUR)
        site.lead(age_s=HOUR)

    with repeating(beat, every_s=0.5):
        ran = memplace("doctor")
    assert ran.code == 0, ran.out
    assert "all 1 agent live" in ran.out


def test_who_listens_too_short_is_told_so(site: Site, memplace: Memplace) -> None:
    well(site)
    site.report(age_s=HOUR)
    site.renew(age_s=HOUR)
    ran = memplace("doctor", "--wait", "0", "-o", "json")
    assert ran.code == 0
    assert check(ran, "heartbeats")["mark"] == "warn"
    assert "too short to be sure" in check(ran, "heartbeats")["detail"]


def test_agents_that_are_not_ready(site: Site, memplace: Memplace) -> None:
    site.lead()
    site.agent_pods("memplace-agent-0", desired=2, ready=False)
    ran = memplace("doctor", "-o", "json")
    assert ran.code == 1
    detail = f"0 of 2 agents ready; not ready: memplace-agent-0 on {site.node}"
    assert check(ran, "agents")["detail"] == detail
    assert check(ran, "heartbeats")["detail"] == "no agent ever reported"


def test_an_agent_that_runs_and_never_reported(site: Site, memplace: Memplace) -> None:
    site.lead()
    site.agent_pods("memplace-agent-0", desired=1)
    ran = memplace("doctor", "-o", "json")
    detail = f"agents that run and never reported, on: {site.node}"
    assert (ran.code, check(ran, "reports")["detail"]) == (1, detail)


def test_no_agents_at_all(site: Site, memplace: Memplace) -> None:
    ran = memplace("doctor", "-o", "json")
    assert ran.code == 1
    assert f"namespace {SYSTEM} has no DaemonSet of the agent" in check(ran, "agents")["detail"]


def test_a_node_without_the_call_is_a_warning(site: Site, memplace: Memplace) -> None:
    well(site)
    condition = {
        "type": "Supported",
        "status": "False",
        "reason": "KernelWithoutProcessMbind",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    site.node_report(conditions=[condition])
    ran = memplace("doctor", "-o", "json")
    assert ran.code == 0
    found = check(ran, "backends")
    assert (found["mark"], site.node in found["detail"]) == ("warn", True)
    assert "Boot a kernel built from kernel/" in found["advice"]


def test_agents_that_are_retired_or_of_several_versions_are_warnings(
    site: Site, memplace: Memplace
) -> None:
    well(site)
    incomplete = {
        "type": "Complete",
        "status": "False",
        "reason": "ReportTooLarge",
        "message": "3 pods are left out",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    site.node_report(conditions=[incomplete], agentVersion="9")
    other = f"{site.node}-other"
    site.report(node=other)
    path = f"/apis/memplace.dev/v1alpha1/nodememories/{other}"
    assert site.api.call("PATCH", path, {"spec": {"agent": "Retired"}}).ok
    ran = memplace("doctor", "-o", "json")
    assert ran.code == 0, ran.out
    assert check(ran, "versions")["detail"] == "agents of several versions: 0, 9"
    assert check(ran, "retired")["detail"] == f"agents that place nothing any more: {other}"
    assert check(ran, "reports")["detail"] == f"{site.node}: 3 pods are left out"
    marks = {each["mark"] for each in ran.json()["checks"]}
    assert marks == {"ok", "warn"}


def test_a_placement_in_trouble(site: Site, memplace: Memplace) -> None:
    placement = well(site)
    site.judged(placement, ("Degraded", "True", "TierFull", "12Mi free"))
    ran = memplace("doctor", "-o", "json")
    assert ran.code == 1
    found = check(ran, "placements")
    assert found["detail"] == f"placement {site.namespace}/well: TierFull: 12Mi free"


def test_crds_of_another_version(site: Site, memplace: Memplace) -> None:
    crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/nodememories.memplace.dev"
    version = site.api.call("GET", crd).body["spec"]["versions"][0]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    backend = status.pop("backend")
    assert site.api.call("PATCH", crd, {"spec": {"versions": [version]}}).ok
    try:
        ran = memplace("doctor", "-o", "json")
        assert ran.code == 1
        detail = "they lack fields of this version: nodememories: status.backend"
        assert check(ran, "CRDs")["detail"] == detail
    finally:
        status["backend"] = backend
        assert site.api.call("PATCH", crd, {"spec": {"versions": [version]}}).ok


def test_who_may_read_little_is_told_what_was_not_checked(site: Site, memplace: Memplace) -> None:
    well(site)
    ran = memplace("doctor", user="nobody")
    assert ran.code == 0
    assert ran.out.endswith("nothing wrong in what could be checked\n")
    for what in ("placements", "CRDs", "heartbeats", "operator's Lease", "DaemonSet", "pods"):
        assert re.search(rf"skip +not checked +.*{what}", ran.out), what
