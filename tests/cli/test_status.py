# SPDX-License-Identifier: Apache-2.0
"""The screen of status and the table of tiers, for an admin and for a tenant."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cli.site import GIB, Memplace, Ran, Site
from tests.support.cluster import result

pytestmark = pytest.mark.timeout(60)

FULL = ("True", "TierFull", "12Mi free on NUMA nodes 1")
MARKS = ("nodes and tiers: ", "placements of other namespaces")


def filled(site: Site) -> None:
    """Have a node with a report, a placement that is placed and one that is in trouble."""
    well = site.place("well")
    site.judged(well, ("Ready", "True", "Placed", "all are placed"))
    full = site.place("z-full", selector={"matchLabels": {"app": "web"}})
    site.judged(full, ("Ready", "False", "TierFull", "m"), ("Degraded", *FULL))
    site.node_report(result(well, site.run_pod("redis-0")))


def fits(ran: Ran) -> bool:
    return all(len(line) <= 120 and line == line.rstrip() for line in ran.out.splitlines())


def test_status_is_one_screen(site: Site, memplace: Memplace) -> None:
    filled(site)
    ran = memplace("status")
    assert ran.code == 0, ran.err
    assert f"{site.node} ProcessMbind cxl 16.0 GiB - dram 8.0 GiB" in ran.flat
    assert f"{site.namespace} well True Placed 1/2 cxl 1.0 GiB" in ran.flat
    assert f"{site.namespace} z-full False TierFull 1/2" in ran.flat
    assert (
        f"needs attention placement {site.namespace}/z-full: TierFull The tier has no room for the "
        "pages that remain elsewhere. 12Mi free on NUMA nodes 1 -> Free memory on the tier"
    ) in ran.flat
    assert "left out" not in ran.out
    assert fits(ran)


def test_status_of_one_namespace(site: Site, memplace: Memplace) -> None:
    filled(site)
    assert "no placements" in memplace("status", "-n", "kube-public").flat
    assert "well" in memplace("status", "-n", site.namespace).flat


def test_a_node_says_why_it_has_no_better_backend(site: Site, memplace: Memplace) -> None:
    why = "the kernel announces no process_mbind(): boot one from kernel/"
    backend = {"name": "MovePages", "reason": "KernelWithoutProcessMbind", "message": why}
    site.node_report(backend=backend)
    ran = memplace("status")
    assert f"{site.node} MovePages cxl 16.0 GiB KernelWithoutProcessMbind: {why[:20]}" in ran.flat
    assert "nothing needs attention" in ran.out


def test_a_node_whose_agent_lacks_a_right_needs_attention(site: Site, memplace: Memplace) -> None:
    backend = {"name": "None", "reason": "MissingCapability", "message": "no CAP_SYS_NICE"}
    site.node_report(backend=backend)
    said = memplace("status").flat
    assert f"{site.node} None" in said
    assert f"needs attention node {site.node}: MissingCapability The agent lacks SYS_NICE" in said
    assert "no CAP_SYS_NICE -> Give the agent's container the capabilities" in said


def test_a_node_that_is_retired_needs_attention(site: Site, memplace: Memplace) -> None:
    site.node_report()
    path = f"/apis/memplace.dev/v1alpha1/nodememories/{site.node}"
    assert site.api.call("PATCH", path, {"spec": {"agent": "Retired"}}).ok
    said = memplace("status").flat
    assert f"node {site.node}: Retired" in said
    assert "its agent is told to retire and places nothing -> Set spec.agent" in said


def test_what_the_operator_has_not_judged_needs_attention(site: Site, memplace: Memplace) -> None:
    site.place("new")
    ran = memplace("status", "-n", site.namespace)
    assert f"{site.namespace} new Unknown Pending 0/0 -" in ran.flat
    assert "the operator has not judged generation 1 of it yet" in ran.flat


def test_who_reads_one_namespace_only_is_told_what_is_left_out(
    site: Site, memplace: Memplace
) -> None:
    filled(site)
    site.may_read("tenant")
    ran = memplace("status", "-n", site.namespace, user="tenant")
    assert ran.code == 0, ran.err
    assert "z-full False TierFull" in ran.flat
    assert site.node not in ran.out
    assert MARKS[0] in ran.out
    assert MARKS[1] not in ran.out
    assert 'User "tenant" cannot list resource "nodememories"' in ran.flat


def test_who_reads_one_namespace_only_need_not_name_it(
    site: Site, memplace: Memplace, tmp_path: Path
) -> None:
    filled(site)
    site.may_read("tenant")
    config = yaml.safe_load(site.api.kubeconfig("tenant").read_text())
    config["contexts"][0]["context"]["namespace"] = site.namespace
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    ran = memplace("status", kubeconfig=path)
    assert ran.code == 0, ran.err
    assert "z-full False TierFull" in ran.flat
    assert all(mark in ran.out for mark in MARKS)


def test_who_may_read_nothing_is_told_so(site: Site, memplace: Memplace) -> None:
    ran = memplace("status", "-n", site.namespace, user="nobody")
    assert (ran.code, ran.out) == (4, "")
    assert 'User "nobody" cannot list resource "memoryplacements"' in ran.err
    assert "ClusterRole memplace-view" in ran.err
    assert memplace("tiers", user="nobody").code == 4


def test_yaml_and_json_have_the_same(site: Site, memplace: Memplace) -> None:
    filled(site)
    found = memplace("status", "-o", "json").json()
    assert yaml.safe_load(memplace("status", "-o", "yaml").out) == found
    assert [each["reason"] for each in found["attention"]] == ["TierFull"]
    assert found["nodes"][0]["tiers"][0]["capacityBytes"] == 16 * GIB


def test_tiers(site: Site, memplace: Memplace) -> None:
    filled(site)
    ran = memplace("tiers")
    assert ran.code == 0, ran.err
    assert f"{site.node} cxl 1 16.0 GiB 64.0 MiB its memory is that of a CXL region" in ran.flat
    assert f"{site.node} dram 0 8.0 GiB - it has CPUs" in ran.flat
    assert f"{site.node} (none) 2 1.0 GiB 1.0 MiB" in ran.flat
    assert fits(ran)


def test_an_object_of_another_version_is_told_of(site: Site, memplace: Memplace) -> None:
    # A newer CRD accepts what this version's parser does not know.
    filled(site)
    crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/memoryplacements.memplace.dev"
    version = site.api.call("GET", crd).body["spec"]["versions"][0]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    spec["novelty"] = {"type": "boolean"}
    assert site.api.call("PATCH", crd, {"spec": {"versions": [version]}}).ok
    try:
        site.place_until_kept("novel", novelty=True)
        ran = memplace("status")
        assert ran.code == 0, ran.err
        assert f"{site.namespace}/novel: NotUnderstood" in ran.flat
        assert "spec.novelty: unknown field" in ran.flat
        assert f"{site.namespace} well True Placed" in ran.flat
    finally:
        del spec["novelty"]
        assert site.api.call("PATCH", crd, {"spec": {"versions": [version]}}).ok
