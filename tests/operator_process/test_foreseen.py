# SPDX-License-Identifier: Apache-2.0
"""What a dry run foresees, as the operator shows it: by a real API server; agents are played."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cluster import Cluster, eventually, result

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timeout(180)]

RULE = {
    "name": "heap",
    "regions": [{"type": "Heap"}],
    "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
}


def tried(
    placement: dict[str, Any], pod: dict[str, Any], *, reason: str = "DryRun", **bytes_: int
) -> dict[str, Any]:
    """Return what an agent reports of a dry run."""
    report = result(placement, pod, state="DryRun", reason=reason)
    report["pods"][0]["containers"][0]["rules"][0] |= bytes_
    return report


def test_a_limit_of_the_namespace_that_would_be_in_the_way(cluster: Cluster) -> None:
    placement = cluster.apply_rules("mp", [RULE], mode="DryRun")
    pod = cluster.run_pod("redis-0")
    cluster.report(tried(placement, pod, misplacedBytes=64 << 20))
    # Before the report it is a dry run of which nothing is measured.
    eventually(lambda: "64.0 MiB of 65.0 MiB in 1 pod would move" in cluster.condition("mp")[2])
    assert cluster.condition("mp")[:2] == ("False", "DryRun")
    refused = {"misplacedBytes": 64 << 20, "withheldBytes": 64 << 20}
    cluster.report(tried(placement, pod, reason="NamespaceLimit", **refused))
    says = "64.0 MiB in 1 pod would stay where it is, refused for a limit of the namespace"
    eventually(lambda: says in cluster.condition("mp")[2])
    assert cluster.condition("mp")[:2] == ("False", "DryRun")
    assert "none of 65.0 MiB in 1 pod would move" in cluster.condition("mp")[2]
    assert cluster.condition("mp", "Degraded")[:2] == ("False", "AsExpected")


def test_what_a_dry_run_would_take_and_what_it_would_not(cluster: Cluster) -> None:
    acts = cluster.apply("acts")
    pod = cluster.run_pod("redis-0")
    cluster.report(result(acts, pod))
    cluster.wait("acts", "Ready", "True", "Placed")
    dry = cluster.apply_rules("dry", [RULE], mode="DryRun", priority=9)
    cluster.wait("dry", "Ready", "False", "Pending")
    cluster.report(result(acts, pod), tried(dry, pod, misplacedBytes=1 << 20))
    eventually(lambda: "1.0 MiB of 65.0 MiB in 1 pod would move" in cluster.condition("dry")[2])
    message = cluster.wait("dry", "Ready", "False", "DryRun")
    assert "it would take containers of 1 pod from placement" in message
    assert f"{cluster.namespace}/acts" in message
    assert cluster.condition("dry", "Degraded")[:2] == ("False", "AsExpected")
    assert cluster.condition("acts")[:2] == ("True", "Placed")
    # A higher priority of the one that acts is heard of without a word of the agent.
    change = {"spec": {"priority": 10}}
    assert cluster.api.call("PATCH", cluster.placement_path("acts"), change).ok
    message = cluster.wait("dry", "Degraded", "True", "Conflict")
    assert "would have it with mode Enforce, too: it has priority 10, this one 9" in message
