# SPDX-License-Identifier: Apache-2.0
"""Alerts and dashboard in a real Prometheus: they fire when they should, and show something."""

from __future__ import annotations

import math
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart import dashboard_picture, server
from tests.chart.alerting import CASES, unit_tests
from tests.chart.recording import STEPS
from tests.chart.server import UNTIL, asked, in_range, promtool
from tests.chart.test_monitoring import FILES, alerts, dashboard


def test_there_is_a_prometheus() -> None:
    missing = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    assert not missing, f"install Debian's package prometheus: {missing}"


def test_the_rules_are_rules(chart: Any, tmp_path: Path) -> None:
    (rendered,) = [
        found
        for found in chart.render("prometheusRule.enabled=true")
        if found["kind"] == "PrometheusRule"
    ]
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(rendered["spec"]))
    assert f"{len(alerts())} rules found" in promtool("check", "rules", rules)


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    tests = tmp_path / "tests.yaml"
    known = {rule["alert"]: rule for rule in alerts()}
    tests.write_text(yaml.safe_dump(unit_tests(str(FILES / "alerts.yaml"), known)))
    promtool("test", "rules", tests)


def test_each_alert_is_seen_to_fire_and_to_be_silent() -> None:
    seen: dict[str, set[bool]] = defaultdict(set)
    for case in CASES:
        seen[case.alert].add(case.labels is not None)
    assert dict(seen) == {rule["alert"]: {True, False} for rule in alerts()}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a Prometheus that has the recorded metrics."""
    with server.prometheus(tmp_path_factory.mktemp("prometheus")) as url:
        yield url


def targets() -> Iterator[Any]:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield pytest.param(target, id=f"{panel['title']}-{target['refId']}")


@pytest.mark.parametrize("target", tuple(targets()))
def test_a_panel_shows_something(prometheus: str, target: dict[str, Any]) -> None:
    found = in_range(prometheus, target["expr"], STEPS // 2)
    assert found, "no data"
    for series in found:
        assert any(math.isfinite(float(value)) for _, value in series["values"]), series
        # What the legend names is there, or a line has no name.
        wanted = {w.strip("{} ") for w in target.get("legendFormat", "").split() if "{{" in w}
        assert wanted <= series["metric"].keys()


def test_the_variables_have_values(prometheus: str) -> None:
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = variable["query"]["query"][len("label_values(") : -1].split(", ")
            found = asked(
                prometheus,
                f"/api/v1/label/{label}/values",
                **{"match[]": metric, "start": UNTIL - 600, "end": UNTIL},
            )
            assert found == ["memplace-system"]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_what_an_alert_asks_for_is_there(prometheus: str, rule: dict[str, Any]) -> None:
    def found(query: str) -> Any:
        return asked(prometheus, "/api/v1/query", query=query, time=UNTIL)["result"]

    # Each series alone: what is absent, or filtered away, does not show in the whole.
    selectors = re.findall(r"memplace_\w+(?:{[^}]*})?", rule["expr"])
    assert selectors and [each for each in selectors if not found(each)] == []
    # A threshold leaves nothing of what is well: what is compared has to be there.
    compared = rule["expr"].rpartition(" > ")[0]
    assert found(compared) if compared else rule["expr"].startswith("absent(")


def test_the_picture_is_what_the_dashboard_shows(prometheus: str) -> None:
    drawn = dashboard_picture.drawn(prometheus)
    assert dashboard_picture.PICTURE.read_text() == drawn, "run tests/chart/dashboard_picture.py"
