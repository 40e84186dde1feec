# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses and accepts, and that the core agrees, manifest by manifest."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from memplace.api import checks, patterns
from memplace.api.objects import parse_placement, parse_tier
from memplace.errors import ValidationError

from tests.crd.accepted import ACCEPTED
from tests.crd.manifests import (
    AGAINST_A_RULE,
    AGAINST_THE_SCHEMA,
    PLACEMENTS,
    TIERS,
    Json,
    entry,
    one,
    placement,
    policy,
    rule,
    stored,
    tier,
)


def dry_run(api: Any, path: str, obj: Json) -> Any:
    return api.call("POST", path, obj, dryRun="All", fieldValidation="Strict")


@pytest.mark.parametrize("case", AGAINST_A_RULE.values(), ids=AGAINST_A_RULE.keys())
def test_refused_by_a_rule_of_ours_in_the_same_words(api: Any, case: tuple[Json, str, str]) -> None:
    spec, field, words = case
    answer = dry_run(api, PLACEMENTS, placement(spec))
    assert answer.status == 422
    assert f"{field}: Invalid value" in answer.message
    assert words in answer.message
    with pytest.raises(ValidationError) as refused:
        parse_placement(stored(placement(spec)))
    assert (refused.value.field, refused.value.problem) == (field, words)


@pytest.mark.parametrize("case", AGAINST_THE_SCHEMA.values(), ids=AGAINST_THE_SCHEMA.keys())
def test_refused_by_the_schema(api: Any, case: tuple[Any, str, str]) -> None:
    spec, field, words = case
    answer = dry_run(api, PLACEMENTS, placement(spec))
    assert answer.status in (400, 422)
    assert field in answer.message
    assert words in answer.message
    with pytest.raises(ValidationError) as refused:
        parse_placement(stored(placement(spec)))
    assert refused.value.field.startswith(field) or field.startswith(refused.value.field)


@pytest.mark.parametrize("spec", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(api: Any, spec: Json) -> None:
    answer = dry_run(api, PLACEMENTS, placement(spec))
    assert answer.ok, answer.message
    assert answer.body["spec"] == spec  # nothing is defaulted or dropped behind the user's back
    parse_placement(answer.body)


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        (checks.NEEDS_TIERS, one(policy=policy("Bind"))),
        ('supported values: "Default", "Bind"', one(policy=policy("Prefered", "cxl"))),
        ("write at least one rule", {"selector": {}, "rules": []}),
        ("swap them", entry(type="Heap", minSize="2Gi", maxSize="1Gi")),
        ("give each rule a name of its own", {"selector": {}, "rules": [rule(), rule()]}),
        ('unknown field "spec.onUnknown"', one() | {"onUnknown": "Fail"}),
        (
            'supported values: "Fail", "BestEffort", "Observe"',
            one() | {"onUnsupported": "Ignore"},
        ),
    ],
)
def test_what_a_user_of_kubectl_reads(api: Any, words: str, spec: Json) -> None:
    manifest = yaml.safe_dump(placement(spec))
    applied = api.kubectl("apply", "--dry-run=server", "-f", "-", stdin=manifest)
    assert applied.returncode != 0
    assert words in applied.stderr


