# SPDX-License-Identifier: Apache-2.0
"""Pages of docs/reference say what the sources say, and so does the cookbook."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from memplace.environment import LOG_LEVELS
from memplace.errors import ValidationError
from memplace_agent.cli.options import DEFAULT_PORT
from memplace_agent.settings import PATHS, VARIABLES, settings_from_env
from memplace_kube import serving
from memplace_operator import settings as operator

from tests.unit.docs_pkg import reference

ROOT = Path(__file__).parents[3]
ENVIRONMENT = (ROOT / "docs/reference/environment.md").read_text()
SOURCES = [
    path
    for package in ("core", "operator", "node-agent", "cli")
    for path in (ROOT / package / "src").rglob("*.py")
]


@pytest.mark.parametrize("path", reference.pages(), ids=lambda path: path.name)
def test_a_page_that_is_made_is_as_it_would_be_made(path: Path) -> None:
    # python tests/unit/docs_pkg/reference.py writes it.
    if path.name == "cli.md" and sys.version_info[:2] != (3, 13):
        pytest.skip("argparse of other versions writes help differently")
    assert path.read_text() == reference.pages()[path]


def options_of(text: str) -> list[tuple[str, str]]:
    """Return of a page of helps each option that takes a value, and what its help says."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if re.match(r"  -", line):
            # What it is called ends at two spaces, or with the line.
            name, _, said = line.strip().partition("  ")
            found.append([name, said.strip()])
        elif found and line.startswith(" " * 8) and line.strip():
            found[-1][1] += f" {line.strip()}"
        elif not line.strip():
            found.append(["", ""])
    return [(name, said) for name, said in found if re.search(r"[A-Z{]\S+$", name)]


def test_each_option_with_a_value_says_its_default() -> None:
    options = options_of((ROOT / "docs/reference/cli.md").read_text())
    assert len(options) > 60
    needed = {"--pid PID", "-f, --filename FILE"}
    silent = {name for name, said in options if not re.search(r"\(default: .+\)", said)}
    assert silent == needed


def rows(section: str) -> list[list[str]]:
    text = ENVIRONMENT.split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


NODE = {"NODE_NAME": "n"}


def test_the_page_has_each_variable_of_the_agent() -> None:
    assert {row[0] for row in rows("The agent")} == {*NODE, *PATHS, *VARIABLES, *serving.VARIABLES}


def test_the_page_has_each_variable_of_the_operator() -> None:
    assert {row[0] for row in rows("The operator")} == {*operator.VARIABLES, *serving.VARIABLES}


SECURE = {"MEMPLACE_METRICS_TLS": "/tls"}


@pytest.mark.parametrize(
    ("name", "default"),
    [
        row[:2]
        for section in ("The agent", "The operator")
        for row in rows(section)
        if row[0] in serving.VARIABLES
    ],
)
def test_the_page_has_the_default_of_each_variable_of_metrics(name: str, default: str) -> None:
    given = {} if default == "empty" else {name: default}
    without = {key: text for key, text in SECURE.items() if key != name}
    assert serving.secure_port(without | given) == serving.secure_port(without)
    assert (serving.secure_port(without) is None) == (name in SECURE)
    assert default == "empty" or default in repr(serving.secure_port(SECURE))


def own(section: str) -> list[list[str]]:
    return [row[:2] for row in rows(section) if row[0] not in serving.VARIABLES]


@pytest.mark.parametrize(("name", "default"), own("The agent"))
def test_the_page_has_the_default_of_each_variable_of_the_agent(name: str, default: str) -> None:
    if default == "needed":
        with pytest.raises(ValidationError, match=name):
            settings_from_env({})
    elif default == "empty":
        assert not getattr(settings_from_env(NODE), VARIABLES[name][0])
    else:
        assert settings_from_env(NODE | {name: default}) == settings_from_env(NODE)


@pytest.mark.parametrize(("name", "default"), own("The operator"))
def test_the_page_has_the_default_of_each_variable_of_the_operator(name: str, default: str) -> None:
    given = {name: default}
    assert operator.settings_from_env(given) == operator.settings_from_env({})


def test_no_variable_of_ours_is_read_that_the_page_does_not_have() -> None:
    read = {
        name for path in SOURCES for name in re.findall(r"\"(MEMPLACE_[A-Z_]+)\"", path.read_text())
    }
    said = {
        row[0] for section in ("The agent", "The operator", "Commands") for row in rows(section)
    }
    assert read == {name for name in said if name.startswith("MEMPLACE_")}


def chart_value(path: str) -> Any:
    found: Any = yaml.safe_load((ROOT / "charts/memplace/values.yaml").read_text())
    for key in path.split("."):
        found = found[key]
    return found


# What the chart turns on, since it knows that the pod has a network of its own, and the rights.
ON_IN_PODS = {"agent.explainPort", "agent.shimDefault.enabled"}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (row[0], row[2])
        for row in rows("The agent")
        if re.fullmatch(r"agent\.[A-Za-z.]+|logLevel", row[2])
    ],
)
def test_the_chart_and_the_agent_have_the_same_default(name: str, path: str) -> None:
    value = chart_value(path)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    found = settings_from_env(NODE | {name: text})
    assert (found != settings_from_env(NODE)) == (path in ON_IN_PODS)


def test_the_chart_and_the_operator_have_the_same_default() -> None:
    given = {"MEMPLACE_LOG_LEVEL": chart_value("logLevel")}
    assert operator.settings_from_env(given) == operator.settings_from_env({})


def test_the_chart_takes_the_levels_that_the_programs_take() -> None:
    schema = json.loads((ROOT / "charts/memplace/values.schema.json").read_text())
    levels = schema["properties"]["logLevel"]["enum"]
    assert [level.upper() for level in levels] == list(LOG_LEVELS)


def test_the_agent_is_asked_where_the_chart_has_it_listen() -> None:
    assert chart_value("agent.explainPort") == DEFAULT_PORT


def test_the_runbook_has_each_alert_of_the_chart() -> None:
    alerts = yaml.safe_load((ROOT / "charts/memplace/files/alerts.yaml").read_text())
    wanted = [rule["alert"] for group in alerts["groups"] for rule in group["rules"]]
    page = (ROOT / "docs/operate.md").read_text()
    assert re.findall(r"^\| `(Memplace\w+)` \|", page, re.M) == wanted


def test_the_reference_names_each_field_of_the_definitions() -> None:
    page = reference.api_page()
    described = re.compile(r"^ +(\w+):\n +type: .*\n +description: (?:>-\n +)?(\w+)", re.M)
    for plural in reference.KINDS:
        text = (ROOT / "crds" / f"{plural}.yaml").read_text()
        fields = [name for name, first in described.findall(text) if name == first]
        assert len(fields) >= 5
        for name in {*fields} - {*reference.COMMON, "spec", "status"}:
            assert f"`{name}`" in page, name
