# SPDX-License-Identifier: Apache-2.0
"""The manifests of docs/cookbook.md mean, of recorded programs, what the page says they mean.

`tests/crd/test_crds.py` applies all examples to a real API server.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from memplace.api.objects import parse_placement
from memplace.api.v1alpha1 import PlacementSpec
from memplace.entries import ProcessName
from memplace.future import explain_future, implied_future
from memplace.kinds import RegionKind
from memplace.matching import Matcher

from tests.unit.agent_pkg import recordings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/cookbook.md").read_text()
EXAMPLES = (
    "redis-on-cxl",
    "postgresql",
    "jvm",
    "language-model",
    "graph-analytics",
    "born-on-cxl",
)


def load(example: str) -> PlacementSpec:
    manifest = yaml.safe_load((ROOT / "examples" / f"{example}.yaml").read_text())
    manifest["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return parse_placement(manifest).spec


def mib(example: str, program: str) -> dict[tuple[str, str], int]:
    """MiB of address space that each rule gets, by kind of memory; less than 1 MiB is left out."""
    recording = recordings.load(program)
    regions = recording.regions()
    found: Counter[tuple[str, str]] = Counter()
    process = ProcessName(recording.comm, recording.exe)
    matches = Matcher(load(example).rules).match(regions, process)
    for region, match in zip(regions, matches, strict=True):
        if match.rule is not None:
            kind = "reserved" if region.permissions == "---" else region.kind.value
            found[match.rule.name, kind] += region.size
    return {key: size >> 20 for key, size in found.items() if size >> 20}


@pytest.mark.parametrize(
    ("example", "program", "wanted"),
    [
        ("redis-on-cxl", "redis", {("values", "Anonymous"): 54}),
        # shared_buffers of 128 MB, and what else lies in the same segment
        ("postgresql", "postgres", {("shared-buffers", "Shared"): 142}),
        (
            "postgresql",
            "postgres-backend",
            {
                ("shared-buffers", "Shared"): 142,
                ("backends", "Anonymous"): 73,
                ("backends", "Brk"): 2,
            },
        ),
        ("jvm", "java-g1", {("heap", "Anonymous"): 302, ("heap", "reserved"): 2280}),
        ("jvm", "java-serial", {("heap", "Anonymous"): 261, ("heap", "reserved"): 2089}),
        # -Xmx256m: a heap that is a memfd, and in the older one is seen three times
        (
            "jvm",
            "java-zgc",
            {("heap", "Anonymous"): 10, ("heap", "Shared"): 256, ("heap", "reserved"): 6117},
        ),
        (
            "jvm",
            "java-zgc-views",
            {("heap", "Anonymous"): 72, ("heap", "Shared"): 768, ("heap", "reserved"): 21959},
        ),
        # a matrix of 256 MiB
        ("language-model", "numpy", {("large-blocks", "Anonymous"): 256}),
        ("graph-analytics", "numpy", {}),
    ],
)
def test_a_rule_means_this_of_a_recorded_program(
    example: str, program: str, wanted: dict[tuple[str, str], int]
) -> None:
    assert mib(example, program) == wanted


@pytest.mark.parametrize("program", ["java-g1", "java-serial", "java-zgc", "postgres-backend"])
def test_code_and_stacks_and_the_files_of_programs_stay(program: str) -> None:
    example = "jvm" if program.startswith("java") else "postgresql"
    kinds = {kind for _, kind in mib(example, program)}
    assert not kinds & {RegionKind.STACK.value, RegionKind.FILE.value}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_page_says_what_is_so_from_the_first_page(example: str) -> None:
    said = re.findall(rf"examples/{example}\.yaml.*?newMemory: `([^`]+)`", PAGE, re.S)
    assert said
    assert said[0] == explain_future(implied_future(load(example).rules))
