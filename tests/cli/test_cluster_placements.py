# SPDX-License-Identifier: Apache-2.0
"""Placements of the cluster, as kubectl memplace shows, explains and pauses them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from memplace_lab.product.operating import DEFAULTS

from tests.cli.site import Memplace, Site
from tests.support.cluster import result

pytestmark = pytest.mark.timeout(60)


def judged(site: Site, placement: dict[str, Any], reason: str = "Placed") -> None:
    """Be the operator."""
    status = {
        "observedGeneration": placement["metadata"]["generation"],
        "matchedPods": 3,
        "placedPods": 2,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": reason,
                "message": "",
                "lastTransitionTime": "2026-11-24T12:00:00Z",
            }
        ],
    }
    path = f"{DEFAULTS}/{placement['metadata']['name']}/status"
    answer = site.api.call("PATCH", path, {"status": status}, fieldValidation="Strict")
    assert answer.ok, answer.message


def reported(placement: dict[str, Any], pod: dict[str, Any]) -> dict[str, Any]:
    """Return what an agent says of a pod under a placement of the cluster."""
    found = result(placement, pod)
    found["pods"][0]["namespace"] = pod["metadata"]["namespace"]
    return found


def test_status_lists_them_with_the_others(site: Site, memplace: Memplace) -> None:
    judged(site, site.apply_default("default-shown"))
    site.place("own")
    ran = memplace("status", "-n", site.namespace)
    assert ran.code == 0, ran.err
    assert "(cluster) default-shown True Placed 2/3" in ran.flat
    shown = memplace("status", "-o", "json").json()["placements"]
    assert ("", "default-shown") in [(each["namespace"], each["name"]) for each in shown]
    assert "cluster placement" not in ran.flat
    site.api.call("PATCH", f"{DEFAULTS}/default-shown", {"spec": {"priority": 1}})
    ran = memplace("status", "-n", site.namespace)
    assert "cluster placement default-shown: Pending" in ran.flat


def test_explain_says_which_one_acts_and_why_not_the_others(site: Site, memplace: Memplace) -> None:
    default = site.apply_default("default-acts")
    site.apply_default("default-elsewhere", namespaceSelector={"matchLabels": {"kind": "gpu"}})
    pod = site.run_pod("redis-0")
    site.node_report(reported(default, pod))
    ran = memplace("explain", "redis-0", "-n", site.namespace, "--wait=0")
    assert "container redis follows placement cluster/default-acts" in ran.flat
    assert "Placed: " in ran.flat
    assert (
        "cluster/default-elsewhere: it wants the label kind=gpu of a namespace, the namespace has "
        "no label kind"
    ) in ran.flat
    own = site.place("own")
    site.node_report(result(own, pod))
    ran = memplace("explain", "redis-0", "-n", site.namespace, "--wait=0")
    assert "container redis follows placement own" in ran.flat
    assert (
        "cluster/default-acts: selects it, too, but own is of the pod's namespace, this one a "
        "default of the cluster, and has precedence"
    ) in ran.flat
    assert "(Conflict)" not in ran.flat
    site.api.call("PATCH", f"{DEFAULTS}/default-acts", {"spec": {"enforced": True}})
    ran = memplace("explain", "redis-0", "-n", site.namespace, "--wait=0")
    assert (
        "own: selects it, too, but cluster/default-acts is enforced, this one is not," in ran.flat
    )
    assert "(Conflict)" in ran.flat


def test_top_has_its_pods(site: Site, memplace: Memplace) -> None:
    default = site.apply_default("default-top")
    site.node_report(reported(default, site.run_pod("redis-0")))
    ran = memplace("top", "-n", site.namespace)
    assert f"{site.namespace}/redis-0 cluster/default-top 65.0 MiB" in ran.flat
    assert memplace("top", "-n", "kube-public").flat.strip() == (
        "no pod has memory under a placement"
    )


def test_who_may_not_read_them_is_told_and_sees_the_rest(site: Site, memplace: Memplace) -> None:
    site.apply_default("default-hidden")
    site.place("own")
    site.run_pod("redis-0")
    site.may_read("tenant")
    ran = memplace("status", "-n", site.namespace, user="tenant")
    assert ran.code == 0, ran.err
    assert 'cannot list resource "clustermemoryplacements"' in ran.flat
    assert f"{site.namespace} own" in ran.flat
    ran = memplace("explain", "redis-0", "-n", site.namespace, "--wait=0", user="tenant")
    assert "follows placement own" in ran.flat
    assert "placements of the cluster: " in ran.flat


def test_one_of_another_version_is_told_of(site: Site, memplace: Memplace) -> None:
    crd = (
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
        "clustermemoryplacements.memplace.dev"
    )
    version = site.api.call("GET", crd).body["spec"]["versions"][0]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    spec["novelty"] = {"type": "boolean"}
    assert site.api.call("PATCH", crd, {"spec": {"versions": [version]}}).ok
    try:
        site.place_default_until_kept("default-novel", novelty=True)
        ran = memplace("status")
        assert "cluster placement default-novel: NotUnderstood" in ran.flat
        shown = json.loads(memplace("status", "-o", "json").out)["placements"]
        assert ("", "default-novel") in [(each["namespace"], each["name"]) for each in shown]
    finally:
        del spec["novelty"]
        assert site.api.call("PATCH", crd, {"spec": {"versions": [version]}}).ok
