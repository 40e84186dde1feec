# SPDX-License-Identifier: Apache-2.0
"""What an object is after apply, and the patch that makes it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from memplace_cli.merging import applied, changes, kept, merge_patch

KEY = "kubectl.kubernetes.io/last-applied-configuration"


def live(spec: dict[str, Any], last: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"metadata": {"name": "p"}, "spec": spec}
    if last is not None:
        found["metadata"]["annotations"] = {KEY: json.dumps({"spec": last})}
    return found


def test_what_an_earlier_apply_named_goes_and_what_others_wrote_stays() -> None:
    there = live({"priority": 7, "paused": True, "rules": [1]}, {"priority": 7, "rules": [1]})
    manifest = {"spec": {"rules": [2]}}
    assert applied(there, manifest) == {"paused": True, "rules": [2]}
    assert kept(there, manifest) == ("spec.paused: true",)


def test_without_a_word_of_an_earlier_apply_all_stays() -> None:
    there = live({"priority": 7, "mode": "DryRun"})
    assert applied(there, {"spec": {"priority": 8}}) == {"priority": 8, "mode": "DryRun"}
    assert applied(live({"a": 1}, None) | {"metadata": {"annotations": {KEY: "["}}}, {}) == {"a": 1}


def test_objects_merge_and_lists_do_not() -> None:
    last = {"selector": {"matchLabels": {"a": "1", "b": "2"}}, "containers": ["x", "y"]}
    wanted = {"spec": {"selector": {"matchLabels": {"a": "1"}}, "containers": ["x"]}}
    there = live({**last, "selector": {"matchLabels": {"a": "1", "b": "2", "c": "3"}}}, last)
    assert applied(there, wanted) == {
        "selector": {"matchLabels": {"a": "1", "c": "3"}},
        "containers": ["x"],
    }


def test_changes_are_told_field_by_field() -> None:
    before = {"priority": 0, "selector": {"matchLabels": {"app": "a"}}, "old": 1}
    after = {"priority": 9, "selector": {"matchLabels": {"app": "b"}}, "rules": ["x" * 99]}
    assert changes(before, after) == (
        "spec.old: 1 -> (not set)",
        "spec.priority: 0 -> 9",
        'spec.rules: (not set) -> ["' + "x" * 55 + "...",
        "spec.selector.matchLabels.app: a -> b",
    )


def test_rules_are_told_by_their_names() -> None:
    heap, stack = {"name": "heap", "tiers": ["cxl"]}, {"name": "stack", "tiers": ["dram"]}
    new = {"name": "heap", "tiers": ["cxl", "dram"]}
    assert changes({"rules": [stack, heap]}, {"rules": [new]}) == (
        'spec.rules[stack]: {"name": "stack", "tiers": ["dram"]} -> (not set)',
        'spec.rules[heap].tiers: ["cxl"] -> ["cxl", "dram"]',
    )
    moved = changes({"rules": [stack, heap]}, {"rules": [heap, stack]})
    assert moved == ("spec.rules: in another order",)
    assert len(changes({"rules": [heap, heap]}, {"rules": [heap]})) == 1


values = st.recursive(
    st.one_of(st.booleans(), st.integers(0, 3), st.lists(st.integers(0, 2), max_size=2)),
    lambda below: st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=6,
)
specs = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def patched(value: Any, patch: Any) -> Any:
    """Apply a merge patch as RFC 7386 has it."""
    if not isinstance(patch, dict):
        return patch
    found = dict(value) if isinstance(value, dict) else {}
    for key, each in patch.items():
        if each is None:
            found.pop(key, None)
        else:
            found[key] = patched(found.get(key), each)
    return found


@given(specs, specs)
def test_a_patch_makes_the_one_of_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = merge_patch(before, after)
    assert patched(before, patch) == after
    assert bool(patch) == (before != after) == bool(changes(before, after))


@given(specs, specs)
def test_to_apply_twice_changes_nothing(there: dict[str, Any], wanted: dict[str, Any]) -> None:
    once = applied(live(there, {}), {"spec": wanted})
    assert applied(live(once, wanted), {"spec": wanted}) == once
    assert applied(live(there, there), {"spec": wanted}) == wanted
