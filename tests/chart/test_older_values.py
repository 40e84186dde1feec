# SPDX-License-Identifier: Apache-2.0
"""Values of an older chart, which --reuse-values brings: the refusal says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from memplace_lab.product.apiserver import ApiServer

from tests.support import ROOT
from tests.support.release.installing import Chart, Json
from tests.support.release.surviving import WHERE

CHART = ROOT / "charts" / "memplace"
# Handed on whole: nobody looks for a key in them.
HANDED_ON = {"resources", "nodeSelector", "labels"}


def sections(values: Json, before: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in HANDED_ON:
            yield before + key
            yield from sections(value, f"{before}{key}.")


SECTIONS = tuple(sections(yaml.safe_load((CHART / "values.yaml").read_text())))


@pytest.mark.parametrize("missing", SECTIONS)
def test_a_section_that_is_missing_is_named(chart: Chart, missing: str) -> None:
    # Setting a default to null is how Helm takes it out.
    done = chart.template(f"{missing}=null")
    assert done.returncode != 0
    assert f"the values have no {missing}. Are they those of an older chart" in done.stderr
    assert "--reset-then-reuse-values" in done.stderr


@pytest.mark.parametrize(
    "template", sorted((CHART / "templates").rglob("*.yaml")), ids=lambda path: path.name
)
def test_no_template_reads_values_before_it_has_looked(template: Path) -> None:
    assert template.read_text().splitlines()[1] == '{{- include "memplace.complete" . }}'


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Return a chart of the same name that has no section `metrics` yet."""
    folder = tmp_path / "memplace"
    (folder / "templates").mkdir(parents=True)
    shutil.copy(CHART / "Chart.yaml", folder)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    del values["metrics"]
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    level = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: level}\n"
    (folder / "templates" / "level.yaml").write_text(level + "data: {level: {{.Values.logLevel}}}")
    return folder


def test_an_upgrade_says_how_to_keep_values(clean: ApiServer, chart: Chart, older: Path) -> None:
    first = clean.helm("install", "memplace", older, *WHERE, "--set", "logLevel=debug")
    assert first.returncode == 0, first.stderr
    upgrade = ("upgrade", "memplace", chart.folder, *WHERE)
    refused = clean.helm(*upgrade, "--reuse-values")
    assert refused.returncode != 0
    assert "the values have no metrics. Are" in refused.stderr
    done = clean.helm(*upgrade, "--reset-then-reuse-values")
    assert done.returncode == 0, done.stderr
    found = clean.kubectl("get", "deployment", "memplace-operator", *WHERE, "--output=yaml")
    assert "value: debug" in found.stdout
