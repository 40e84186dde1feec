# SPDX-License-Identifier: Apache-2.0
"""The schemas in docs/schemas, with the real kubeconform: what they accept and refuse."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from memplace_lab.product.apiserver import find_binaries

from tests.crd.accepted import ACCEPTED
from tests.crd.manifests import AGAINST_THE_SCHEMA, Json, one, placement, tier
from tests.support import ROOT
from tests.support.schemas import FOLDER, LOCATION

# The API server looks at labels, the definition doesn't.
BEYOND = {"label value that is none", "a node label that can't be"}

# Manifests by their names, to what kubeconform says of each; nothing if it accepts it.
Check = Callable[[dict[str, Json]], dict[str, str]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def run(manifests: dict[str, Json]) -> dict[str, str]:
        for name, found in manifests.items():
            (tmp_path / f"{name}.yaml").write_text(json.dumps(found))
        command = [str(find_binaries() / "kubeconform"), "-output=json", "-verbose", "-strict"]
        command += [f"-schema-location={FOLDER}/{LOCATION}", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        results = json.loads(done.stdout)["resources"]
        assert {found["status"] for found in results} <= {"statusValid", "statusInvalid"}, results
        assert len(results) == len(manifests)
        return {Path(found["filename"]).stem: found["msg"] for found in results}

    return run


def test_what_the_api_server_accepts_is_accepted(check: Check) -> None:
    said = check({f"{i}": placement(spec) for i, spec in enumerate(ACCEPTED.values())})
    assert set(said.values()) == {""}


def test_the_examples_are_accepted(check: Check) -> None:
    examples: dict[str, Any] = {}
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        for i, found in enumerate(yaml.safe_load_all(path.read_text())):
            if found["apiVersion"].startswith("memplace.dev/"):
                examples[f"{path.stem}-{i}"] = found
    assert len(examples) > 20
    assert {name: said for name, said in check(examples).items() if said} == {}


def test_what_the_schema_of_the_api_server_refuses_is_refused(check: Check) -> None:
    names = dict(enumerate(AGAINST_THE_SCHEMA))
    said = check({f"{i}": placement(AGAINST_THE_SCHEMA[name][0]) for i, name in names.items()})
    assert {names[int(i)] for i, words in said.items() if not words} == BEYOND


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (placement(one() | {"priorty": 1}), "priorty"),
        (placement(one() | {"mode": "Dry"}), "/spec/mode"),
        (tier("far", {"numaNode": [1]}), "numaNode"),
        (placement(one()) | {"apiVersion": "memplace.dev/v1alpha1", "spce": {}}, "spce"),
    ],
    ids=["a key", "a value", "a key of a tier", "a key beside spec"],
)
def test_it_says_what_is_wrong(check: Check, manifest: Json, words: str) -> None:
    assert words in check({"it": manifest})["it"]
