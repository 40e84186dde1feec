# SPDX-License-Identifier: Apache-2.0
"""The rules of kube-api-linter, and a few of ours, over the YAML of the CRDs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

Json = dict[str, Any]
Walk = list[tuple[str, Json]]


def nodes(schema: Json, path: str) -> Iterator[tuple[str, Json]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


@pytest.fixture(scope="module")
def schemas(crds: dict[str, Json]) -> Walk:
    found: Walk = []
    for kind, crd in crds.items():
        root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        found += [(p, s) for p, s in nodes(root, kind) if p.count(".") == 0 or is_ours(p)]
    assert len(found) > 100
    return found


def is_ours(path: str) -> bool:
    """Tell our fields from those that the API machinery describes itself."""
    return path.split(".")[1] not in ("apiVersion", "kind", "metadata")


def of_type(schemas: Walk, *types: str) -> Walk:
    return [(path, s) for path, s in schemas if s.get("type") in types]


def test_there_are_the_four_kinds(crds: dict[str, Json]) -> None:
    assert set(crds) == {
        "ClusterMemoryPlacement",
        "MemoryPlacement",
        "MemoryTier",
        "NodeMemory",
    }


def test_names_and_scopes(crds: dict[str, Json]) -> None:
    short = {
        "ClusterMemoryPlacement": "cmp",
        "MemoryPlacement": "mp",
        "MemoryTier": "mt",
        "NodeMemory": "nm",
    }
    for kind, crd in crds.items():
        names = crd["spec"]["names"]
        assert crd["metadata"]["name"] == f"{names['plural']}.memplace.dev"
        assert names["categories"] == ["memplace"]
        assert names["shortNames"] == [short[kind]]
        assert names["singular"] == kind.lower()
        assert crd["spec"]["scope"] == ("Namespaced" if kind == "MemoryPlacement" else "Cluster")


def test_one_version_is_served_and_stored(crds: dict[str, Json]) -> None:
    for crd in crds.values():
        (version,) = crd["spec"]["versions"]
        assert (version["name"], version["served"], version["storage"]) == ("v1alpha1", True, True)


def test_a_status_is_a_subresource_and_optional(crds: dict[str, Json]) -> None:
    for kind, crd in crds.items():
        version = crd["spec"]["versions"][0]
        root = version["schema"]["openAPIV3Schema"]
        has_status = "status" in root["properties"]
        assert has_status == (version.get("subresources") == {"status": {}})
        assert has_status, kind
        assert "status" not in root.get("required", [])


def test_status_fields_are_optional(crds: dict[str, Json]) -> None:
    for crd in crds.values():
        properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        assert "required" not in properties.get("status", {})


def test_every_field_has_a_description_that_starts_with_its_name(schemas: Walk) -> None:
    for path, schema in schemas:
        if path.endswith(("[]", "{}")):
            continue
        name = path.rpartition(".")[2]
        assert schema.get("description", "").split(" ")[0] == name, path
        assert schema["description"].endswith("."), path


def test_optional_fields_of_a_spec_tell_their_default(schemas: Walk) -> None:
    optional = {
        f"{path}.{name}": child
        for path, schema in schemas
        for name, child in schema.get("properties", {}).items()
        if ".spec" in path and name not in schema.get("required", [])
    }
    assert len(optional) >= 10
    for path, child in optional.items():
        about = child["description"]
        # Selectors are Kubernetes' own; tiers says for which modes it is needed.
        if "elector" not in path and not path.endswith(".tiers"):
            assert "Default: " in about, path


def test_printer_columns_have_descriptions_and_end_with_age(crds: dict[str, Json]) -> None:
    for crd in crds.values():
        columns = crd["spec"]["versions"][0]["additionalPrinterColumns"]
        assert all(column["description"].endswith(".") for column in columns)
        assert columns[-1]["name"] == "Age"


def test_every_string_is_bounded(schemas: Walk) -> None:
    for path, schema in of_type(schemas, "string"):
        assert "maxLength" in schema or "enum" in schema, path
    # Numbers among them are bounded by a rule.
    either = [(path, s) for path, s in schemas if s.get("x-kubernetes-int-or-string")]
    assert len(either) == 13
    assert all(s["maxLength"] and s["x-kubernetes-validations"] for _, s in either)


def test_every_list_is_bounded_and_has_a_type(schemas: Walk) -> None:
    for path, schema in of_type(schemas, "array"):
        assert "maxItems" in schema, path
        assert schema["x-kubernetes-list-type"] in ("map", "set", "atomic"), path
        is_map = schema["x-kubernetes-list-type"] == "map"
        assert is_map == ("x-kubernetes-list-map-keys" in schema), path


def test_list_map_keys_are_required(schemas: Walk) -> None:
    for path, schema in of_type(schemas, "array"):
        for key in schema.get("x-kubernetes-list-map-keys", []):
            assert key in schema["items"]["required"], path


def test_numbers_are_integers_with_a_width_and_a_bound(schemas: Walk) -> None:
    assert not of_type(schemas, "number")
    for path, schema in of_type(schemas, "integer"):
        assert schema["format"] in ("int32", "int64"), path
        assert "minimum" in schema, path


def test_no_nullables_or_phases_and_few_booleans(schemas: Walk) -> None:
    # An enum can grow and a boolean can't; yes or no is all that can be said to these.
    booleans = [path for path, _ in of_type(schemas, "boolean")]
    assert booleans == [
        "ClusterMemoryPlacement.spec.rules[].override",
        "ClusterMemoryPlacement.spec.enforced",
        "ClusterMemoryPlacement.spec.paused",
        "MemoryPlacement.spec.rules[].override",
        "MemoryPlacement.spec.paused",
        "NodeMemory.status.backend.sticky",
        "NodeMemory.status.placements[].pods[].containers[].sticky",
    ]
    for path, schema in schemas:
        assert "nullable" not in schema, path
        assert path.rpartition(".")[2] not in ("phase", "state") or "enum" in schema, path
        assert not path.endswith((".phase", "Timestamp")), path


def test_the_only_maps_are_of_labels(schemas: Walk) -> None:
    maps = [path for path, schema in schemas if "additionalProperties" in schema]
    assert maps == [
        "ClusterMemoryPlacement.spec.namespaceSelector.matchLabels",
        "ClusterMemoryPlacement.spec.selector.matchLabels",
        "ClusterMemoryPlacement.spec.nodeSelector",
        "MemoryPlacement.spec.selector.matchLabels",
        "MemoryPlacement.spec.nodeSelector",
        "MemoryTier.spec.nodeSelector",
    ]


def test_enum_values_are_pascal_case(schemas: Walk) -> None:
    values = [value for _, schema in schemas for value in schema.get("enum", [])]
    assert values
    assert all(value[0].isupper() and value.isalnum() for value in values)


def test_defaulted_fields_are_not_required(schemas: Walk) -> None:
    for path, schema in schemas:
        for name, child in schema.get("properties", {}).items():
            assert not ("default" in child and name in schema.get("required", [])), (path, name)


def test_conditions_are_metav1_conditions(schemas: Walk) -> None:
    conditions = [(path, s) for path, s in schemas if path.endswith(".conditions")]
    assert len(conditions) == 4
    for path, schema in conditions:
        assert schema["x-kubernetes-list-map-keys"] == ["type"], path
        assert set(schema["items"]["properties"]) == {
            "type",
            "status",
            "reason",
            "message",
            "lastTransitionTime",
            "observedGeneration",
        }


def test_conditions_come_first_in_a_status(crds: dict[str, Json]) -> None:
    for crd in crds.values():
        properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        if "status" in properties:
            assert next(iter(properties["status"]["properties"])) == "conditions"


def test_every_rule_has_a_message(schemas: Walk) -> None:
    rules = [r for _, s in schemas for r in s.get("x-kubernetes-validations", [])]
    assert len(rules) >= 20
    assert all(len(rule["message"]) > 40 for rule in rules)


def test_the_files_are_plain_yaml_in_one_document(request: pytest.FixtureRequest) -> None:
    for path in (request.config.rootpath / "crds").glob("*.yaml"):
        text = path.read_text()
        assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
        assert len(list(yaml.safe_load_all(text))) == 1
        assert max(map(len, text.splitlines())) <= 140, path
