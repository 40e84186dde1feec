# SPDX-License-Identifier: Apache-2.0
"""Manifests that the API server is to refuse, and why, or to accept."""

from __future__ import annotations

from typing import Any

from memplace.api import checks, patterns

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
    "the same tier twice": (
        one(policy=policy("Bind", "cxl", "cxl")),
        "spec.rules[0].policy.tiers",
        checks.TIER_TWICE,
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
        f"maxBandwidth {text!r}": (
            one() | {"migration": {"maxBandwidth": text}},
            "spec.migration.maxBandwidth",
            words,
        )
        for text, words in (
            ("1048575", checks.BANDWIDTH_BOUNDS),
            ("1.000000001Ti", checks.BANDWIDTH_BOUNDS),
            ("200m", checks.NOT_A_SIZE),
            ("200MB/s", checks.NOT_A_SIZE),
            (1048575, checks.BANDWIDTH_BOUNDS),
            ((1 << 40) + 1, checks.BANDWIDTH_BOUNDS),
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
        f"size {text!r}": (
            entry(type="Anonymous", minSize=text),
            "spec.rules[0].regions[0].minSize",
            checks.NOT_A_SIZE,
        )
        for text in (
            *("64m", "64mi", "-1", "1e9", "0x10", " 64Mi", "64Mi\n", "64 MB", "1.Mi", ".5Gi"),
            *("1024Pi", "1E", "1152921504606846976", "0.0000000001Ki", "9" * 32),
            *(-1, -67108864, 1 << 60, (1 << 63) - 1),
        )
    },
    "In without values": (
        expression(key="app", operator="In"),
        "spec.selector.matchExpressions[0]",
        checks.VALUES_NEEDED,
    ),
    **{
        f"matchLabels with key {key!r}": (
            {"selector": {"matchLabels": {"app": "a", key: "a"}}, "rules": [rule()]},
            "spec.selector.matchLabels",
            patterns.NOT_A_LABEL_KEY,
        )
        for key in ("not a key!", "", "-", "a/", "/a", "A/a", "a/b/c", "a" * 64, "a.b_")
    },
    **{
        f"maxNodes {nodes!r}": (
            one() | {"rollout": {"maxNodes": nodes}},
            "spec.rollout.maxNodes",
            checks.NODES_OR_SHARE,
        )
        for nodes in (0, -1, 100001, "0%", "101%", "10", "10 %", "1.5%", "")
    },
    **{
        f"permissions {text!r}": (
            entry(type="Heap", permissions=text),
            "spec.rules[0].regions[0].permissions",
            patterns.ADVICE[patterns.PERMISSIONS],
        )
        for text in ("", "rw", "rw-p", "wr-", "RW-", "rw-\n")
    },
    **{
        f"rule named {name!r}": (
            one(name=name),
            "spec.rules[0].name",
            patterns.ADVICE[patterns.DNS_LABEL],
        )
        for name in ("Heap", "heap\n", "-heap", "a.b")
    },
    "tier name with a dot": (
        one(policy=policy("Bind", "a.b")),
        "spec.rules[0].policy.tiers[0]",
        patterns.ADVICE[patterns.DNS_LABEL],
    ),
    "container with a blank": (
        one() | {"containers": ["a", "b c"]},
        "spec.containers[1]",
        patterns.ADVICE[patterns.DNS_LABEL],
    ),
    "expression with a bad key": (
        expression(key="/app", operator="Exists"),
        "spec.selector.matchExpressions[0].key",
        patterns.NOT_A_LABEL_KEY,
    ),
    "expression with a bad value": (
        expression(key="app", operator="In", values=["a", "-"]),
        "spec.selector.matchExpressions[0].values[1]",
        patterns.ADVICE[patterns.LABEL_VALUE],
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
    **{
        f"priority {priority}": (one() | {"priority": priority}, "spec.priority", words)
        for priority, words in (
            (1001, "should be less than or equal to 1000"),
            (-1001, "should be greater than or equal to -1000"),
            ("high", "must be of type integer"),
            (1.5, "must be of type integer"),
        )
    },
    "paused in words": (one() | {"paused": "yes"}, "spec.paused", "must be of type boolean"),
    "an unknown mode": (
        one() | {"mode": "Preview"},
        "spec.mode",
        'supported values: "Enforce", "DryRun"',
    ),
    "a node label that can't be": (
        one() | {"nodeSelector": {"not a key!": "x"}},
        "spec.nodeSelector",
        "no label can have such a key",
    ),
    "an unknown end": (
        one() | {"onDelete": "Delete"},
        "spec.onDelete",
        'supported values: "RestorePolicy", "RestorePages", "Leave"',
    ),
    "unknown field": (one() | {"roll": {}}, "spec.roll", "unknown field"),
    "a roll-out without a step": (
        one() | {"rollout": {}},
        "spec.rollout",
        "rollout.maxNodes: Required value",
    ),
    "a roll-out that holds on what is none": (
        one() | {"rollout": {"maxNodes": 1, "holdOn": ["Slow"]}},
        "spec.rollout.holdOn[0]",
        'supported values: "Failed", "AgentNotReporting", "MemoryPressure"',
    ),
    "a roll-out that holds twice": (
        one() | {"rollout": {"maxNodes": 1, "holdOn": ["Failed", "Failed"]}},
        "spec.rollout.holdOn",
        "Duplicate value",
    ),
    "a pause of more than a day": (
        one() | {"rollout": {"maxNodes": 1, "pauseSeconds": 86401}},
        "spec.rollout.pauseSeconds",
        "should be less than or equal to 86400",
    ),
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
    "unknown field of an entry": (
        entry(type="Heap", size="1Gi"),
        "spec.rules[0].regions[0].size",
        "unknown field",
    ),
    "no selector": ({"rules": [rule()]}, "spec", "spec.selector: Required value"),
    "no rules at all": ({"selector": {}}, "spec", "spec.rules: Required value"),
    "no mode": (one(policy={}), "spec.rules[0].policy", "policy.mode: Required value"),
    "no type": (entry(minSize="1"), "spec.rules[0].regions[0]", "regions[0].type: Required value"),
    "a size that is no number": (
        entry(type="Heap", minSize=True),
        "spec.rules[0].regions[0].minSize",
        "must be of type integer,string",
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
    "label value that is none": (
        {"selector": {"matchLabels": {"app": "-"}}, "rules": [rule()]},
        "spec.selector.matchLabels",
        patterns.ADVICE[patterns.LABEL_VALUE],
    ),
    "rules is a map": ({"selector": {}, "rules": {}}, "spec.rules", "must be of type array"),
    "spec is a list": ([], "spec", "must be of type object"),
}
