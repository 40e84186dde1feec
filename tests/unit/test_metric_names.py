# SPDX-License-Identifier: Apache-2.0
"""The names, types and labels of all metrics: people write queries and alerts with them."""

import re
from pathlib import Path

import pytest
from memplace_agent.metrics import Metrics as AgentMetrics
from memplace_operator.metrics import Metrics as OperatorMetrics
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/metrics.md"
Row = tuple[str, str, str]


def rows_of(registry: CollectorRegistry) -> set[Row]:
    """Return name, type and labels of each metric that is memplace's own."""
    found = {c for c in registry._collector_to_names if isinstance(c, MetricWrapperBase)}
    return {_row(metric) for metric in found}


def _row(metric: MetricWrapperBase) -> Row:
    total = "_total" if metric._type == "counter" else ""
    labels = ", ".join(f"`{name}`" for name in metric._labelnames)
    return f"`{metric._name}{total}`", str(metric._type), labels


def rows_of_page(component: str) -> list[Row]:
    section = PAGE.read_text().split(f"## {component}\n")[1].split("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return [(name.strip(), type_.strip(), labels.strip()) for name, type_, labels, _ in cells]


@pytest.mark.parametrize(
    ("component", "registry"),
    [("The agent", AgentMetrics().registry), ("The operator", OperatorMetrics().registry)],
)
def test_the_page_has_each_metric_once(component: str, registry: CollectorRegistry) -> None:
    assert sorted(rows_of_page(component)) == sorted(rows_of(registry))


@pytest.mark.parametrize("name", re.findall(r"^\| `(\w+)`", PAGE.read_text(), re.M))
def test_a_name_is_found_in_the_code(name: str) -> None:
    sources = [*(ROOT / "operator/src").rglob("*.py"), *(ROOT / "node-agent/src").rglob("*.py")]
    assert any(f'"{name}"' in path.read_text() for path in sources)


# A metric that no test looks at is still to be set somewhere.
@pytest.mark.parametrize(
    ("package", "metrics"),
    [("node-agent", AgentMetrics()), ("operator", OperatorMetrics())],
    ids=["agent", "operator"],
)
def test_each_metric_is_set_somewhere(package: str, metrics: object) -> None:
    named = {name for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)}
    sources = [
        path.read_text()
        for path in (ROOT / package / "src").rglob("*.py")
        if path.name != "metrics.py"
    ]
    # _build is set by Metrics.build().
    unset = {
        name
        for name in named - {"_build"}
        if not any(re.search(rf"metrics\b(?:\(\))?\.{name}\b", text) for text in sources)
    }
    assert named and not unset


def test_both_components_say_which_they_are() -> None:
    agent, operator = AgentMetrics(), OperatorMetrics()
    agent.build("1")
    for registry, component in ((agent.registry, "agent"), (operator.registry, "operator")):
        (build,) = (m for m in registry.collect() if m.name == "memplace_build_info")
        assert [sample.labels["component"] for sample in build.samples] == [component]
