# SPDX-License-Identifier: Apache-2.0
"""Which manifests plan takes, and what it says of those that are wrong."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.planner import Planner, manifest
from tests.cli.site import Memplace, Site

pytestmark = pytest.mark.timeout(60)


def test_by_standard_input(memplace: Memplace, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.run_pod("redis-0")
    site.node_report()
    text = yaml.safe_dump(manifest()).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    ran = memplace("plan", "-f", "-", "-n", site.namespace)
    assert ran.code == 0, ran.err
    assert "Comes Placed" in ran.flat


def test_what_the_core_refuses_is_said_in_its_words(plan: Planner, site: Site) -> None:
    rule = {"name": "heap", "regions": [{"type": "Heap"}], "policy": {"mode": "Bind"}}
    never = manifest("never")
    never["spec"]["rules"].append({**never["spec"]["rules"][0], "name": "again"})
    ran = plan(manifest(rules=[rule, rule]), never, manifest("typo", prioritty=3))
    assert ran.code == 2
    assert "this mode needs tiers: write for example tiers: [cxl]" in ran.flat
    assert "rule again can never win a region, since heap before it takes everything" in ran.flat
    assert "spec.prioritty: unknown field" in ran.flat
    assert "document 3)" in ran.flat
    assert "3 manifests would be refused; nothing was changed" in ran.flat


def test_what_only_the_api_server_refuses(plan: Planner, site: Site) -> None:
    bad = manifest()
    bad["metadata"] |= {"labels": {"a b": "c"}}
    ran = plan(bad)
    assert ran.code == 2
    assert "the API server would refuse it: " in ran.flat and "a b" in ran.flat
    nowhere = manifest()
    nowhere["metadata"]["namespace"] = "no-such-namespace"
    other = plan(nowhere)
    assert other.code == 2 and "and -n says" in other.flat


def test_a_namespace_that_is_not_there(memplace: Memplace, tmp_path: Path, site: Site) -> None:
    file = tmp_path / "it.yaml"
    file.write_text(yaml.safe_dump(manifest()))
    ran = memplace("plan", "-f", str(file), "-n", "no-such-namespace")
    assert ran.code == 2
    assert 'namespaces "no-such-namespace" not found' in ran.flat


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no YAML: while parsing"),
        ("", "no ClusterMemoryPlacement and no MemoryTier of memplace.dev/v1alpha1"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: p}", "has no MemoryPlacement"),
    ],
)
def test_a_file_that_is_no_manifest(plan: Planner, text: str, said: str) -> None:
    ran = plan.of_text(text)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err and len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("word", "a document is an object with apiVersion and kind, not str"),
        ({"apiVersion": "memplace.dev/v1alpha1", "kind": "MemoryPlacment"}, "can't be planned"),
        ({**manifest(), "apiVersion": "memplace.dev/v2"}, "write memplace.dev/v1alpha1, not"),
        ({**manifest(), "metadata": None}, "metadata.name: apply needs a name"),
        ({**manifest(), "spec": None}, "spec: expected an object, got nothing"),
        ({**manifest(), "spec": []}, "spec: expected an object, got list"),
    ],
    ids=["text", "kind", "version", "name", "nothing", "list"],
)
def test_wrong(plan: Planner, document: Any, said: str) -> None:
    ran = plan(document, manifest("well"))
    assert ran.code == 2
    assert said in ran.flat
    assert "/well would be created" in ran.flat


def test_other_kinds_are_left_aside_and_lists_taken_apart(plan: Planner, site: Site) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    both = {"apiVersion": "v1", "kind": "List", "items": [service, manifest()]}
    ran = plan(both)
    assert ran.code == 0, ran.out
    assert "not of memplace, left aside: " in ran.flat and "item 1: Service web" in ran.flat
    assert "NoPods: it would select no pod" in ran.flat
    assert "-> Compare spec.selector with the pods' labels" in ran.flat


def test_what_somebody_wrote_on_the_cluster_stays(plan: Planner, site: Site) -> None:
    site.place("values", paused=True)
    site.run_pod("redis-0")
    site.node_report()
    ran = plan(manifest())
    assert f"{site.namespace}/values would stay as it is" in ran.flat
    assert "stays as it is there, for the manifest does not name it: spec.paused: true" in ran.flat
    assert "redis Stays Paused" in ran.flat


def test_a_file_that_is_not_there_is_usage(memplace: Memplace, tmp_path: Path) -> None:
    ran = memplace("plan", "-f", str(tmp_path / "none"))
    assert ran.code == 2 and "can't be read: No such file" in ran.err
    assert memplace("plan").code == 2
    assert memplace("plan", "-f", "x", "-A").code == 2
