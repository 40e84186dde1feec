# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses and accepts, and that the core agrees, manifest by manifest."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from memplace.api import checks
from memplace.api.objects import parse_placement, parse_tier
from memplace.errors import ValidationError

BASE = "/apis/memplace.dev/v1alpha1"
PLACEMENTS = f"{BASE}/namespaces/default/memoryplacements"
TIERS = f"{BASE}/memorytiers"

Json = dict[str, Any]


def policy(mode: str, *tiers: str) -> Json:
    return {"mode": mode, "tiers": list(tiers)} if tiers else {"mode": mode}


def rule(**changes: Any) -> Json:
    base: Json = {
        "name": "heap",
        "regions": [{"type": "Heap"}],
        "policy": policy("PreferredMany", "cxl"),
    }
    return base | changes


def one(**changes: Any) -> Json:
    return {"selector": {}, "rules": [rule(**changes)]}


def entry(**keys: Any) -> Json:
    return one(regions=[keys])


def expression(**keys: Any) -> Json:
    return {"selector": {"matchExpressions": [keys]}, "rules": [rule()]}


def placement(spec: Any) -> Json:
    meta = {"name": "x", "namespace": "default"}
    return {"apiVersion": "memplace.dev/v1alpha1", "kind": "MemoryPlacement"} | {
        "metadata": meta,
        "spec": spec,
    }


def tier(name: str, spec: Any) -> Json:
    return {"apiVersion": "memplace.dev/v1alpha1", "kind": "MemoryTier"} | {
        "metadata": {"name": name},
        "spec": spec,
    }


