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
        namespace: Of both.
        pod: Its name.
        node: The Kubernetes node.
        placement: Its name.
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
        if namespace in ("", report.namespace):
            yield from (_pod(node, report, pod) for pod in report.pods)


def _pod(node: NodeMemory, report: PlacementReport, pod: PodReport) -> PodTop:
    rules = [rule for container in pod.containers for rule in container.rules]
    return PodTop(
        namespace=report.namespace,
        pod=pod.name,
        node=node.name,
        placement=report.name,
        bytes=sum(rule.bytes for rule in rules),
        misplaced_bytes=sum(rule.misplaced_bytes for rule in rules),
        tiers=by_tier(rules, node_sets(node)),
    )
