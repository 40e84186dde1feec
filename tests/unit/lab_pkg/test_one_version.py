# SPDX-License-Identifier: Apache-2.0
"""One version: all that is released together tells the same, and it is raised in one step."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import memplace
import pytest
import yaml
from memplace_agent.metrics import Metrics as AgentMetrics
from memplace_lab.base.steps import LabError
from memplace_lab.release import version
from memplace_operator.metrics import Metrics as OperatorMetrics

ROOT = Path(__file__).parents[3]
SHELLS = ("operator", "node-agent", "cli")


def project(tree: Path, package: str) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((tree / package / "pyproject.toml").read_text())[
        "project"
    ]
    return found


def all_told(tree: Path) -> Iterator[tuple[str, str]]:
    """Yield who tells a version, and which, as the programs that read these files do."""
    for package in (*SHELLS, "lab"):
        yield package, str(project(tree, package)["version"])
    for package in SHELLS:
        (core,) = re.findall(r"'memplace(\W.*?)'", str(project(tree, package)["dependencies"]))
        yield f"the core that {package} needs", core.removeprefix("==")
    chart = yaml.safe_load((tree / "charts/memplace/Chart.yaml").read_text())
    yield "chart", chart["version"]
    yield "the images that the chart starts", chart["appVersion"]
    (label,) = re.findall(r"^ARG VERSION=(.*)$", (tree / "Dockerfile").read_text(), re.M)
    yield "images", label
    yield "citation", yaml.safe_load((tree / "CITATION.cff").read_text())["version"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for file in {file for file, _ in version.PLACES}:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


@pytest.mark.parametrize(("who", "told"), list(all_told(ROOT)))
def test_all_tell_the_version_of_the_core(who: str, told: str) -> None:
    assert told == memplace.__version__ == version.told(ROOT)


def test_the_core_is_built_with_the_version_that_it_tells() -> None:
    settings = tomllib.loads((ROOT / "core/pyproject.toml").read_text())
    assert settings["project"]["dynamic"] == ["version"]
    assert f"core/{settings['tool']['hatch']['version']['path']}" == version.SOURCE


def test_both_programs_tell_it_in_their_metrics() -> None:
    agent = AgentMetrics()
    agent.build(memplace.__version__)
    for registry in (agent.registry, OperatorMetrics().registry):
        (build,) = (m for m in registry.collect() if m.name == "memplace_build_info")
        assert [sample.labels["version"] for sample in build.samples] == [memplace.__version__]


def test_raising_it_reaches_every_place(tree: Path) -> None:
    version.write(tree, "98.76.54")
    assert {told for _, told in all_told(tree)} == {"98.76.54"} == {version.told(tree)}


@pytest.mark.parametrize("wrong", ["", "1.2", "v1.2.3", "1.2.3rc1", "1.2.3-rc.1"])
def test_what_helm_and_python_read_differently_is_refused(tree: Path, wrong: str) -> None:
    with pytest.raises(LabError, match="three numbers"):
        version.write(tree, wrong)
    assert version.told(tree) == memplace.__version__


def test_nothing_is_written_if_a_place_is_missing(tree: Path) -> None:
    (tree / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(LabError, match="Dockerfile tells no version"):
        version.write(tree, "98.76.54")
    assert version.told(tree) == memplace.__version__