def stored(obj: Json) -> Json:
    """Give an object the metadata that the API server would."""
    given_by_server = {"uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return obj | {"metadata": obj["metadata"] | given_by_server}


def dry_run(api: Any, path: str, obj: Json) -> Any:
    return api.call("POST", path, obj, dryRun="All", fieldValidation="Strict")


# The field that is wrong, the words of the CEL rule; the core has to use the same ones.
AGAINST_A_RULE: dict[str, tuple[Json, str, str]] = {
    "no rules": ({"selector": {}, "rules": []}, "spec.rules", checks.NO_RULES),
    "two rules of one name": (
        {"selector": {}, "rules": [rule(), rule()]},
        "spec.rules",
        checks.SAME_RULE_NAME,
    ),
    "no containers": (one() | {"containers": []}, "spec.containers", checks.NO_CONTAINERS),
    "no regions": (one(regions=[]), "spec.rules[0].regions", checks.NO_REGIONS),
    **{
        f"{mode} without tiers": (
            one(policy=policy(mode)),
            "spec.rules[0].policy",
            checks.NEEDS_TIERS,
        )
        for mode in ("Bind", "Preferred", "PreferredMany", "Interleave", "WeightedInterleave")
    },
    "Bind with an empty list of tiers": (
        one(policy={"mode": "Bind", "tiers": []}),
        "spec.rules[0].policy",
        checks.NEEDS_TIERS,
    ),
    "Default with tiers": (
        one(policy=policy("Default", "cxl")),
        "spec.rules[0].policy",
        checks.TAKES_NO_TIERS,
    ),
    "Local with tiers": (
        one(policy=policy("Local", "cxl")),
        "spec.rules[0].policy",
        checks.TAKES_NO_TIERS,
    ),
    "Preferred with two tiers": (
        one(policy=policy("Preferred", "cxl", "dram")),
        "spec.rules[0].policy",
        checks.ONE_TIER,
    ),
    "Move with Default": (
        one(policy=policy("Default"), existingPages="Move"),
        "spec.rules[0]",
        checks.NOTHING_TO_MOVE,
    ),
    "Move with Local": (
        one(policy=policy("Local"), existingPages="Move"),
        "spec.rules[0]",
        checks.NOTHING_TO_MOVE,
    ),
    "name of a heap": (
        entry(type="Heap", name="x"),
        "spec.rules[0].regions[0]",
        checks.NAME_NEEDS_TYPE,
    ),
    "name of a file": (
        entry(type="File", name="x"),
        "spec.rules[0].regions[0]",
        checks.NAME_NEEDS_TYPE,
    ),
    "path of anonymous memory": (
        entry(type="Anonymous", path="/x"),
        "spec.rules[0].regions[0]",
        checks.PATH_NEEDS_TYPE,
    ),
    "path of a stack in exclude": (
        one(exclude=[{"type": "Stack", "path": "/x"}]),
        "spec.rules[0].exclude[0]",
        checks.PATH_NEEDS_TYPE,
    ),
    "path of brk": (
        entry(type="Brk", path="/x"),
        "spec.rules[0].regions[0]",
        checks.PATH_NEEDS_TYPE,
    ),
    "executable heap": (
        entry(type="Heap", permissions="rwx"),
        "spec.rules[0].regions[0]",
        checks.NEVER_EXECUTABLE,
    ),
    **{
        f"nine stars in {key}": (
            entry(type="Shared", **{key: "/*" * 9}),
            f"spec.rules[0].regions[0].{key}",
            checks.TOO_MANY_STARS,
        )
        for key in ("name", "path", "process")
    },
    **{
        f"maxBandwidth {text}": (
            one() | {"migration": {"maxBandwidth": text}},
            "spec.migration.maxBandwidth",
            words,
        )
        for text, words in (
            ("1048575", checks.BANDWIDTH_BOUNDS),
            ("1.000000001Ti", checks.BANDWIDTH_BOUNDS),
            ("200m", checks.NOT_A_SIZE),
            ("200MB/s", checks.NOT_A_SIZE),
        )
    },
    "path that can't match": (
        entry(type="File", path="model.bin"),
        "spec.rules[0].regions[0].path",
        checks.PATH_START,
    ),
    "minSize above maxSize": (
        entry(type="Anonymous", minSize="2Gi", maxSize="2000Mi"),
        "spec.rules[0].regions[0]",
        checks.MIN_ABOVE_MAX,
    ),
    "minSize a byte above maxSize": (
        entry(type="Anonymous", minSize="1025", maxSize="1Ki"),
        "spec.rules[0].regions[0]",
        checks.MIN_ABOVE_MAX,
    ),
    **{
        f"size {text}": (
            entry(type="Anonymous", minSize=text),
            "spec.rules[0].regions[0].minSize",
            checks.NOT_A_SIZE,
        )
        for text in (
            *("64m", "64mi", "-1", "1e9", "0x10", " 64Mi", "64Mi\n", "64 MB", "1.Mi", ".5Gi"),
            *("1024Pi", "1E", "1152921504606846976", "0.0000000001Ki", "9" * 32),
        )
    },
    "In without values": (
        expression(key="app", operator="In"),
        "spec.selector.matchExpressions[0]",
        checks.VALUES_NEEDED,
    ),
    "Exists with values": (
        expression(key="app", operator="Exists", values=["a"]),
        "spec.selector.matchExpressions[0]",
        checks.VALUES_FORBIDDEN,
    ),
}

# The field that is wrong, words of the API server's own message.
AGAINST_THE_SCHEMA: dict[str, tuple[Any, str, str]] = {
    "unknown mode": (
        one(policy=policy("Prefered", "cxl")),
        "spec.rules[0].policy.mode",
        'supported values: "Default", "Bind", "Preferred", "PreferredMany", '
        '"Interleave", "WeightedInterleave", "Local"',
    ),
    "unknown type": (
        entry(type="Stacks"),
        "spec.rules[0].regions[0].type",
        'supported values: "Heap", "Brk", "Anonymous", "Stack", "File", "Shared", "HugeTLB"',
    ),
    "unknown existingPages": (
        one(existingPages="Keep"),
        "spec.rules[0].existingPages",
        'supported values: "Move", "Leave"',
    ),
    "unknown operator": (
        expression(key="app", operator="Is"),
        "spec.selector.matchExpressions[0].operator",
        'supported values: "In"',
    ),
    "unknown field": (one() | {"rollout": {}}, "spec.rollout", "unknown field"),
    "unknown field of migration": (
        one() | {"migration": {"bandwidth": "1Gi"}},
        "spec.migration.bandwidth",
        "unknown field",
    ),
    "override in quotes": (
        one(override="true"),
        "spec.rules[0].override",
        "must be of type boolean",
    ),
    "permissions with the fourth letter": (
        entry(type="Heap", permissions="rw-p"),
        "spec.rules[0].regions[0].permissions",
        "may not be more than 3",
    ),
    "permissions out of order": (
        entry(type="Heap", permissions="wr-"),
        "spec.rules[0].regions[0].permissions",
        "should match",
    ),
    "unknown field of an entry": (
        entry(type="Heap", size="1Gi"),
        "spec.rules[0].regions[0].size",
        "unknown field",
    ),
    "no selector": ({"rules": [rule()]}, "spec", "spec.selector: Required value"),
    "no rules at all": ({"selector": {}}, "spec", "spec.rules: Required value"),
    "no mode": (one(policy={}), "spec.rules[0].policy", "policy.mode: Required value"),
    "no type": (entry(minSize="1"), "spec.rules[0].regions[0]", "regions[0].type: Required value"),
    "size without quotes": (
        entry(type="Heap", minSize=67108864),
        "spec.rules[0].regions[0].minSize",
        "must be of type string",
    ),
    "the same tier twice": (
        one(policy=policy("Bind", "cxl", "cxl")),
        "spec.rules[0].policy.tiers",
        "Duplicate value",
    ),
    "the same container twice": (
        one() | {"containers": ["a", "a"]},
        "spec.containers",
        "Duplicate value",
    ),
    "17 rules": (
        {"selector": {}, "rules": [rule(name=f"r{i}") for i in range(17)]},
        "spec.rules",
        "must have at most 16 items",
    ),
    "17 regions": (
        one(regions=[{"type": "Heap"}] * 17),
        "spec.rules[0].regions",
        "must have at most 16 items",
    ),
    "rule name in capitals": (one(name="Heap"), "spec.rules[0].name", "should match"),
    "rule name with a newline": (one(name="heap\n"), "spec.rules[0].name", "should match"),
    "tier name with a dot": (
        one(policy=policy("Bind", "a.b")),
        "spec.rules[0].policy.tiers[0]",
        "should match",
    ),
    "empty name": (
        entry(type="Anonymous", name=""),
        "spec.rules[0].regions[0].name",
        "should be at least 1 chars",
    ),
    "label value too long": (
        {"selector": {"matchLabels": {"app": "x" * 64}}, "rules": [rule()]},
        "spec.selector.matchLabels",
        "may not be more than 63",
    ),
    "rules is a map": ({"selector": {}, "rules": {}}, "spec.rules", "must be of type array"),
    "spec is a list": ([], "spec", "must be of type object"),
}

ACCEPTED: dict[str, Json] = {
    "smallest": one(),
    "everything": {
        "selector": {
            "matchLabels": {"app": "redis", "example.com/part": ""},
            "matchExpressions": [
                {"key": "a.b/c", "operator": "NotIn", "values": ["x", ""]},
                {"key": "d", "operator": "DoesNotExist", "values": []},
            ],
        },
        "containers": ["redis", "sidecar-1"],
        "rules": [
            rule(
                regions=[
                    {"type": "Anonymous", "name": "a*", "minSize": "1", "maxSize": "1.5Gi"},
                    {"type": "Shared", "name": "[x", "path": "/dev/shm/*"},
                    {"type": "File", "path": "*.so", "minSize": "1Ki", "maxSize": "1024"},
                ],
                exclude=[{"type": "HugeTLB", "minSize": "0", "path": "/mnt/*"}],
                existingPages="Leave",
                override=True,
            ),
            rule(
                name="code",
                regions=[
                    {"type": "Anonymous", "permissions": "r-x", "process": "*j*a*v*a*1*2*3*"},
                    {"type": "Heap", "permissions": "rw-"},
                ],
                override=False,
            ),
            rule(name="second", exclude=[], policy=policy("Preferred", "dram")),
            rule(name="third", policy=policy("Default"), existingPages="Leave"),
            rule(name="fourth", policy={"mode": "Local", "tiers": []}),
        ],
        "migration": {"maxBandwidth": "1Ti"},
    },
    "empty migration": one() | {"migration": {}},
    "slowest migration": one() | {"migration": {"maxBandwidth": "1048576"}},
    "16 rules": {"selector": {}, "rules": [rule(name=f"r{i}") for i in range(16)]},
    "largest size": entry(type="Heap", minSize="1", maxSize="1152921504606846975"),
    "fractions of bytes": entry(type="Heap", minSize="0.4", maxSize="0.500000001"),
}


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
        ('unknown field "spec.onUnsupported"', one() | {"onUnsupported": "Fail"}),
    ],
)
def test_what_a_user_of_kubectl_reads(api: Any, words: str, spec: Json) -> None:
    manifest = yaml.safe_dump(placement(spec))
    applied = api.kubectl("apply", "--dry-run=server", "-f", "-", stdin=manifest)
    assert applied.returncode != 0
    assert words in applied.stderr


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("other", {"numaNodes": [1]}, checks.TIER_NAME),
        ("a.b", {"numaNodes": [1]}, checks.TIER_NAME),
        ("a" * 64, {"numaNodes": [1]}, checks.TIER_NAME),
        ("far", {"numaNodes": []}, checks.NO_NUMA_NODES),
        ("far", {"numaNodes": [1], "nodeNames": []}, checks.NO_NODE_NAMES),
        ("far", {}, "Required value"),
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
