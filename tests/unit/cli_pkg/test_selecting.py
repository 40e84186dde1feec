# SPDX-License-Identifier: Apache-2.0
"""Why a placement does not select a container, in words."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.objects import parse_placement
from memplace.api.v1alpha1 import Placement
from memplace.assignment import PodRef, assign
from memplace_cli.selecting import why_not_selected

RULE = {"name": "heap", "regions": [{"type": "Heap"}], "policy": {"mode": "Local"}}


def placement(**spec: Any) -> Placement:
    created = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    meta = {"name": "p", "namespace": "ns", "uid": "u", "creationTimestamp": created}
    return parse_placement({"metadata": meta, "spec": {"selector": {}, "rules": [RULE]} | spec})


def pod(**labels: str) -> PodRef:
    return PodRef(namespace="ns", name="redis-0", uid="1", labels=labels, containers=("redis",))


def terms(*each: dict[str, Any]) -> dict[str, Any]:
    return {"matchExpressions": list(each)}


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        ({"matchLabels": {"app": "web"}}, "it wants the label app=web, the pod has app=redis"),
        ({"matchLabels": {"team": "a"}}, "it wants the label team=a, the pod has no label team"),
        (
            terms({"key": "app", "operator": "In", "values": ["web", "db"]}),
            "it wants app in (web, db), the pod has app=redis",
        ),
        (
            terms({"key": "app", "operator": "NotIn", "values": ["redis"]}),
            "it wants app not in (redis), the pod has app=redis",
        ),
        (
            terms({"key": "team", "operator": "Exists"}),
            "it wants a label team, the pod has no label team",
        ),
        (
            terms({"key": "app", "operator": "DoesNotExist"}),
            "it wants no label app, the pod has app=redis",
        ),
        ({"matchLabels": {"app": "redis"}}, ""),
    ],
)
def test_labels(selector: dict[str, Any], why: str) -> None:
    assert why_not_selected(placement(selector=selector), pod(app="redis"), "redis") == why


def test_containers() -> None:
    found = why_not_selected(placement(containers=["envoy", "log"]), pod(), "redis")
    assert found == "its spec.containers names envoy, log only"


labels = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"]))
expressions = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "key": st.sampled_from(["a", "b"]),
                "operator": st.sampled_from(["In", "NotIn"]),
                "values": st.lists(st.sampled_from(["1", "2"]), min_size=1, max_size=2),
            }
        ),
        st.fixed_dictionaries(
            {
                "key": st.sampled_from(["a", "b"]),
                "operator": st.sampled_from(["Exists", "DoesNotExist"]),
            }
        ),
    ),
    max_size=2,
)


@given(labels, labels, expressions, st.sampled_from(["redis", "envoy"]))
def test_it_agrees_with_the_assignment(
    wanted: dict[str, str], has: dict[str, str], asks: list[dict[str, Any]], container: str
) -> None:
    selector = {"matchLabels": wanted, "matchExpressions": asks}
    found = placement(selector=selector, containers=[container])
    is_assigned = "redis" in assign([found], pod(**has))
    assert (why_not_selected(found, pod(**has), "redis") == "") == is_assigned


def test_the_node_is_named_as_the_reason_if_its_labels_are_known() -> None:
    found = placement(selector={}, nodeSelector={"pool": "cxl"})
    assert why_not_selected(found, pod(), "redis") == ""
    assert why_not_selected(found, pod(), "redis", {"pool": "cxl"}) == ""
    assert why_not_selected(found, pod(), "redis", {"zone": "1"}) == (
        "its spec.nodeSelector wants pool=cxl, the pod's node has no label pool"
    )
