# SPDX-License-Identifier: Apache-2.0
"""Pods and the bytes that their placements' rules hold on each tier, the largest first. Pure.

Pods one by one only agents tell. Who may not read their reports gets the sum of each placement,
which the operator writes.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from memplace.api.v1alpha1 import NodeMemory, Placement, PlacementReport, PodReport, TierBytes

from memplace_cli.facts import ClusterFacts
from memplace_cli.tiers import by_tier, node_sets, sums
from memplace_cli.words import count


class PodTop(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What the rules of a placement hold in a pod, or in all of its pods.

    Attributes:
        namespace: The pod's; of a sum the placement's, empty for one of the cluster.
        pod: Its name; empty for a sum.
        pods: How many they are.
        node: The Kubernetes node.
        placement: Its name; of one of the cluster with ``cluster/`` before it.
        bytes: All of it.
        misplaced_bytes: Those that the rules want on another tier.
        tiers: Where it is.
    """

    namespace: str
    pod: str
    node: str
    placement: str
    pods: int = 1
    bytes: int = 0
    misplaced_bytes: int = 0
    tiers: tuple[TierBytes, ...] = ()

    @property
    def label(self) -> str:
        """What to call it, for people."""
        if self.pod:
            return f"{self.namespace}/{self.pod}"
        return f"{self.namespace or '(cluster)'}: {count(self.pods, 'pod')}"


class Top(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """All pods that have a placement."""

    schema: int = 1
    pods: tuple[PodTop, ...] = ()
    left_out: tuple[str, ...] = ()


def top(facts: ClusterFacts, namespace: str = "") -> Top:
    """Return the pods of a namespace, or of all where it is empty, the largest first.

    Where nodes could not be read it is placements.
    """
    if facts.nodes is None:
        found = [_sum(each) for each in facts.placements or () if each.status.matched_pods]
    else:
        found = [pod for node in facts.nodes for pod in _pods(node, namespace)]
    found.sort(key=lambda each: (-each.bytes, each.namespace, each.pod, each.placement))
    return Top(pods=tuple(found), left_out=facts.left_out)


def _sum(placement: Placement) -> PodTop:
    rules = placement.status.rules
    return PodTop(
        namespace=placement.namespace,
        pod="",
        node="",
        placement=placement.handle,
        pods=placement.status.matched_pods,
        bytes=sum(rule.bytes for rule in rules),
        misplaced_bytes=sum(rule.misplaced_bytes for rule in rules),
        tiers=sums(tier for rule in rules for tier in rule.tiers),
    )


def _pods(node: NodeMemory, namespace: str) -> Iterator[PodTop]:
    for report in node.status.placements:
        for pod in report.pods:
            if namespace in ("", _namespace(report, pod)):
                yield _pod(node, report, pod)


def _namespace(report: PlacementReport, pod: PodReport) -> str:
    return pod.namespace or report.namespace


def _pod(node: NodeMemory, report: PlacementReport, pod: PodReport) -> PodTop:
    rules = [rule for container in pod.containers for rule in container.rules]
    return PodTop(
        namespace=_namespace(report, pod),
        pod=pod.name,
        node=node.name,
        placement=report.name if report.namespace else f"cluster/{report.name}",
        bytes=sum(rule.bytes for rule in rules),
        misplaced_bytes=sum(rule.misplaced_bytes for rule in rules),
        tiers=by_tier(rules, node_sets(node)),
    )
