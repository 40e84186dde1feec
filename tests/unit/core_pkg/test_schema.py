# SPDX-License-Identifier: Apache-2.0
"""Each field of the CRDs is a field of a struct, and the other way round."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect as msi
import pytest
import yaml
from memplace.api.v1alpha1 import (
    ClusterPlacementSpec,
    LabelSelector,
    NodeMemorySpec,
    NodeMemoryStatus,
    PlacementSpec,
    PlacementStatus,
    PolicySpec,
    RegionEntry,
    Rule,
    TierSpec,
    TierStatus,
)
from memplace.entries import ProcessName
from memplace.future import Implied, implied_future
from memplace.kinds import Mode, RegionKind
from memplace.matching import Matcher
from memplace.regions import Region
from memplace.validation import problems

CRDS = Path(__file__).parents[3] / "crds"
STRUCTS = [
    ("clustermemoryplacements", "spec", ClusterPlacementSpec),
    ("clustermemoryplacements", "status", PlacementStatus),
    ("memoryplacements", "spec", PlacementSpec),
    ("memoryplacements", "status", PlacementStatus),
    ("memorytiers", "spec", TierSpec),
    ("memorytiers", "status", TierStatus),
    ("nodememories", "spec", NodeMemorySpec),
    ("nodememories", "status", NodeMemoryStatus),
]
# Fields of a struct that one of its kinds has no use for.
NOT_HERE = {
    "memoryplacements.status": [
        "status.pods[] fields: schema ['message', 'name', 'node', 'reason', 'tiers'], "
        "struct ['message', 'name', 'namespace', 'node', 'reason', 'tiers']"
    ]
}
IDS = [f"{plural}.{part}" for plural, part, _ in STRUCTS]


def schema_of(plural: str, part: str) -> dict[str, Any]:
    crd = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"][part]
    return found


def differences(schema: dict[str, Any], type_: msi.Type, path: str) -> Iterator[str]:
    """Yield where a schema and a type do not say the same of fields, words and limits."""
    match _without_none(type_):
        case msi.StructType() as struct:
            yield from _of_struct(schema, struct, path)
        case msi.VarTupleType() as items:
            yield from _of_limit(schema, "maxItems", items.max_length, path)
            yield from differences(schema["items"], items.item_type, f"{path}[]")
        case msi.DictType() as values:
            below = schema["additionalProperties"]
            yield from differences(below, values.value_type, f"{path}{{}}")
        case msi.UnionType(types=either):
            # Sizes: numbers or texts.
            yield from _unequal(
                schema.get("x-kubernetes-int-or-string"), of_struct=True, what=f"{path} type"
            )
            texts = [one for one in either if isinstance(one, msi.StrType)]
            for text in texts:
                yield from _of_scalar(schema, text, path)
        case scalar:
            if "x-kubernetes-int-or-string" in schema:
                yield f"{path} type: schema integer or string, struct {scalar}"
            yield from _of_scalar(schema, scalar, path)


def _without_none(type_: msi.Type) -> msi.Type:
    if isinstance(type_, msi.Metadata):
        return _without_none(type_.type)
    if isinstance(type_, msi.UnionType):
        inner = [t for t in type_.types if not isinstance(t, msi.NoneType)]
        return _without_none(inner[0]) if len(inner) == 1 else type_
    return type_


def _of_scalar(schema: dict[str, Any], scalar: msi.Type, path: str) -> Iterator[str]:
    match scalar:
        case msi.EnumType(cls=words) | msi.LiteralType(values=words):
            yield from _unequal(sorted(schema["enum"]), sorted(map(str, words)), f"{path} enum")
        case msi.StrType(max_length=limit):
            yield from _of_limit(schema, "maxLength", limit, path)
        case msi.IntType(le=limit):
            yield from _of_limit(schema, "maximum", limit, path)
        case msi.UnionType():
            yield from _unequal(
                schema.get("x-kubernetes-int-or-string"), of_struct=True, what=f"{path} type"
            )
        case msi.BoolType():
            yield from _unequal(schema.get("type"), "boolean", f"{path} type")
        case msi.DateTimeType():
            yield from _unequal(schema.get("format"), "date-time", f"{path} format")
        case _:
            yield f"{path}: {scalar} is not compared"


def _of_limit(schema: dict[str, Any], key: str, limit: int | None, path: str) -> Iterator[str]:
    # A status is read with fewer limits than it is written with.
    if limit is not None:
        yield from _unequal(schema.get(key), limit, f"{path} {key}")


def _of_struct(schema: dict[str, Any], struct: msi.StructType, path: str) -> Iterator[str]:
    fields = {field.encode_name: field for field in struct.fields}
    properties = schema.get("properties", {})
    yield from _unequal(sorted(properties), sorted(fields), f"{path} fields")
    if struct.cls.__struct_config__.forbid_unknown_fields:  # a spec
        required = sorted(name for name, field in fields.items() if field.required)
        yield from _unequal(sorted(schema.get("required", [])), required, f"{path} required")
    for name in properties.keys() & fields.keys():
        yield from differences(properties[name], fields[name].type, f"{path}.{name}")


def _unequal(of_schema: object, of_struct: object, what: str) -> Iterator[str]:
    if of_schema != of_struct:
        yield f"{what}: schema {of_schema}, struct {of_struct}"


@pytest.mark.parametrize(("plural", "part", "struct"), STRUCTS, ids=IDS)
def test_the_schema_and_the_struct_are_one(plural: str, part: str, struct: type) -> None:
    found = list(differences(schema_of(plural, part), msi.type_info(struct), part))
    assert found == NOT_HERE.get(f"{plural}.{part}", [])


def test_a_difference_is_found_at_any_depth() -> None:
    schema = schema_of("memoryplacements", "spec")
    entry = schema["properties"]["rules"]["items"]["properties"]["regions"]["items"]
    entry["properties"]["nice"] = {"type": "string"}
    entry["properties"]["type"]["enum"] = ["Heap"]
    entry["properties"]["path"]["maxLength"] = 9
    entry["required"] = []
    found = list(differences(schema, msi.type_info(PlacementSpec), "spec"))
    # Each twice: YAML's alias makes exclude the same object.
    assert {text.partition(":")[0].rpartition(".")[2] for text in found} == {
        "regions[] fields",
        "exclude[] fields",
        "regions[] required",
        "exclude[] required",
        "type enum",
        "path maxLength",
    }
    assert len(found) == 8


def test_no_schema_is_left_out() -> None:
    parts = {(path.stem, part) for path in CRDS.glob("*.yaml") for part in _parts(path)}
    assert parts == {(plural, part) for plural, part, _ in STRUCTS}


def _parts(path: Path) -> set[str]:
    crd = yaml.safe_load(path.read_text())
    properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return set(properties) & {"spec", "status"}


# Per key of a region entry a value that says no to the region below, which an entry with
# nothing but a type says yes to.
NARROWED = {
    "type": RegionKind.STACK,
    "name": "one",
    "path": "/one",
    "min_size": "2Mi",
    "max_size": "4Ki",
    "permissions": "r--",
    "process": "one",
}


def test_each_key_of_an_entry_is_tried_here() -> None:
    assert list(NARROWED) == list(RegionEntry.__struct_fields__)


@pytest.mark.parametrize("key", NARROWED)
def test_matching_and_validation_read_each_key_of_an_entry(key: str) -> None:
    # Only files have a path, and only anonymous memory has a name.
    wide = RegionEntry(RegionKind.FILE if key == "path" else RegionKind.ANONYMOUS)
    narrow = msgspec.structs.replace(wide, **{key: NARROWED[key]})
    assert means(wide, wide.type) and not means(narrow, wide.type)
    assert not covers(narrow, wide)
    assert covers(wide, narrow) is (key != "type")


@pytest.mark.parametrize("key", NARROWED)
def test_a_default_for_mappings_to_come_reads_each_key_of_an_entry(key: str) -> None:
    wide = RegionEntry(RegionKind.ANONYMOUS)
    narrow = msgspec.structs.replace(wide, **{key: NARROWED[key]})
    given = implied_future([a_rule("a", narrow)]).mmap
    # The kernel knows the least size of an mmap(), and nothing else.
    assert isinstance(given, Implied) is (key == "min_size")
    assert implied_future([a_rule("a", narrow), a_rule("b", wide)]).mmap == (
        given if key != "type" else Implied(a_rule("b", wide))
    )


def means(entry: RegionEntry, kind: RegionKind) -> bool:
    region = Region(start=0, end=1 << 20, kind=kind, permissions="rw-", name="other", path="/other")
    (match,) = Matcher((a_rule("a", entry),)).match([region], ProcessName("other", "/other"))
    return match.rule is not None


def covers(wider: RegionEntry, entry: RegionEntry) -> bool:
    """Whether a rule with `entry` is pointless behind one with `wider`."""
    rules = (a_rule("a", wider), a_rule("b", entry))
    return bool(problems(PlacementSpec(selector=LabelSelector(), rules=rules)))


def a_rule(name: str, entry: RegionEntry) -> Rule:
    return Rule(name=name, regions=(entry,), policy=PolicySpec(Mode.BIND, ("cxl",)))
