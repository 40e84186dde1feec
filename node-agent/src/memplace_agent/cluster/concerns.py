# SPDX-License-Identifier: Apache-2.0
"""Whether a change of one object may change what a container of this node follows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from memplace.api.v1alpha1 import MemoryTier, Placement
from memplace.assignment import assign, selects_pod
from memplace.pods import PodState

from memplace_agent.cluster.kinds import PLACEMENTS, Kind, LabelledNamespace
from memplace_agent.cluster.odd import unsure

# What is known: by kind, then by uid, and of namespaces by name.
Objects = Mapping[Kind, Mapping[str, Any]]


def concerns(before: Any, after: Any, objects: Objects, node_name: str) -> bool:
    """Return whether a change of one object may change what a container of this node follows."""
    match after if after is not None else before:
        case Placement():
            pods = objects[Kind.POD].values()
            both = [each for each in (before, after) if each is not None]
            return any(_may_select(each, pod, objects) for each in both for pod in pods)
        case PodState():
            placements = _placements_here(objects)
            then, now = (pod and with_namespace(pod, objects) for pod in (before, after))
            return _follows(then, placements) != _follows(now, placements)
        case LabelledNamespace(name):
            return any(pod.ref.namespace == name for pod in objects[Kind.POD].values())
        case MemoryTier():
            tiers: list[MemoryTier] = [tier for tier in (before, after) if tier]
            return not node_name or any(
                tier.spec.covers(node_name, labels_of(objects)) for tier in tiers
            )
    return True


def followed(container_id: str, objects: Objects) -> Placement | None:
    """Return the placement that a container follows; None for none, or none that is known."""
    for pod in objects[Kind.POD].values():
        for name, id_ in pod.container_ids.items():
            if id_ == container_id:
                found = assign(_placements_here(objects), with_namespace(pod, objects).ref)
                return found[name].winner if name in found else None
    return None


def _placements_here(objects: Objects) -> list[Placement]:
    labels = labels_of(objects)
    known = (each for kind in PLACEMENTS for each in objects[kind].values())
    return [each for each in known if each.spec.selects_node(labels)]


def _may_select(placement: Placement, pod: PodState, objects: Objects) -> bool:
    if not placement.is_cluster:
        return selects_pod(placement, pod.ref)
    ref = with_namespace(pod, objects).ref
    if ref.namespace_labels is None:
        return unsure(placement).may_select(ref)
    return selects_pod(placement, ref)


def _follows(pod: PodState | None, placements: Iterable[Placement]) -> Mapping[str, Any]:
    # Per container that follows a placement, or will, its id and that placement: one that is
    # about to be made has to be known before it is.
    if pod is None:
        return {}
    found = assign(placements, pod.whole)
    return {name: (pod.container_ids.get(name), each.winner) for name, each in found.items()}


def labels_of(objects: Objects) -> Mapping[str, str]:
    """Return the labels of this node; none before they are known."""
    return next(iter(objects[Kind.NODE].values()), {})


def with_namespaces(pods: Iterable[PodState], objects: Objects) -> list[PodState]:
    """Return pods, each with the labels of its namespace as far as they are known."""
    return [with_namespace(pod, objects) for pod in pods]


def with_namespace(pod: PodState, objects: Objects) -> PodState:
    """Return a pod with the labels of its namespace, if they are known."""
    found: LabelledNamespace | None = objects[Kind.NAMESPACE].get(pod.ref.namespace)
    if found is None:
        return pod
    return replace(pod, ref=replace(pod.ref, namespace_labels=found.labels))
