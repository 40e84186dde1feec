# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a placement that neither its schema nor CEL can see."""

from __future__ import annotations

from collections.abc import Iterator

from memplace.api import checks
from memplace.api.v1alpha1 import PlacementSpec, RegionEntry, Rule
from memplace.regions import covers


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
    return any(covers(wider, entry) for wider in by)
