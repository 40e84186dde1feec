# SPDX-License-Identifier: Apache-2.0
"""Whether CRDs are of this version: those of the tree are, and without a field they are not."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from memplace.api.paths import Plural
from memplace_cli.crds import PLURALS, missing_fields

from tests.support.crds import load_crds

CRDS = {crd["spec"]["names"]["plural"]: crd for crd in load_crds()}


def fields(schema: dict[str, Any], at: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield each field below a schema: its path, the properties it is in, its name."""
    for name, field in schema.get("properties", {}).items():
        yield f"{at}.{name}", schema["properties"], name
        yield from fields(field, f"{at}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from fields(schema["items"], f"{at}[]")


def parts(crd: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    top = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return ((name, top[name]) for name in ("spec", "status") if name in top)


def test_all_kinds_are_known() -> None:
    assert CRDS.keys() == PLURALS


@pytest.mark.parametrize("plural", Plural)
def test_those_of_the_tree_lack_nothing(plural: Plural) -> None:
    assert missing_fields(plural, CRDS[plural]) == ()


@pytest.mark.parametrize("plural", Plural)
def test_each_field_that_is_missing_is_named(plural: Plural) -> None:
    paths = [path for name, part in parts(CRDS[plural]) for path, _, _ in fields(part, name)]
    assert len(paths) > 1
    unseen = []
    for path in paths:
        # YAML's anchors make parts of it one object.
        crd = copy.deepcopy(CRDS[plural])
        for name, part in parts(crd):
            where = {each: (within, last) for each, within, last in fields(part, name)}
            if path in where:
                within, last = where[path]
                del within[last]
        if path not in missing_fields(plural, crd):
            unseen.append(path)
    assert unseen == []


def test_a_crd_without_the_version_says_so() -> None:
    crd = copy.deepcopy(CRDS[Plural.TIERS])
    crd["spec"]["versions"][0]["name"] = "v1"
    assert missing_fields(Plural.TIERS, crd) == ("version v1alpha1",)
