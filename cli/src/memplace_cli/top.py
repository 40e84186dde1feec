# SPDX-License-Identifier: Apache-2.0
"""Pods and the bytes that their placements' rules hold on each tier, the largest first. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from memplace.api.v1alpha1 import NodeMemory, PlacementReport, PodReport, TierBytes

from memplace_cli.facts import ClusterFacts
from memplace_cli.tiers import by_tier, node_sets

__all__ = ["PodTop", "Top", "top"]


class PodTop(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What the rules of a placement hold in a pod.

    Attributes:
        namespace: The pod's.
        pod: Its name.
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
    bytes: int = 0
    misplaced_bytes: int = 0
    tiers: tuple[TierBytes, ...] = ()


class Top(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """All pods that have a placement."""

    schema: int = 1
    pods: tuple[PodTop, ...] = ()
    left_out: tuple[str, ...] = ()


def top(facts: ClusterFacts, namespace: str = "") -> Top:
    """Return the pods of a namespace, or of all where it is empty, the largest first."""
    found = [pod for node in facts.nodes or () for pod in _pods(node, namespace)]
    found.sort(key=lambda each: (-each.bytes, each.namespace, each.pod, each.placement))
    return Top(pods=tuple(found), left_out=facts.left_out)


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
