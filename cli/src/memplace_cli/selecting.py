# SPDX-License-Identifier: Apache-2.0
"""Why a placement does not select a container. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from memplace import selectors
from memplace.api.v1alpha1 import (
    ClusterPlacementSpec,
    LabelSelector,
    Operator,
    Placement,
    Requirement,
)
from memplace.assignment import PodRef
from msgspec import UNSET


def why_not_selected(
    placement: Placement,
    pod: PodRef,
    container: str,
    node_labels: Mapping[str, str] | None = None,
) -> str:
    """Return why a placement does not mean a container; "" if it does.

    Args:
        placement: Of the pod's namespace, or of the cluster.
        pod: The pod.
        container: The container's name.
        node_labels: Of the pod's node; None if they are not known.
    """
    for key, wanted in placement.spec.node_selector.items():
        if node_labels is not None and node_labels.get(key) != wanted:
            has = _has(key, node_labels)
            return f"its spec.nodeSelector wants {key}={wanted}, the pod's node has {has}"
    why = _namespace(placement, pod) or _labels(placement.spec.selector, pod.labels, "the pod")
    if why:
        return why
    if not placement.spec.selects_container(container):
        names = placement.spec.containers
        listed = ", ".join(() if names is UNSET else names)
        return f"its spec.containers names {listed} only"
    return ""


def _namespace(placement: Placement, pod: PodRef) -> str:
    spec = placement.spec
    if not isinstance(spec, ClusterPlacementSpec):
        return ""
    if pod.namespace_labels is None:
        return "whether it means this namespace can't be told: its labels could not be read"
    return _labels(spec.namespace_selector, pod.namespace_labels, "the namespace")


def _labels(selector: LabelSelector, labels: Mapping[str, str], whose: str) -> str:
    of = "" if whose == "the pod" else " of a namespace"
    for key, wanted in selector.match_labels.items():
        if labels.get(key) != wanted:
            return f"it wants the label {key}={wanted}{of}, {whose} has {_has(key, labels)}"
    for term in selector.match_expressions:
        if not selectors.matches(LabelSelector(match_expressions=(term,)), labels):
            return f"it wants {_spelt(term)}{of}, {whose} has {_has(term.key, labels)}"
    return ""


def _has(key: str, labels: Mapping[str, str]) -> str:
    return f"{key}={labels[key]}" if key in labels else f"no label {key}"


def _spelt(term: Requirement) -> str:
    values = f" ({', '.join(term.values)})" if term.values else ""
    words = {
        Operator.IN: f"{term.key} in{values}",
        Operator.NOT_IN: f"{term.key} not in{values}",
        Operator.EXISTS: f"a label {term.key}",
        Operator.DOES_NOT_EXIST: f"no label {term.key}",
    }
    return words[term.operator]
