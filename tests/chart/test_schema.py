# SPDX-License-Identifier: Apache-2.0
"""The chart refuses each kind of wrong value, and says where it is and what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

Json = dict[str, Any]

# What helm says of each keyword of a schema.
SAYS = {
    "additionalProperties": "additional properties",
    "anyOf": "'anyOf' failed",
    "enum": "value must be one of",
    "maximum": "maximum: got",
    "maxLength": "maxLength: got",
    "minimum": "minimum: got",
    "minItems": "minItems: got",
    "minLength": "minLength: got",
    "not": "'not' failed",
    "pattern": "does not match pattern",
    "required": "missing propert",
    "type": "want ",
}
# Handed on as they are: the API server knows what may be in them.
HANDED_ON = {
    "operator.affinity",
    "operator.dnsConfig",
    "agent.affinity",
    "agent.dnsConfig",
    "podMonitor.tlsConfig",
}
# Each key of them is somebody's own.
MAPS = {"annotations", "commonLabels", "labels", "limits", "nodeSelector", "podAnnotations"}
MAPS |= {"podLabels", "requests"}
BOUNDS = SAYS.keys() - {"additionalProperties", "type"}
COMPONENTS = ("operator", "agent")
PROBES = ("startup", "liveness", "readiness")
LONG = "a" * 300


@dataclass(frozen=True)
class Case:
    """A value that is refused.

    Attributes:
        key: The value to set.
        value: What to set it to.
        keyword: Of the schema, which refuses it.
        below: Where below the key it does; None: in the section that the key is in.
    """

    key: str
    value: Any
    keyword: str
    below: str | None = ""

    @property
    def refusal(self) -> tuple[str, str]:
        section = self.key.rpartition(".")[0]
        return (section if self.below is None else f"{self.key}{self.below}"), self.keyword


OF_BOTH = [
    Case("image.repository", "Odd", "pattern"),
    Case("image.tag", "-odd", "pattern"),
    Case("image.digest", "sha256:123", "pattern"),
    Case("serviceAccount.name", "Odd", "pattern"),
    Case("serviceAccount.name", LONG, "maxLength"),
    Case("extraEnv", [{"value": "a"}], "required", ".0"),
    Case("extraEnv", [{"name": "1=2"}], "pattern", ".0.name"),
    Case("dnsPolicy", "Sometimes", "enum"),
    *(Case(f"probes.{probe}", {"periodSeconds": None}, "required") for probe in PROBES),
    *(
        Case(f"probes.{probe}.{key}", 0, "minimum")
        for probe in PROBES
        for key in ("periodSeconds", "timeoutSeconds", "failureThreshold")
    ),
]
CASES = [
    *(Case(key, "Odd", "pattern") for key in ("nameOverride", "fullnameOverride")),
    *(Case(key, LONG, "maxLength") for key in ("nameOverride", "fullnameOverride")),
    Case("image.registry", "https://registry.example", "pattern"),
    Case("image.pullPolicy", "Sometimes", "enum"),
    Case("image.pullSecrets", [{}], "required", ".0"),
    Case("image.pullSecrets", [{"name": ""}], "minLength", ".0.name"),
    Case("image.pullSecrets", [{"name": "a", "odd": 1}], "additionalProperties", ".0"),
    Case("logLevel", "loud", "enum"),
    Case("revisionHistoryLimit", -1, "minimum"),
    Case("revisionHistoryLimit", 101, "maximum"),
    Case("tenancy.bind", "Nobody", "enum"),
    Case("tenancy.tiers", "Nobody", "enum"),
    Case("operator.replicas", -1, "minimum"),
    Case("operator.replicas", 9, "maximum"),
    Case("operator.podDisruptionBudget.maxUnavailable", "101%", "anyOf"),
    Case("agent.auditSeconds", 0, "minimum"),
    Case("agent.auditSeconds", 3601, "maximum"),
    Case("agent.explainPort", -1, "minimum"),
    Case("agent.explainPort", 70000, "maximum"),
    Case("agent.explainPort", 8443, "not"),
    Case("agent.moveBandwidth", "fast", "pattern"),
    Case("agent.kubeletRootDir", "relative", "pattern"),
    Case("agent.nri.socketDirectory", "relative", "pattern"),
    Case("agent.nri.timeoutMilliseconds", 0, "minimum"),
    Case("agent.nri.timeoutMilliseconds", 2000, "maximum"),
    Case("agent.seccomp.type", "RuntimeDefault", "enum"),
    Case("agent.appArmorProfile.type", "None", "enum"),
    Case("agent.maxUnavailable", "0%", "anyOf"),
    *(Case(f"{key}.timeoutSeconds", 0, "minimum") for key in ("uninstall", "tests")),
    *(Case(f"{key}.timeoutSeconds", 3601, "maximum") for key in ("uninstall", "tests")),
    Case("networkPolicy.apiServerPorts", [], "minItems"),
    Case("networkPolicy.apiServerPorts", [0], "minimum", ".0"),
    Case("networkPolicy.apiServerPorts", [70000], "maximum", ".0"),
    *(Case(f"metrics.tls.{key}", "Odd", "pattern") for key in ("secretName", "clientCASecretName")),
    *(
        Case(f"metrics.tls.{key}", LONG, "maxLength")
        for key in ("secretName", "clientCASecretName")
    ),
    Case("podMonitor.interval", "often", "pattern"),
    Case("extraObjects", [{"kind": "ConfigMap"}], "anyOf", ".0"),
    Case("extraObjects", [""], "anyOf", ".0"),
    *(
        Case(f"{component}.{case.key}", case.value, case.keyword, case.below)
        for component in COMPONENTS
        for case in OF_BOTH
    ),
]


def values(node: Json, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value, and each section of values, with its default."""
    for key, value in node.items():
        yield f"{path}{key}", value
        if isinstance(value, dict) and key not in MAPS:
            yield from values(value, f"{path}{key}.")


