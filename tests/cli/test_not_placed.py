# SPDX-License-Identifier: Apache-2.0
"""Why a pod is not placed where its manifest, the scheduler or the node's set-up is the cause.

`test_explain.py` has the first ten situations; these are the next that people come with.
"""

from __future__ import annotations

import pytest

from tests.cli.site import Memplace, Site
from tests.cli.test_explain import reported, told

pytestmark = pytest.mark.timeout(60)


def test_11_the_name_of_the_tier_is_a_typing_error(site: Site, memplace: Memplace) -> None:
    message = "rule heap: no tier is called cxxl; this node has: cxl, dram"
    reported(site, reason="TierUnknown", message=message)
    said = told(site, memplace)
    assert "TierUnknown: A rule names a tier that no node and no MemoryTier has." in said
    assert message in said
    assert "-> Name a tier that exists (kubectl memplace tiers), or create a MemoryTier" in said


def test_12_the_cpuset_of_the_container_excludes_the_tier(site: Site, memplace: Memplace) -> None:
    message = "NUMA nodes 1 of tier cxl are not in the container's cpuset.mems (0)"
    reported(site, reason="NotAllowedByCpuset", message=message)
    said = told(site, memplace)
    assert "NotAllowedByCpuset: The cpuset of the container excludes all NUMA nodes" in said
    assert message in said
    assert "-> Let the container use the tier's NUMA nodes" in said


def test_13_somebody_has_paused_the_placement(site: Site, memplace: Memplace) -> None:
    reported(site, "Paused", message="spec.paused: nothing is changed")
    said = told(site, memplace)
    assert "Paused: The placement is paused: nothing new is done and nothing undone" in said
    assert "-> Set spec.paused to false to continue the work: kubectl memplace resume" in said


def test_14_it_is_a_dry_run(site: Site, memplace: Memplace) -> None:
    reported(site, "DryRun", message="rule heap: 1Mi would move")
    said = told(site, memplace)
    assert "DryRun: The placement is a dry run: nothing is changed; what would" in said
    assert "rule heap: 1Mi would move" in said
    assert "-> Set spec.mode to Enforce to act on the rules" in said


def test_15_the_pod_has_no_node(site: Site, memplace: Memplace) -> None:
    site.place("values")
    site.run_pod("redis-0")
    path = f"/api/v1/namespaces/{site.namespace}/pods"
    containers = [{"name": "redis", "image": "redis"}]
    meta = {"name": "redis-1", "labels": {"app": "redis"}}
    site.api.call("POST", path, {"metadata": meta, "spec": {"containers": containers}})
    site.made(f"{path}/redis-1")
    said = memplace("explain", "redis-1", "-n", site.namespace).flat
    assert "follows placement values Pending: The pod or the agent is not ready" in said
    assert "the pod has no node yet: see kubectl describe pod" in said


def test_16_the_placement_is_in_another_namespace(site: Site, memplace: Memplace) -> None:
    site.place("values")
    site.run_pod("redis-0")
    path = "/api/v1/namespaces/default/pods"
    containers = [{"name": "redis", "image": "redis"}]
    meta = {"name": site.namespace, "labels": {"app": "redis"}}
    site.api.call("POST", path, {"metadata": meta, "spec": {"containers": containers}})
    site.made(f"{path}/{site.namespace}")
    said = memplace("explain", f"default/{site.namespace}").flat
    assert "namespace default has no MemoryPlacement" in said


def test_17_its_runtime_is_a_machine_of_its_own(site: Site, memplace: Memplace) -> None:
    reported(site, "Unsupported", reason="SandboxedRuntime", message="runtimeClassName kata")
    said = told(site, memplace)
    assert "Unsupported: The node of the pod cannot place memory; the pod is left alone." in said
    assert "runtimeClassName kata (SandboxedRuntime)" in said
