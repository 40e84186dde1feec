# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import LabelSelector, Operator, Requirement
from memplace.selectors import matches

labels = st.dictionaries(st.sampled_from(["app", "tier", "env"]), st.sampled_from(["a", "b", ""]))


def term(operator, *values):
    return LabelSelector(
        match_expressions=(Requirement(key="app", operator=Operator(operator), values=values),)
    )


@given(labels)
def test_the_empty_selector_matches_everything(labels):
    assert matches(LabelSelector(), labels)


@given(labels)
def test_labels_match_themselves(labels):
    assert matches(LabelSelector(match_labels=labels), labels)


@given(labels, st.sampled_from(["a", "b", ""]))
def test_the_operators_come_in_opposites(labels, value):
    assert matches(term("In", value), labels) != matches(term("NotIn", value), labels)
    assert matches(term("Exists"), labels) != matches(term("DoesNotExist"), labels)


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        (LabelSelector(match_labels={"app": "a"}), {"app": "a", "x": "y"}, True),
        (LabelSelector(match_labels={"app": "a"}), {"app": "b"}, False),
        (LabelSelector(match_labels={"app": ""}), {}, False),
        (LabelSelector(match_labels={"app": "a", "x": "y"}), {"app": "a"}, False),
        (term("In", "a", "b"), {"app": "b"}, True),
        (term("In", "a"), {}, False),
        (term("NotIn", "a"), {}, True),
        (term("NotIn", "a"), {"app": "a"}, False),
        (term("Exists"), {"app": ""}, True),
        (term("DoesNotExist"), {"app": ""}, False),
    ],
)
def test_selectors(selector, labels, expected):
    assert matches(selector, labels) is expected


def test_every_part_has_to_hold():
    both = LabelSelector(
        match_labels={"x": "y"}, match_expressions=term("In", "a").match_expressions
    )
    assert matches(both, {"x": "y", "app": "a"})
    assert not matches(both, {"x": "y", "app": "b"})
    assert not matches(both, {"app": "a"})