def limits(namespace: str, size: str | int) -> Json:
    return {"namespaceLimits": [{"namespace": namespace, "perNode": size}]}


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("other", {"numaNodes": [1]}, checks.TIER_NAME),
        ("a.b", {"numaNodes": [1]}, checks.TIER_NAME),
        ("a" * 64, {"numaNodes": [1]}, checks.TIER_NAME),
        ("far", {"numaNodes": []}, checks.NO_NUMA_NODES),
        ("far", {"numaNodes": [1], "nodeNames": []}, checks.NO_NODE_NAMES),
        ("far", {"numaNodes": [1], "nodeSelector": {}}, checks.EMPTY_NODE_SELECTOR),
        ("far", {"numaNodes": [1], "nodeSelector": {"a key": "x"}}, patterns.NOT_A_LABEL_KEY),
        (
            "far",
            {"numaNodes": [1], "nodeNames": ["a"], "nodeSelector": {"a": "b"}},
            checks.NAMES_OR_LABELS,
        ),
        ("far", {}, checks.NOTHING_SAID),
        ("far", {"nodeNames": ["a"]}, checks.NOTHING_SAID),
        ("far", {"namespaceLimits": []}, checks.NO_LIMITS),
        ("dram", limits("a", "1Gi"), checks.DRAM_HAS_NO_LIMIT),
        ("far", limits("A", "1Gi"), checks.NOT_A_NAMESPACE),
        ("far", limits("a*", "1Gi"), checks.NOT_A_NAMESPACE),
        ("far", limits("a" * 64, "1Gi"), "Too long"),
        ("far", {"namespaceLimits": [{"namespace": "a"}]}, "Required value"),
        ("far", {"namespaceLimits": [{"perNode": "1Gi"}]}, "Required value"),
        *(
            ("far", limits("a", size), checks.NOT_A_LIMIT)
            for size in ("101%", "1.5%", "-1%", "07%", "%", 25, "25", "1Ki", "1024Pi", -1, "1e9")
        ),
        (
            "far",
            {"namespaceLimits": [{"namespace": "a", "perNode": "1%"}] * 2},
            "Duplicate value",
        ),
        (
            "far",
            {"namespaceLimits": [{"namespace": "a", "perNode": "1%", "burst": 1}]},
            "unknown field",
        ),
        ("far", {"numaNodes": [1, 1]}, "Duplicate value"),
        ("far", {"numaNodes": [-1]}, "greater than or equal to 0"),
        ("far", {"numaNodes": [1024]}, "less than or equal to 1023"),
        ("far", {"numaNodes": [1], "nodeNames": ["a", "a"]}, "Duplicate value"),
        ("far", {"numaNodes": [1], "size": 1}, "unknown field"),
    ],
)
def test_refused_tiers(api: Any, name: str, spec: Json, words: str) -> None:
    answer = dry_run(api, TIERS, tier(name, spec))
    assert answer.status in (400, 422)
    assert words in answer.message
    with pytest.raises(ValidationError):
        parse_tier(stored(tier(name, spec)))


def test_accepted_tier(api: Any) -> None:
    spec = {"numaNodes": [0, 1023], "nodeNames": ["a"], "description": "far"}
    answer = dry_run(api, TIERS, tier("a" * 63, spec))
    assert answer.ok, answer.message
    assert parse_tier(answer.body).spec.numa_nodes == (0, 1023)


def test_accepted_tier_of_a_pool(api: Any) -> None:
    spec = {"numaNodes": [1], "nodeSelector": {"example.com/pool": "cxl", "b": ""}}
    answer = dry_run(api, TIERS, tier("far", spec))
    assert answer.ok, answer.message
    assert parse_tier(answer.body).spec.covers("n", {"example.com/pool": "cxl", "b": ""})


@pytest.mark.parametrize(
    ("size", "allowed"),
    [
        ("0", 0),
        (0, 0),
        ("0%", 0),
        ("25%", 4 << 30),
        ("100%", 16 << 30),
        ("1Mi", 1 << 20),
        (1 << 20, 1 << 20),
        ("1.5Gi", 3 << 29),
    ],
)
def test_accepted_limits(api: Any, size: str | int, allowed: int) -> None:
    spec = limits("team-a", size)
    spec["namespaceLimits"].append({"namespace": "*", "perNode": "1%"})
    answer = dry_run(api, TIERS, tier("cxl", spec))
    assert answer.ok, answer.message
    assert answer.body["spec"] == spec
    parsed = parse_tier(answer.body).spec
    limit = parsed.limit_of("team-a")
    assert limit is not None and limit.bytes_of(16 << 30) == allowed
    other = parsed.limit_of("team-b")
    assert other is not None and other.namespace == "*"


def test_as_many_limits_as_there_may_be(api: Any) -> None:
    entries = [{"namespace": f"{'n' * 59}-{i:03}", "perNode": "1.123456789Gi"} for i in range(256)]
    answer = dry_run(api, TIERS, tier("far", {"numaNodes": [1], "namespaceLimits": entries}))
    assert answer.ok, answer.message
