# SPDX-License-Identifier: Apache-2.0
"""What is printed of a recorded program, letter by letter, and the names of its JSON.

``MEMPLACE_WRITE_GOLDEN=1 pytest …`` writes the files anew; read the difference before it is
committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from memplace.entries import ProcessName
from memplace.explain import Facts, Wish, explain
from memplace.explained import ContainerExplained, ContainerListed, ProcessExplained, Reading
from memplace.kinds import Mode, Policy, RegionKind
from memplace.matching import Matcher
from memplace.policy import plan
from memplace_agent.cli.columns import shorten_middle
from memplace_agent.cli.manifest import read_manifest
from memplace_agent.cli.screen import Screen
from memplace_agent.cli.table import container_lines, process_lines
from msgspec import structs

from tests.unit.agent_pkg import recordings

FOLDER = Path(__file__).parent / "data" / "inspect"
TIERS = {"cxl": frozenset({1}), "dram": frozenset({0})}
BIND = Policy(Mode.BIND, frozenset({0}))

MANIFEST = """\
apiVersion: memplace.dev/v1alpha1
kind: MemoryPlacement
metadata: {name: redis-values-on-cxl, namespace: cache}
spec:
  selector: {matchLabels: {app: redis}}
  rules:
  - name: io
    regions: [{type: Anonymous, name: "io-*"}]
    policy: {mode: PreferredMany, tiers: [dram]}
  - name: values
    regions: [{type: Heap, minSize: 1Mi}]
    policy: {mode: PreferredMany, tiers: [cxl]}
  - name: weights
    regions: [{type: File, path: "*/model.bin"}]
    policy: {mode: Interleave, tiers: [hbm]}
"""


def pages(region):
    """Half of what is writable is in memory, and a quarter of that far away."""
    if "w" not in region.permissions or region.kind is RegionKind.STACK:
        return {0: 4096} if region.permissions.startswith("r") else {}
    return {0: region.size // 2048 * 768 // 4096 * 4096 or 4096, 1: region.size // 8192 * 1024}


@pytest.fixture
def redis(tmp_path):
    recording = recordings.load("redis")
    regions = [r.holding({} if r.special else pages(r)) for r in recording.regions()]
    first = next(i for i, r in enumerate(regions) if r.kind is RegionKind.ANONYMOUS)
    regions[first] = structs.replace(regions[first], policy=BIND, own=True)
    (tmp_path / "m.yaml").write_text(MANIFEST)
    (placement,) = read_manifest(str(tmp_path / "m.yaml")).placements
    facts = Facts(
        pid=4711,
        name=ProcessName(recording.comm, recording.exe),
        regions=regions,
        allowed=frozenset({0, 1}),
        tiers=TIERS,
        reading=Reading(policies="NumaMaps", bytes="Exact"),
    )
    matcher = Matcher(placement.spec.rules)
    planned = plan(matcher, tiers=TIERS, allowed=facts.allowed, regions=regions, process=facts.name)
    return facts, Wish(placement.name, matcher, planned)


def compare(name, text):
    file = FOLDER / name
    if os.environ.get("MEMPLACE_WRITE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), f"{file.name}: it says something else by now"


@pytest.mark.parametrize("wide", [False, True])
def test_the_table_of_a_recorded_program(redis, wide):
    facts, wish = redis
    told = explain(facts, wish, 12)
    lines = list(process_lines(told, Screen(100, blocks=True), wide=wide))
    if not wide:
        assert max(map(len, lines)) <= 100
    compare(f"redis-{'wide' if wide else 'table'}.txt", "\n".join([*lines, ""]))


def test_the_table_without_rules_on_a_terminal_without_blocks(redis):
    facts, _ = redis
    lines = list(process_lines(explain(facts, None, 12), Screen(100, blocks=False), wide=False))
    text = "\n".join([*lines, ""])
    assert text.isascii() and max(map(len, lines)) <= 100
    compare("redis-plain.txt", text)


def test_the_names_of_the_json_are_an_interface():
    """Whoever renames one breaks programs of others: new ones may come, none may go."""
    schema = msgspec.json.schema(ContainerExplained)
    names = {
        struct: sorted(definition["properties"])
        for struct, definition in schema["$defs"].items()
        if "properties" in definition
    }
    text = "".join(f"{struct}: {' '.join(keys)}\n" for struct, keys in sorted(names.items()))
    compare("names.txt", text)


def test_a_container_is_shown_process_by_process(redis):
    facts, wish = redis
    about = ContainerListed(
        id="a",
        namespace="cache",
        pod="redis-0",
        container="redis",
        placement="redis-values-on-cxl",
        state="Moving",
        reason="Moving",
        message="rule values: Moving: 1 of 2 GiB",
    )
    told = ContainerExplained(
        about=about, processes=(explain(facts, wish, 5),) * 2, left_out=3, problems=("pid 9: gone",)
    )
    lines = list(container_lines(told, 2.4, Screen(), wide=False))
    assert lines[:3] == [
        "cache/redis-0/redis  placement redis-values-on-cxl: Moving",
        "  rule values: Moving: 1 of 2 GiB",
        "  as of 2 s ago",
    ]
    assert sum(line.startswith("redis-server  pid 4711") for line in lines) == 2
    assert "... and 3 processes with less memory" in lines and lines[-1] == "note: pid 9: gone"


def test_json_of_a_process_is_read_back_as_it_was(redis):
    told = explain(*redis)
    assert msgspec.json.decode(msgspec.json.encode(told), type=ProcessExplained) == told


@pytest.mark.parametrize(
    ("width", "short"), [(30, "/usr/lib/libc.so.6"), (12, "/us…ibc.so.6"), (3, "….6"), (1, "…")]
)
def test_long_names_are_shortened_in_the_middle(width, short):
    assert shorten_middle("/usr/lib/libc.so.6", width) == short
