# SPDX-License-Identifier: Apache-2.0
"""JSON schemas of what people write, for editors and for kubeconform, made of the definitions.

python tests/support/schemas.py    # writes docs/schemas
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "schemas"
# Where a schema is, as kubeconform's option --schema-location says it.
LOCATION = "{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
# Agents write NodeMemories, people don't.
KINDS = ("MemoryPlacement", "ClusterMemoryPlacement", "MemoryTier")
_OPEN = "x-kubernetes-preserve-unknown-fields"
_LIST = "x-kubernetes-list-type"
_NUMBER_OR_TEXT = "x-kubernetes-int-or-string"

Json = dict[str, Any]


def schemas() -> dict[Path, str]:
    """Return the text of each file, by its path."""
    found = (yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml"))
    return dict(_file(crd) for crd in found if crd["spec"]["names"]["kind"] in KINDS)


def _file(crd: Json) -> tuple[Path, str]:
    group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
    (version,) = crd["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    # What kubectl get prints has one, and no one writes it.
    schema["properties"] |= {"status": {"type": "object"}}
    schema["properties"]["apiVersion"] |= {"const": f"{group}/{version['name']}"}
    schema["properties"]["kind"] |= {"const": kind}
    schema["required"] = sorted({"apiVersion", "kind", "metadata", *schema.get("required", ())})
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": kind}
    path = FOLDER / group / f"{kind.lower()}_{version['name']}.json"
    return path, json.dumps(head | schema, indent=1, ensure_ascii=False) + "\n"


def closed(schema: Mapping[str, Any]) -> Json:
    """Return an OpenAPI schema as a JSON schema that refuses keys it does not name."""
    found = {key: _inner(key, value) for key, value in schema.items() if key[:2] != "x-"}
    if schema.get(_NUMBER_OR_TEXT) and "anyOf" not in schema:
        found["type"] = ["integer", "string"]
    if schema.get(_LIST) == "set":
        found["uniqueItems"] = True
    if "properties" in schema and not schema.get(_OPEN):
        found.setdefault("additionalProperties", False)
    return found


def _inner(key: str, value: Any) -> Any:
    if key == "properties":
        return {name: closed(field) for name, field in value.items()}
    if key in {"allOf", "anyOf", "oneOf"}:
        return [closed(part) for part in value]
    if key in {"items", "not", "additionalProperties"} and isinstance(value, dict):
        return closed(value)
    return value


if __name__ == "__main__":
    for path, text in schemas().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
