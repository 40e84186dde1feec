# SPDX-License-Identifier: Apache-2.0
"""Whether the CRDs of a cluster are those of this version: by the fields they have. Pure.

An API server drops what its CRD does not name: an operator whose status fields are not there
writes into the void, and nobody is told. So the fields that this version writes and reads are
looked for in the schemas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from memplace.api.paths import Plural
from memplace.api.v1alpha1 import (
    VERSION,
    ClusterPlacementSpec,
    NodeMemorySpec,
    NodeMemoryStatus,
    PlacementSpec,
    PlacementStatus,
    TierSpec,
    TierStatus,
)

_PARTS: dict[Plural, dict[str, type[msgspec.Struct]]] = {
    Plural.CLUSTER_PLACEMENTS: {"spec": ClusterPlacementSpec, "status": PlacementStatus},
    Plural.PLACEMENTS: {"spec": PlacementSpec, "status": PlacementStatus},
    Plural.TIERS: {"spec": TierSpec, "status": TierStatus},
    Plural.NODES: {"spec": NodeMemorySpec, "status": NodeMemoryStatus},
}
PLURALS = frozenset(_PARTS)
# Of a struct that two kinds have in common, what one of them has no use for.
_NOT_HERE = {Plural.PLACEMENTS: {"status.pods[].namespace"}}

_Json = Mapping[str, Any]


def missing_fields(plural: Plural, crd: _Json) -> tuple[str, ...]:
    """Return the fields that this version knows and a CRD has not, such as ``spec.rules``.

    Args:
        plural: Of the CRD, one of PLURALS.
        crd: As the API server returns it.
    """
    versions = crd.get("spec", {}).get("versions", [])
    mine = next((each for each in versions if each.get("name") == VERSION), None)
    if mine is None:
        return (f"version {VERSION}",)
    properties = mine.get("schema", {}).get("openAPIV3Schema", {}).get("properties", {})
    found: list[str] = []
    for part, struct in _PARTS[plural].items():
        (wanted,), definitions = msgspec.json.schema_components((struct,))
        found += _missing(wanted, properties.get(part, {}), part, definitions)
    unused = _NOT_HERE.get(plural, set())
    return tuple(each for each in dict.fromkeys(found) if each not in unused)


def _missing(wanted: _Json, has: _Json, at: str, definitions: _Json) -> Iterator[str]:
    for form in _forms(wanted, definitions):
        for name, field in form.get("properties", {}).items():
            theirs = has.get("properties", {}).get(name)
            if theirs is None:
                yield f"{at}.{name}"
            else:
                yield from _missing(field, theirs, f"{at}.{name}", definitions)
        if "items" in form:
            yield from _missing(form["items"], has.get("items", {}), f"{at}[]", definitions)


def _forms(wanted: _Json, definitions: _Json) -> Iterator[_Json]:
    if "$ref" in wanted:
        yield from _forms(definitions[wanted["$ref"].rpartition("/")[2]], definitions)
    for each in wanted.get("anyOf", ()):
        yield from _forms(each, definitions)
    if "properties" in wanted or isinstance(wanted.get("items"), dict):
        yield wanted
