# SPDX-License-Identifier: Apache-2.0
"""Break a right object in one place, in each way that its schema knows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Json = dict[str, Any]
Step = str | int

# A value of each type of JSON, to stand where another is due.
STRANGERS: dict[str, Any] = {
    "object": {"a": 1},
    "array": ["a"],
    "string": "yes",
    "integer": 7,
    "number": 1.5,
    "boolean": True,
}
HUGE = 2**64
# Nothing that a pattern of ours allows.
UNLIKE_ALL = ("Ä b", "-", "a\n", "$(a)", "..")


class Broken(NamedTuple):
    """An object with one thing wrong.

    Attributes:
        how: What was done to it.
        field: The field that is wrong, as the API server spells it.
        obj: The object.
    """

    how: str
    field: str
    obj: Json


def each_break(obj: Json, schema: Json, *roots: str) -> Iterator[Broken]:
    """Yield the object once for each way to break what is below its `roots`.

    Args:
        obj: A right object; it is left as it is.
        schema: Its openAPIV3Schema.
        roots: Fields of the object, such as spec.
    """
    for root in roots:
        for how, field, path, value in _breaks(obj[root], schema["properties"][root], (root,)):
            broken = copy.deepcopy(obj)
            _put(broken, path, value)
            yield Broken(how, field, broken)


def fields_of(schema: Json, path: str) -> Iterator[str]:
    """Yield the path of each field below a schema: `a.b[].c`."""
    yield path
    for name, child in schema.get("properties", {}).items():
        yield from fields_of(child, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from fields_of(schema[key], f"{path}{mark}")


def fields_in(value: Any, schema: Json, path: str) -> Iterator[str]:
    """Yield which of these fields an object has."""
    yield path
    if isinstance(value, list):
        for item in value:
            yield from fields_in(item, schema["items"], f"{path}[]")
    elif isinstance(value, dict):
        for name, child in value.items():
            if name in schema.get("properties", {}):
                yield from fields_in(child, schema["properties"][name], f"{path}.{name}")
            else:
                yield from fields_in(child, schema["additionalProperties"], f"{path}{{}}")


Break = tuple[str, str, tuple[Step, ...], Any]  # how, the field, where, what is put there


def _breaks(value: Any, schema: Json, path: tuple[Step, ...]) -> Iterator[Break]:
    field, types = spell(path), _types(schema)
    for name, stranger in STRANGERS.items():
        if name not in types and not ("number" in types and name == "integer"):
            yield f"{name} for {' or '.join(types)}", field, path, stranger
    # Of a field that may be either a rule bounds the numbers: tests/crd/manifests.py has these.
    kind = "string" if isinstance(value, str) else types[0]
    if kind in _OWN and not (len(types) > 1 and not isinstance(value, str)):
        for how, where, put in _OWN[kind](value, schema, path):
            yield how, where, path, put
    yield from _below(value, schema, path)


def _types(schema: Json) -> tuple[str, ...]:
    if schema.get("x-kubernetes-int-or-string"):
        return ("string", "integer")
    return (schema["type"],)


def _below(value: Any, schema: Json, path: tuple[Step, ...]) -> Iterator[Break]:
    if isinstance(value, list):
        # The third is no other than the second.
        for i, item in enumerate(value[:2]):
            yield from _breaks(item, schema["items"], (*path, i))
    elif isinstance(value, dict):
        for name, child in value.items():
            found = schema.get("properties", {}).get(name) or schema["additionalProperties"]
            yield from _breaks(child, found, (*path, name))


Own = Iterator[tuple[str, str, Any]]


def _object(value: Json, schema: Json, path: tuple[Step, ...]) -> Own:
    for name in schema.get("required", []):
        rest = {key: child for key, child in value.items() if key != name}
        yield "missing field", f"{spell(path)}.{name}", rest
    if "additionalProperties" in schema:
        many = {f"key-{i}": "a" for i in range(schema["maxProperties"] + 1)}
        yield "too many keys", spell(path), many
    else:
        yield "unknown field", f"{spell(path)}.nonsense", value | {"nonsense": "a"}
        yield "unknown field", f"{spell(path)}.Name", value | {"Name": {"a": []}}


def _array(value: list[Any], schema: Json, path: tuple[Step, ...]) -> Own:
    if not value:
        return
    yield "too long", spell(path), [value[0]] * (schema["maxItems"] + 1)
    if schema["x-kubernetes-list-type"] != "atomic":
        yield "twice", spell(path), [value[0], *value]


def _string(value: str, schema: Json, path: tuple[Step, ...]) -> Own:
    field = spell(path)
    if "enum" in schema:
        for wrong in (value.lower(), f"{value}s", "", f" {value}"):
            yield "unknown value", field, wrong
        return
    yield "too long", field, "a" * (schema["maxLength"] + 1)
    if schema.get("minLength"):
        yield "too short", field, ""
    if schema.get("format") == "date-time":
        yield "no time", field, "yesterday"
        yield "no time", field, "2026-13-01T00:00:00Z"
    if "pattern" in schema or _is_matched(schema):
        for wrong in UNLIKE_ALL:
            yield "unlike its pattern", field, wrong


def _is_matched(schema: Json) -> bool:
    """Tell whether a rule of ours stands for a pattern of the whole text."""
    rules = schema.get("x-kubernetes-validations", [])
    return any(rule["rule"].startswith("self.matches(") and "$')" in rule["rule"] for rule in rules)


def _integer(value: int, schema: Json, path: tuple[Step, ...]) -> Own:
    yield "below the minimum", spell(path), schema["minimum"] - 1
    if "maximum" in schema:
        yield "above the maximum", spell(path), schema["maximum"] + 1
    yield "huge", spell(path), HUGE
    yield "in quotes", spell(path), str(value)


_OWN: dict[str, Callable[[Any, Json, tuple[Step, ...]], Own]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
}


def _put(obj: Any, path: tuple[Step, ...], value: Any) -> None:
    for step in path[:-1]:
        obj = obj[step]
    obj[path[-1]] = value


def spell(path: tuple[Step, ...]) -> str:
    """Write a path as `a.b[0].c`."""
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in path]
    return "".join(steps).removeprefix(".")