def of_another_type(defaults: Json) -> Iterator[Case]:
    """Yield for each value what is no such thing, and for each list what can't be in it."""
    special = {case.key: case.keyword for case in CASES if case.keyword in {"enum", "anyOf"}}
    for key, default in values(defaults):
        if isinstance(default, dict):
            yield Case(key, [7], "type")
        elif isinstance(default, list):
            of_numbers = key == "networkPolicy.apiServerPorts"
            keyword = "anyOf" if key == "extraObjects" else "type"
            yield Case(key, "odd", "type")
            yield Case(key, ["odd"] if of_numbers else [7], keyword, ".0")
        elif key in special:
            yield Case(key, [7], special[key])
        else:
            yield Case(key, 7 if isinstance(default, str) else "odd", "type")


def of_another_name(defaults: Json) -> Iterator[Case]:
    """Yield for each section, and each map of texts, one thing more that is no text."""
    yield Case("odd", value=True, keyword="additionalProperties", below=None)
    for key, default in values(defaults):
        if isinstance(default, dict) and key not in HANDED_ON:
            is_map = key.rpartition(".")[2] in MAPS
            keyword, below = ("type", "") if is_map else ("additionalProperties", None)
            yield Case(f"{key}.odd", value=True, keyword=keyword, below=below)


def rounds(cases: Iterable[Case]) -> list[list[Case]]:
    """Return the cases in groups in which no value is set twice, nor within another."""
    found: list[list[Case]] = []
    for case in cases:
        for group in found:
            if not any(clash(case.key, other.key) for other in group):
                group.append(case)
                break
        else:
            found.append([case])
    return found


def clash(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def refusals(chart: Any, cases: Iterable[Case]) -> set[tuple[str, str]]:
    """Return where helm refuses something, and by which keyword."""
    found = set()
    for group in rounds(cases):
        done = chart.template(*(f"{case.key}={json.dumps(case.value)}" for case in group))
        assert done.returncode != 0
        for where, says in re.findall(r"at '([^']*)': (.*)", done.stderr):
            path = where.strip("/").replace("/", ".")
            found |= {(path, keyword) for keyword, text in SAYS.items() if text in says}
    return found


def constraints(schema: Json, node: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield where the schema bounds a value that is of the right type, and by which keyword."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    yield from ((path, keyword) for keyword in BOUNDS & node.keys())
    for key, value in node.get("properties", {}).items():
        yield from constraints(schema, value, f"{path}.{key}".strip("."))
    if "items" in node:
        yield from constraints(schema, node["items"], f"{path}.0")


@pytest.fixture(scope="module")
def defaults(chart: Any) -> Json:
    found: Json = yaml.safe_load((chart.folder / "values.yaml").read_text())
    return found


def test_each_bad_value_is_refused_where_it_is(chart: Any) -> None:
    missing = {case.refusal for case in CASES} - refusals(chart, CASES)
    assert not missing


def test_each_bound_of_the_schema_has_a_value_that_it_refuses(chart: Any) -> None:
    schema = json.loads((chart.folder / "values.schema.json").read_text())
    bounds = set(constraints(schema, schema))
    assert bounds == {case.refusal for case in CASES if case.keyword in BOUNDS}


def test_each_value_has_a_type(chart: Any, defaults: Json) -> None:
    cases = list(of_another_type(defaults))
    assert len(cases) > 150
    missing = {case.refusal for case in cases} - refusals(chart, cases)
    assert not missing


def test_no_section_takes_a_value_that_it_does_not_have(chart: Any, defaults: Json) -> None:
    cases = list(of_another_name(defaults))
    assert len(cases) > 40
    missing = {case.refusal for case in cases} - refusals(chart, cases)
    assert not missing


def test_what_is_handed_on_is_not_looked_into(chart: Any) -> None:
    chart.render(*(f"{key}.odd=7" for key in HANDED_ON))
