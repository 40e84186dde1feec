# SPDX-License-Identifier: Apache-2.0
"""Manifests for `inspect`: what is wrong with one is said with file and line."""

from __future__ import annotations

from itertools import pairwise

import pytest
from memplace_agent.cli.errors import CommandFailed, Exit
from memplace_agent.cli.manifest import read_manifest

PLACEMENT = """\
apiVersion: memplace.dev/v1alpha1
kind: MemoryPlacement
metadata: {name: mp, labels: {a: b}, annotations: {}}
spec:
  selector: {matchLabels: {app: x}}
  rules:
  - name: heap
    regions:
    - {type: Heap}
    - type: Anonymous
      minSize: 1Mi
    policy: {mode: PreferredMany, tiers: [cxl]}
"""
TIER = """\
apiVersion: memplace.dev/v1alpha1
kind: MemoryTier
metadata: {name: far}
spec: {numaNodes: [1]}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "m.yaml").write_bytes(data)
        return "m.yaml"

    return write


def problem(name):
    with pytest.raises(CommandFailed) as caught:
        read_manifest(name)
    assert caught.value.status is Exit.USAGE
    return str(caught.value)


def test_several_documents_are_read_and_others_than_ours_are_skipped_aloud(write):
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
    found = read_manifest(write(f"---\n---\n{PLACEMENT}---\n{TIER}---\n{pod}"))
    assert [p.name for p in found.placements] == ["mp"]
    assert [(t.name, t.spec.numa_nodes) for t in found.tiers] == [("far", (1,))]
    assert found.warnings == ["m.yaml:22: kind 'Pod' is skipped"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("type: Heap", "type: Hep"), "m.yaml:9: spec.rules[0].regions[0].type: Invalid enum"),
        (("minSize: 1Mi", "minSize: 1mb"), "m.yaml:11: spec.rules[0].regions[1].minSize: write a"),
        (("minSize: 1Mi", "minsize: 1Mi"), "m.yaml:11: spec.rules[0].regions[1].minsize: unknown"),
        (("mode: PreferredMany", "mode: Local"), "m.yaml:12: spec.rules[0].policy: modes Default"),
        (("policy: {", "policy: ["), "m.yaml:12: not YAML: "),
        (("name: heap", "name: heap\n    name: heap"), "m.yaml:8: spec.rules[0].name is written"),
        (("v1alpha1", "v1"), "m.yaml:1: apiVersion: write memplace.dev/v1alpha1, not"),
        (("{name: mp,", "{nme: mp,"), "m.yaml:3: metadata: metadata.name is missing"),
        (("metadata:", "? [a]\n: b\nmetadata:"), "m.yaml:3: a key has to be a word"),
        (("minSize: 1Mi", "minSize: 2026-01-01"), "m.yaml:11: spec.rules[0].regions[1].minSize"),
        (("app: x", "app: 1"), "m.yaml:5: spec.selector.matchLabels[...]: Expected `str`"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(write, change, said):
    text = PLACEMENT.replace(*change)
    assert text != PLACEMENT
    assert problem(write(text)).startswith(said)


def test_a_rule_that_can_never_win_is_told_with_its_line(write):
    again = "  - {name: again, regions: [{type: Heap}], policy: {mode: Local}}\n"
    found = read_manifest(write(PLACEMENT + again))
    assert [w[:28] for w in found.warnings] == ["m.yaml:13: spec.rules[1]: ru"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xff\xfe\x00", "m.yaml:1: not UTF-8"),
        ("just words", "m.yaml:1: not an object"),
        ("- 1\n", "m.yaml:1: not an object"),
        ("\x00", "m.yaml: not YAML"),
        ("a: !!python/object:os.system {}\n", "m.yaml:1: kind None"),
        ("[" * 1200, "m.yaml: it is nested too deeply"),
        ("a: &a [*a]\n", "m.yaml: it is nested too deeply"),
        ("x" * (1 << 20) + "y", "m.yaml: it is larger than 1 MiB"),
    ],
)
def test_garbage_is_refused(write, text, said):
    name = write(text)
    if said.endswith("kind None"):
        assert read_manifest(name).warnings == [f"{said} is skipped"]
    else:
        assert problem(name).startswith(said)


def test_a_few_lines_that_stand_for_gigabytes_are_refused(write):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    names = "abcdefghij"
    for before, name in pairwise(names):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    assert "stands for more than 100,000 values" in problem(write("\n".join(lines)))


def test_a_file_that_is_not_there_is_said(write):
    assert problem("nowhere.yaml") == "nowhere.yaml: no such file or directory"


def test_one_of_the_cluster_is_read_as_the_others_are(write):
    text = PLACEMENT.replace("kind: Memory", "kind: ClusterMemory")
    of_all = text.replace("spec:\n", "spec:\n  namespaceSelector: {}\n  enforced: true\n")
    (found,) = read_manifest(write(of_all)).placements
    assert found.is_cluster and found.title == "cluster placement mp"
    assert "m.yaml:4: spec: " in problem(write(text))
