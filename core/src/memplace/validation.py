# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a placement that neither its schema nor CEL can see."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from memplace.api import checks
from memplace.api.v1alpha1 import PlacementSpec, RegionEntry, Rule
from memplace.entries import compile_entry
from memplace.kinds import RegionKind


def problems(spec: PlacementSpec) -> tuple[str, ...]:
    """Return what is wrong with a spec; each says what to write instead.

    First what the CRD would refuse, then rules that can never win a region, because the
    rules before them, or their own exclude, take everything they match. Only certain
    cases are named: a pattern covers another when it is the same or ``*``.

    Returns:
        Sentences in the order of the fields; empty when all is well.
    """
    refused = tuple(f"{field}: {problem}" for field, problem in checks.placement_errors(spec))
    return refused or tuple(_pointless(spec.rules))


def _pointless(rules: tuple[Rule, ...]) -> Iterator[str]:
    for i, rule in enumerate(rules):
        if all(_covered(entry, rule.exclude) for entry in rule.regions):
            yield (
                f"spec.rules[{i}]: exclude of rule {rule.name} takes away everything its regions "
                "match: make exclude narrower, or remove the rule"
            )
            continue
        # A rule with an exclude lets some regions pass; which ones is not worth guessing.
        before = [earlier for earlier in rules[:i] if not earlier.exclude]
        taken = tuple(entry for earlier in before for entry in earlier.regions)
        if all(_covered(entry, taken) for entry in rule.regions):
            names = ", ".join(
                earlier.name
                for earlier in before
                if any(_covered(entry, earlier.regions) for entry in rule.regions)
            )
            yield (
                f"spec.rules[{i}]: rule {rule.name} can never win a region, since {names} before "
                "it takes everything it matches: put it first, or make the earlier rule narrower"
            )


def _covered(entry: RegionEntry, by: tuple[RegionEntry, ...]) -> bool:
    return any(_covers(wider, entry) for wider in by)


def _covers(wider: RegionEntry, entry: RegionEntry) -> bool:
    return (
        _permissions(wider) >= _permissions(entry)
        and _pattern_covers(wider.name, entry.name)
        and _pattern_covers(wider.path, entry.path)
        and _pattern_covers(wider.process, entry.process)
        and _sizes_cover(wider, entry)
    )


def _permissions(entry: RegionEntry) -> set[tuple[RegionKind, str]]:
    # The kinds of mappings, each with the permissions, that the entry may mean.
    compiled = compile_entry(entry)
    all_of_them = ("".join(letters) for letters in product("r-", "w-", "x-"))
    return {
        (kind, permissions)
        for permissions in all_of_them
        for kind in compiled.kinds
        if compiled.may_mean(kind, permissions)
    }


def _sizes_cover(wider: RegionEntry, entry: RegionEntry) -> bool:
    if wider.min_bytes == 0 and wider.max_bytes is None:
        return True
    # Sizes are of what the other keys mean: with other keys they are of something else.
    same = (entry.type, entry.name, entry.path, entry.permissions, entry.process)
    return (
        same == (wider.type, wider.name, wider.path, wider.permissions, wider.process)
        and wider.min_bytes <= entry.min_bytes
        and (
            wider.max_bytes is None
            or (entry.max_bytes is not None and entry.max_bytes <= wider.max_bytes)
        )
    )


def _pattern_covers(wider: str, pattern: str) -> bool:
    return wider in ("", "*", pattern)
