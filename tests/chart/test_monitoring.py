# SPDX-License-Identifier: Apache-2.0
"""Alerts and dashboard ask for what there is: the metrics of the reference, and their labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from memplace.reasons import FAILURES, PATIENT, Reason

ROOT = Path(__file__).parents[2]
FILES = ROOT / "charts/memplace/files"
REFERENCE = (ROOT / "docs/reference/metrics.md").read_text()
# What nobody looks at from day to day.
NOT_SHOWN = {
    "memplace_agent_policy_walks_total": "only on kernels that tell policies nowhere else",
    "memplace_agent_policy_walk_seconds_total": "the same; 1 % of the time of a process at most",
    "memplace_agent_nri_connected": "starts that are announced say the same",
    "memplace_agent_processes_gone_total": "it is normal",
    "memplace_agent_region_policies": "one process with too many is a reason of its placement",
    "memplace_operator_last_success_timestamp_seconds": "MemplaceOperatorStuck asks for it",
    "memplace_agent_shim_defaults": "what it is for shows in births that are inherited",
}
# What Prometheus and a PodMonitor add to every series, and what a histogram has.
TARGET_LABELS = {"namespace", "pod", "le"}
PARTS = ("_bucket", "_sum", "_count")
ROW = re.compile(r"^\| `(memplace_\w+)` \| (\w+) \|\s*(.*?)\s*\| (.*) \|$", re.MULTILINE)


def reference() -> dict[str, set[str]]:
    """Return the labels of each series that the reference promises."""
    found: dict[str, set[str]] = {}
    for name, kind, labels, _ in ROW.findall(REFERENCE):
        own = set(re.findall(r"`(\w+)`", labels)) | TARGET_LABELS
        for part in PARTS if kind == "histogram" else ("",):
            found[name + part] = own
    return found


SERIES = reference()


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FILES / "dashboard.json").read_text())
    return found


def queries() -> Iterator[Any]:
    for rule in alerts():
        yield pytest.param(rule["expr"], id=rule["alert"])
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")


@pytest.mark.parametrize("expression", tuple(queries()))
def test_a_query_asks_for_metrics_and_labels_that_exist(expression: str) -> None:
    names = re.findall(r"memplace_\w+", expression)
    assert names and set(names) <= SERIES.keys()
    labels = set().union(*(SERIES[name] for name in names))
    asked = re.findall(r'(\w+)\s*(?:=|!=|=~|!~)\s*"', expression)
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        asked += re.split(r",\s*", group)
    assert set(asked) <= labels
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_each_metric_is_shown_or_there_is_a_reason() -> None:
    panels = json.dumps([panel["targets"] for panel in dashboard()["panels"]])
    named = {name for name, *_ in ROW.findall(REFERENCE)}
    shown = {name for name in named if re.search(rf"{name}(?:{'|'.join(PARTS)})?\b", panels)}
    assert named - shown == NOT_SHOWN.keys()


def test_a_counter_is_never_read_as_it_is() -> None:
    for each in queries():
        (expression,) = each.values
        for name in re.findall(r"memplace_\w+_total", expression):
            assert re.search(rf"(?:rate|increase)\({name}(?:{{[^}}]*}})?\[", expression), expression


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_waits_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"[1-9][0-9]*[mh]", rule["for"])
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    text = " ".join(rule["annotations"].values())
    shown = set(re.findall(r"\$labels\.(\w+)", text))
    kept = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", rule["expr"]))))
    assert shown <= (kept or TARGET_LABELS)


def test_the_reasons_that_are_no_trouble_are_reasons() -> None:
    (rule,) = [r for r in alerts() if r["alert"] == "MemplacePlacementsFail"]
    named = re.findall(r'reason!~"([^"]*)"', rule["expr"])[0].split("|")
    # Those with which Degraded is False.
    fine = {Reason.PLACED, Reason.PLACED_BEST_EFFORT, Reason.OBSERVED, Reason.UNSUPPORTED}
    assert set(named) == fine | PATIENT
    assert not set(named) & FAILURES
    listed = (ROOT / "docs/reference/conditions.md").read_text()
    assert all(f"| `{reason}` |" in listed for reason in named)


@pytest.mark.parametrize("series", ["last_success_timestamp_seconds", "placements", "rollouts"])
def test_what_a_waiting_operator_shows_is_not_believed(series: str) -> None:
    for each in queries():
        (expression,) = each.values
        if f"memplace_operator_{series}" in expression and "absent" not in expression:
            assert "memplace_operator_leader == 1" in expression or "max by" in expression


def test_the_chart_renders_both_as_they_are(chart: Any) -> None:
    found = chart.render("prometheusRule.enabled=true", "dashboard.enabled=true")
    (rule,) = [o for o in found if o["kind"] == "PrometheusRule"]
    assert rule["spec"] == yaml.safe_load((FILES / "alerts.yaml").read_text())
    (config,) = [o for o in found if o["kind"] == "ConfigMap"]
    assert json.loads(config["data"]["memplace.json"]) == dashboard()
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_panels_are_whole_and_do_not_cover_each_other() -> None:
    found = dashboard()
    assert found["uid"] and found["schemaVersion"] >= 36
    variables = {each["name"] for each in found["templating"]["list"]}
    assert {p["datasource"]["uid"] for p in found["panels"]} == {"${datasource}"}
    assert set(re.findall(r"\$(\w+)", json.dumps(found["panels"]))) - variables == {
        "__rate_interval"
    }
    taken: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        assert panel["title"] and panel["description"] and panel["type"] in {"timeseries", "stat"}
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
