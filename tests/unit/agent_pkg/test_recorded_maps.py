# SPDX-License-Identifier: Apache-2.0
"""Real programs, recorded: what their mappings are, and which rule gets them.

`data/maps.toml` has what was found by reading each recording; `tests/maps` makes new ones.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from memplace.api.v1alpha1 import PolicySpec, RegionEntry, Rule
from memplace.entries import ProcessName
from memplace.kinds import Mode, RegionKind
from memplace.matches import Match
from memplace.matching import Matcher
from memplace.regions import Region
from memplace_agent.procfs.kinds import thread_stacks

from tests.unit.agent_pkg import recordings

EXPECTED = tomllib.loads(recordings.FOLDER.with_suffix(".toml").read_text())
NAMES = recordings.names()
LIMIT = 60_000  # bytes of a recording


def rule(rule_name: str, kind: RegionKind, **keys: str) -> Rule:
    """A rule with one entry."""
    entry = RegionEntry(type=kind, **keys)
    return Rule(name=rule_name, regions=(entry,), policy=PolicySpec(mode=Mode.LOCAL))


# The first that matches wins.
RULES = (
    rule("stacks", RegionKind.STACK),
    rule("buffers", RegionKind.ANONYMOUS, name="io-*"),
    rule("go", RegionKind.ANONYMOUS, name="Go: heap"),
    rule("arenas", RegionKind.ANONYMOUS, name="glibc: malloc*"),
    rule("code", RegionKind.ANONYMOUS, permissions="rwx"),
    rule("large", RegionKind.HEAP, min_size="16Mi"),
    rule("heap", RegionKind.HEAP),
    rule("text", RegionKind.FILE, permissions="r-x"),
)


def kib_by_kind(regions: Iterable[Region]) -> dict[str, int]:
    """KiB of address space. Of private anonymous memory, what can be run and what is only
    set aside are kinds of their own: "code" and "reserved"."""
    sizes: Counter[str] = Counter()
    for region in regions:
        sizes[_kind(region)] += region.size >> 10
    return dict(sizes)


def _kind(region: Region) -> str:
    if region.special:
        return "special"
    if region.kind not in (RegionKind.BRK, RegionKind.ANONYMOUS):
        return region.kind.value
    if region.executable:
        return "code"
    return "reserved" if region.permissions == "---" else region.kind.value


def matches(recording: recordings.Recording, regions: list[Region]) -> list[Match]:
    """The rule of each region."""
    return Matcher(RULES).match(regions, ProcessName(recording.comm, recording.exe))


def kib_by_rule(recording: recordings.Recording, regions: list[Region]) -> dict[str, int]:
    """KiB of address space that each rule gets; "none" is what no rule wants."""
    sizes: Counter[str] = Counter()
    for region, match in zip(regions, matches(recording, regions), strict=True):
        sizes[match.rule.name if match.rule else "none"] += region.size >> 10
    return dict(sizes)


def test_each_recording_has_what_is_expected_of_it_and_no_other_program_is_expected() -> None:
    assert len(NAMES) >= 20
    assert sorted(EXPECTED) == NAMES


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def recording(name: str) -> recordings.Recording:
    return recordings.load(name)


@pytest.fixture
def regions(recording: recordings.Recording) -> list[Region]:
    return recording.regions()


def test_every_thread_s_stack_is_found_and_nothing_else_is_one(name, recording, regions):
    stacks = [region for region in regions if _kind(region) == "Stack"]
    usable = [region for region in stacks if region.permissions != "---"]
    elsewhere = [
        f"{thread} at {pointer:x}"
        for thread, pointer in recording.threads
        if not any(stack.start <= pointer < stack.end for stack in usable)
    ]
    expected = EXPECTED[name]
    found = (len(recording.threads), len(elsewhere), len(usable) - 1)
    wanted = (expected["threads"], expected.get("elsewhere", 0), expected["stacks"])
    assert found == wanted, (
        f"{recording.program}: {found[0]} threads, {found[2]} stacks beside the main one"
        f" (expected {wanted[2]}), {found[1]} threads on none (expected {wanted[1]}): {elsewhere}"
    )


def test_kinds_are_what_the_program_uses_the_memory_for(name, recording, regions):
    found, wanted = kib_by_kind(regions), EXPECTED[name]["kinds"]
    assert found == wanted, _difference(f"{recording.program}, KiB by kind", found, wanted)


def test_each_rule_gets_what_people_mean_by_it(name, recording, regions):
    found, wanted = kib_by_rule(recording, regions), EXPECTED[name]["rules"]
    assert found == wanted, _difference(f"{recording.program}, KiB by rule", found, wanted)


def _difference(what: str, found: dict[str, int], wanted: dict[str, int]) -> str:
    lines = (
        f"{key}: {found.get(key, 0)}, expected {wanted.get(key, 0)}"
        for key in sorted({*found, *wanted})
        if found.get(key) != wanted.get(key)
    )
    return "; ".join((what, *lines))


def test_the_mappings_that_are_known_have_their_kind_and_rule(name, recording, regions):
    found = {
        f"{region.start:x}": f"{region.kind} {_won(region, match)}"
        for region, match in zip(regions, matches(recording, regions), strict=True)
    }
    wanted = EXPECTED[name]["marks"]
    assert {address: found[address] for address in wanted} == wanted, recording.program


def _won(region: Region, match: Match) -> str:
    if region.special:
        assert match.rule is None
        return "special"
    return match.rule.name if match.rule else "none"


def test_what_can_be_run_is_never_heap(recording, regions):
    for region, match in zip(regions, matches(recording, regions), strict=True):
        if region.executable:
            assert match.rule is None or match.rule.name in ("code", "text"), hex(region.start)


def test_what_was_a_stack_once_stays_one(recording):
    once = thread_stacks(recording.mappings, recording.pointers)
    assert thread_stacks(recording.mappings, (), once) == once


def test_without_flags_stacks_in_use_are_found_and_no_heap_is_one(name, recording):
    known = thread_stacks(recording.mappings, recording.pointers)
    bare = [replace(mapping, flags="") for mapping in recording.mappings]
    found = thread_stacks(bare, recording.pointers)
    in_use = sum(mapping.permissions != "---" for mapping in bare if mapping.start in found)
    assert found <= known
    main = recording.mapping_at(recording.threads[0][1])
    main_is_elsewhere = main is None or main.path != "[stack]"
    others = len(recording.threads) - 1
    others_elsewhere = EXPECTED[name].get("elsewhere", 0) - main_is_elsewhere
    assert in_use == EXPECTED[name].get("without_flags", others - others_elsewhere)


def test_a_recording_is_small(name):
    assert (recordings.FOLDER / f"{name}.txt").stat().st_size < LIMIT
