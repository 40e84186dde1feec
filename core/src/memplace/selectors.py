# SPDX-License-Identifier: Apache-2.0
"""Label selectors."""

from __future__ import annotations

from collections.abc import Mapping

from memplace.api.v1alpha1 import LabelSelector, Operator, Requirement


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Return whether the labels fulfil every part of the selector.

    The empty selector matches everything. NotIn and DoesNotExist match labels without
    the key.

    Source: k8s.io/apimachinery ``pkg/labels/selector.go:Requirement.Matches()``.
    """
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _holds(term, labels) for term in selector.match_expressions
    )


def _holds(term: Requirement, labels: Mapping[str, str]) -> bool:
    match term.operator:
        case Operator.IN:
            return labels.get(term.key) in term.values
        case Operator.NOT_IN:
            return labels.get(term.key) not in term.values
        case Operator.EXISTS:
            return term.key in labels
        case Operator.DOES_NOT_EXIST:
            return term.key not in labels
