# SPDX-License-Identifier: Apache-2.0
"""ClusterMemoryPlacement: the same rules as MemoryPlacement's, for many namespaces."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from memplace.api import v1alpha1 as v1
from memplace.api.convert import to_builtins
from memplace.api.objects import parse_cluster_placement
from memplace.errors import ValidationError

from tests.crd.accepted import ACCEPTED
from tests.crd.cluster import COPIES, SOURCE, cluster_definition
from tests.crd.manifests import AGAINST_A_RULE, BASE, Json, expression, one, stored

PLACEMENTS = f"{BASE}/clustermemoryplacements"
ALL: Json = {"namespaceSelector": {}}


def placement(spec: Json) -> Json:
    return {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "ClusterMemoryPlacement",
        "metadata": {"name": "x"},
        "spec": spec,
    }


def dry_run(api: Any, spec: Json) -> Any:
    return api.call("POST", PLACEMENTS, placement(spec), dryRun="All", fieldValidation="Strict")


def test_its_definition_is_made_of_the_other_one() -> None:
    text = cluster_definition(SOURCE.read_text())
    for path in COPIES:
        assert path.read_text() == text, "run python tests/crd/cluster.py"


def test_nothing_but_these_fields_is_different(crds: dict[str, Json]) -> None:
    mine, its = (
        yaml.safe_load(yaml.safe_dump(crds[kind]["spec"]))
        for kind in ("ClusterMemoryPlacement", "MemoryPlacement")
    )
    mine_v, its_v = mine["versions"][0], its["versions"][0]
    assert mine_v["additionalPrinterColumns"] == its_v["additionalPrinterColumns"]
    assert mine["names"]["categories"] == its["names"]["categories"]
    spec, other = (_part(each, "spec") for each in (mine_v, its_v))
    namespaces = spec["properties"].pop("namespaceSelector")
    assert spec["properties"].pop("enforced")["type"] == "boolean"
    assert set(spec.pop("required")) - set(other.pop("required")) == {"namespaceSelector"}
    assert _bare(namespaces) == _bare(spec["properties"]["selector"])
    assert _bare(spec) == _bare(other)
    status, other = (_part(each, "status") for each in (mine_v, its_v))
    pods, other_pods = status["properties"]["pods"], other["properties"]["pods"]
    assert pods["x-kubernetes-list-map-keys"] == ["namespace", "name"]
    del pods["items"]["properties"]["namespace"]
    for each in (pods, other_pods):
        del each["x-kubernetes-list-map-keys"], each["items"]["required"]
    assert _bare(status) == _bare(other)


def _part(version: Json, name: str) -> Json:
    found: Json = version["schema"]["openAPIV3Schema"]["properties"][name]
    return found


def _bare(schema: Any) -> Any:
    """Without descriptions, which may speak of other things."""
    if isinstance(schema, list):
        return [_bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _bare(value)
        for key, value in schema.items()
        if key != "description" or isinstance(value, dict)
    }


@pytest.mark.parametrize("case", AGAINST_A_RULE.values(), ids=AGAINST_A_RULE.keys())
def test_refused_by_the_same_rules_in_the_same_words(api: Any, case: tuple[Json, str, str]) -> None:
    spec, field, words = case
    answer = dry_run(api, spec | ALL)
    assert answer.status == 422
    assert f"{field}: Invalid value" in answer.message
    assert words in answer.message
    with pytest.raises(ValidationError) as refused:
        parse_cluster_placement(stored(placement(spec | ALL)))
    assert (refused.value.field, refused.value.problem) == (field, words)


@pytest.mark.parametrize("spec", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_accepted_there_is_accepted_here(api: Any, spec: Json) -> None:
    spec = spec | {"namespaceSelector": {"matchLabels": {"batch": "yes"}}, "enforced": True}
    answer = dry_run(api, spec)
    assert answer.ok, answer.message
    assert answer.body["spec"] == spec
    parsed = to_builtins(parse_cluster_placement(answer.body).spec)
    assert (parsed["namespaceSelector"], parsed["enforced"]) == (spec["namespaceSelector"], True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (one(), "spec.namespaceSelector: Required value"),
        (one() | ALL | {"enforced": "yes"}, "spec.enforced"),
        (one() | ALL | {"namespaces": ["a"]}, 'unknown field "spec.namespaces"'),
        (
            one() | {"namespaceSelector": expression(key="a", operator="In")["selector"]},
            "operators In and NotIn need values",
        ),
    ],
)
def test_refused_of_its_own_fields(api: Any, spec: Json, words: str) -> None:
    answer = dry_run(api, spec)
    assert answer.status in (400, 422)
    assert words in answer.message
    with pytest.raises(ValidationError):
        parse_cluster_placement(stored(placement(spec)))


def test_a_placement_of_a_namespace_knows_none_of_them(api: Any) -> None:
    manifest = placement(one() | ALL) | {"kind": "MemoryPlacement"}
    path = f"{BASE}/namespaces/default/memoryplacements"
    answer = api.call("POST", path, manifest, dryRun="All", fieldValidation="Strict")
    assert 'unknown field "spec.namespaceSelector"' in answer.message


def test_its_status_names_pods_of_namespaces(api: Any) -> None:
    created = api.call("POST", PLACEMENTS, placement(one() | ALL), fieldValidation="Strict")
    assert created.ok, created.message
    # Pods of one name in two namespaces are two.
    pods = tuple(
        v1.PodStatus(name="redis-0", namespace=name, reason="Moving") for name in ("a", "b")
    )
    status = v1.PlacementStatus(matched_pods=2, pods=pods)
    answer = api.call(
        "PATCH",
        f"{PLACEMENTS}/x/status",
        {"status": to_builtins(status)},
        fieldValidation="Strict",
    )
    assert answer.ok, answer.message
    assert parse_cluster_placement(answer.body).status == status
    header, row = api.kubectl("get", "cmp").stdout.splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "MATCHED", "PLACED", "AGE"]
    assert row.split()[:2] == ["x", "2"]
    listed = api.kubectl("get", "memplace", "-A", "-o", "name").stdout.split()
    assert "clustermemoryplacement.memplace.dev/x" in listed
    assert api.call("DELETE", f"{PLACEMENTS}/x").ok
