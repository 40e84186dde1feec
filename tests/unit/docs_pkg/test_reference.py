# SPDX-License-Identifier: Apache-2.0
"""Pages of docs/reference say what the sources say, and so does the cookbook."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from memplace_agent.settings import settings_from_env
from memplace_operator.settings import from_environment

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


class Asked(Mapping[str, str]):
    """An environment that remembers what it was asked for, and with which default."""

    def __init__(self, **given: str) -> None:
        self.given = given
        self.asked: dict[str, str] = {}

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.asked.setdefault(key, default or "")
        return self.given.get(key, default)

    def __getitem__(self, key: str) -> str:
        self.asked.setdefault(key, "")
        return self.given[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.given)

    def __len__(self) -> int:
        return len(self.given)


def rows(section: str) -> list[list[str]]:
    text = ENVIRONMENT.split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_has_each_variable_of_the_agent_and_its_default() -> None:
    asked = Asked(NODE_NAME="n")
    settings_from_env(asked)
    wanted = {name: default or "empty" for name, default in asked.asked.items()}
    assert {row[0]: row[1] for row in rows("The agent")} == wanted | {"NODE_NAME": "needed"}


def test_the_page_has_each_variable_of_the_operator_and_its_default() -> None:
    asked = Asked()
    from_environment(asked)
    wanted = {name: default or "empty" for name, default in asked.asked.items()}
    assert {row[0]: row[1] for row in rows("The operator")} == wanted


def test_no_variable_of_ours_is_read_that_the_page_does_not_have() -> None:
    read = {
        name for path in SOURCES for name in re.findall(r"\"(MEMPLACE_[A-Z_]+)\"", path.read_text())
    }
    said = {
        row[0] for section in ("The agent", "The operator", "Commands") for row in rows(section)
    }
    assert read == {name for name in said if name.startswith("MEMPLACE_")}


def test_a_value_that_the_page_names_is_one_of_the_chart() -> None:
    from tests.support.chart_readme import values

    known = {value.path for value in values()}
    named = {row[2] for section in ("The agent", "The operator") for row in rows(section)}
    assert {name for name in named if re.fullmatch(r"agent\.[A-Za-z.]+|logLevel", name)} <= known


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
