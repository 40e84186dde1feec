# SPDX-License-Identifier: Apache-2.0
"""What policies for Open Policy Agent say of the chart: those of trivy, evaluated by trivy."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from memplace_lab.base import go

from tests.support import ROOT
from tests.support.release.installing import HARDENED, Chart, Json

# Go compiles trivy's scanner the first time: a minute and a half, or many beside other work.
pytestmark = pytest.mark.timeout(1500)

# Its parser of JSON is one that Go 1.26 has on trial.
ENVIRONMENT = os.environ | go.environment() | {"GOEXPERIMENT": "jsonv2"}
TRIVY = ["go", "-C", str(ROOT / "lab" / "trivy"), "run", "."]

AGENT = "DaemonSet/memplace-agent"
OTHERS = {"Deployment/memplace-operator", "Job/memplace-retire", "Pod/memplace-selftest"}

# What these policies would have otherwise, where, and why the chart has it so.
ACCEPTED = {
    # Whom to trust is for the reader of image.registry to say.
    "KSV-0125": {AGENT} | OTHERS,
    # A limit of processor time only causes delays; all have one of memory.
    "KSV-0011": {AGENT} | OTHERS,
    # It asks the API server whether all agents report: the token is what it is for.
    "KSV-0036": {"Pod/memplace-selftest"},
    # It may delete one DaemonSet, by name: the agents', which would place memory again.
    "KSV-0048": {"Role/memplace-retire"},
    # Reading and placing the memory of any process of the node takes root, the node's process
    # ids, two capabilities and folders of the node: docs/security.md has what bounds each.
    "KSV-0010": {AGENT},  # hostPID
    "KSV-0012": {AGENT},  # not runAsNonRoot
    "KSV-0020": {AGENT},  # user 0
    "KSV-0021": {AGENT},  # group 0
    "KSV-0022": {AGENT},  # capabilities added
    "KSV-0023": {AGENT},  # hostPath
    "KSV-0105": {AGENT},  # user 0, as the restricted level has it
    "KSV-0106": {AGENT},  # capabilities added, as the restricted level has it
    "KSV-0118": {AGENT},  # each of its containers has a security context, the pod has none
}


def findings(rendered: list[Json], folder: Path) -> dict[str, set[str]]:
    """Return the checks that failed, with the objects."""
    folder.mkdir()
    for found in rendered:
        file = folder / f"{found['kind']}_{found['metadata']['name']}.yaml"
        file.write_text(yaml.safe_dump(found))
    ran = [*TRIVY, str(folder)]
    done = subprocess.run(ran, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["passed"] > 1000
    by_check: dict[str, set[str]] = {}
    for file, failed in results["failed"].items():
        for check in failed:
            by_check.setdefault(check, set()).add(Path(file).stem.replace("_", "/"))
    return by_check


def test_policies_find_what_is_meant_so(chart: Chart, tmp_path: Path) -> None:
    assert findings(chart.render(), tmp_path / "defaults") == ACCEPTED
    assert findings(chart.render(*HARDENED), tmp_path / "hardened") == ACCEPTED


def test_policies_would_find_a_privileged_container(chart: Chart, tmp_path: Path) -> None:
    rendered = chart.render()
    (found,) = [o for o in rendered if o["kind"] == "Deployment"]
    found["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"] = True
    more = findings(rendered, tmp_path / "privileged")
    assert "Deployment/memplace-operator" in more["KSV-0017"]
