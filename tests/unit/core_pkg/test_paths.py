# SPDX-License-Identifier: Apache-2.0
"""Where the API server has our objects."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from memplace.api.paths import OURS, Plural, path_of, placement_path

CRDS = Path(__file__).parents[3] / "crds"


def test_each_kind_has_the_definition_that_it_names() -> None:
    found = {yaml.safe_load(path.read_text())["metadata"]["name"] for path in CRDS.glob("*.yaml")}
    assert found == {plural.crd for plural in Plural}


@pytest.mark.parametrize(
    ("namespace", "name", "expected"),
    [
        ("", "", "memoryplacements"),
        ("cache", "", "namespaces/cache/memoryplacements"),
        ("cache", "mp", "namespaces/cache/memoryplacements/mp"),
    ],
)
def test_all_of_a_cluster_all_of_a_namespace_and_one(
    namespace: str, name: str, expected: str
) -> None:
    assert path_of(Plural.PLACEMENTS, namespace=namespace, name=name) == f"{OURS}/{expected}"


def test_a_placement_without_a_namespace_is_one_of_the_cluster() -> None:
    assert placement_path("", "mp") == f"{OURS}/clustermemoryplacements/mp"
    assert placement_path("cache", "mp") == f"{OURS}/namespaces/cache/memoryplacements/mp"
