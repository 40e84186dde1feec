# SPDX-License-Identifier: Apache-2.0
"""What admins run on charts of others: kubeconform and kube-score, the real ones."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from memplace_lab.product.apiserver import ApiServer, find_binaries

from tests.support import ROOT
from tests.support.release.installing import HARDENED, KUBE_VERSION, Chart, Json
from tests.support.schemas import closed

# Go compiles kube-score the first time: a minute, or many beside other work.
pytestmark = pytest.mark.timeout(1500)

KUBE_SCORE = ["go", "-C", str(ROOT / "lab" / "lint"), "tool", "kube-score", "score"]

OPTIONS = {"defaults": [], "hardened": list(HARDENED)}
EVERY = {"DaemonSet/memplace-agent", "Deployment/memplace-operator", "Job/memplace-retire"}
WORKLOADS = EVERY | {"Pod/memplace-selftest"}

# What kube-score would have otherwise, where, and why the chart has it so.
ACCEPTED = {
    # A limit of processor time only causes delays; all have one of memory.
    "container-resources": WORKLOADS,
    # They write no files but their logs, which the kubelet rotates; a limit would evict an agent.
    "container-ephemeral-storage-request-and-limit": WORKLOADS,
    # Versions are not written anew; image.pullPolicy is a value, and so are digests.
    "container-image-pull-policy": WORKLOADS,
    # Reading any process of the node takes root, with few capabilities: docs/security.md.
    "container-security-context-user-group-id": {"DaemonSet/memplace-agent"},
}
# What a value changes, which not every cluster can have.
BY_DEFAULT = {
    "pod-networkpolicy": WORKLOADS,
    # One operator is enough: placements stay, and agents work, while it is away.
    "deployment-replicas": {"Deployment/memplace-operator"},
}


def findings(rendered: list[Json]) -> dict[str, set[str]]:
    """Return the checks that are not well, with the objects."""
    how = ["--output-format=json", f"--kubernetes-version=v{KUBE_VERSION.rpartition('.')[0]}", "-"]
    text = yaml.safe_dump_all(rendered)
    done = subprocess.run(
        [*KUBE_SCORE, *how], input=text, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    found: dict[str, set[str]] = {}
    for scored in json.loads(done.stdout):
        name = f"{scored['type_meta']['kind']}/{scored['object_meta']['name']}"
        for check in scored["checks"]:
            if not check["skipped"] and check["grade"] < 10:
                found.setdefault(check["check"]["id"], set()).add(name)
    return found


def test_kube_score_finds_what_is_meant_so(chart: Chart) -> None:
    assert findings(chart.render(*OPTIONS["hardened"])) == ACCEPTED
    assert findings(chart.render()) == ACCEPTED | BY_DEFAULT


@pytest.fixture(scope="module")
def served(prepared: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a schema of each kind that the API server serves, closed."""
    folder = tmp_path_factory.mktemp("schemas")
    for described in prepared.call("GET", "/openapi/v3").body["paths"].values():
        path, _, query = described["serverRelativeURL"].partition("?")
        parts = dict(part.split("=", 1) for part in query.split("&"))
        components = prepared.call("GET", path, **parts).body.get("components", {})
        schemas = {name: closed(each) for name, each in components.get("schemas", {}).items()}
        for file, name in _files(components.get("schemas", {})):
            whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
            (folder / file).write_text(json.dumps(whole))
    return folder


def _files(schemas: dict[str, Json]) -> Iterator[tuple[str, str]]:
    for name, schema in schemas.items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            group = f"{kind['group']}_" if kind["group"] else ""
            yield f"{group}{kind['version']}_{kind['kind'].lower()}.json", name


# Of the Prometheus operator, which no API server serves by itself.
OTHERS = {"PodMonitor", "PrometheusRule"}


def conform(folder: Path, rendered: list[Json]) -> dict[str, str]:
    """Return what kubeconform has against each object."""
    where = f"{folder}/{{{{if ne .Group .ResourceAPIVersion}}}}{{{{.Group}}}}_{{{{end}}}}"
    where += "{{.ResourceAPIVersion}}_{{.ResourceKind}}.json"
    command = [str(find_binaries() / "kubeconform"), "-strict", "-output=json", "-verbose"]
    command += [f"-schema-location={where}", "-"]
    text = yaml.safe_dump_all(o for o in rendered if o["kind"] not in OTHERS)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300)
    results = json.loads(done.stdout)["resources"]
    assert len(results) > 15
    return {
        f"{found['kind']}/{found['name']}": found["msg"]
        for found in results
        if found["status"] != "statusValid"
    }


@pytest.mark.parametrize("settings", OPTIONS.values(), ids=OPTIONS.keys())
def test_kubeconform_finds_nothing(served: Path, chart: Chart, settings: list[str]) -> None:
    assert conform(served, chart.render(*settings)) == {}


def test_kubeconform_would_find_a_key_that_is_none(served: Path, chart: Chart) -> None:
    rendered = chart.render()
    (found,) = [o for o in rendered if o["kind"] == "DaemonSet"]
    found["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    (words,) = conform(served, rendered).values()
    assert "imagePolicy" in words
