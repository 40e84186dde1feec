# SPDX-License-Identifier: Apache-2.0
"""Pages name tests that show what they say: each of them exists, under that name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/agent.md").read_text()
SECURITY = (ROOT / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/\S+?)::(\w+)`", PAGE + SECURITY)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_the_page_names_is_there(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.M)


def test_each_row_of_the_threats_names_one() -> None:
    rows = [
        line.strip("|").split("|")
        for line in PAGE.split("## Who could try what")[1].splitlines()
        if line.startswith("| ") and not line.startswith("| who |")
    ]
    assert len(rows) > 20
    for row in rows:
        assert "::" in row[3] or row[3].strip() == "the three before", row


def test_each_line_of_the_security_page_names_one_or_says_that_there_is_none() -> None:
    tables = SECURITY.split("## What the agent can do to a node")[1].split("## What the kernel")[0]
    rows = [line.strip("|").split("|") for line in tables.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[-1].strip() != "test"]
    assert len(rows) > 20
    for row in rows:
        assert "::" in row[-1] or row[-1].strip().startswith("none: "), row


@pytest.mark.parametrize("section", ["What it reads", "What it calls", "Who could try what"])
def test_what_is_done_outside_of_pods_is_said(section: str) -> None:
    assert "shim" in PAGE.split(f"## {section}")[1].split("\n## ")[0]


@pytest.mark.parametrize("capability", ["SYS_NICE", "SYS_PTRACE"])
def test_the_capabilities_are_those_of_the_chart(capability: str) -> None:
    assert capability in PAGE
    chart = (ROOT / "charts/memplace/templates/agent.yaml").read_text()
    assert "add: [SYS_NICE, SYS_PTRACE]" in chart
