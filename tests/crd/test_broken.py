# SPDX-License-Identifier: Apache-2.0
"""A thousand objects with one thing wrong: each is refused with a sentence that helps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from memplace.api import v1alpha1 as v1
from memplace.api.convert import to_builtins

from tests.crd.accepted import ACCEPTED
from tests.crd.breaking import Broken, each_break, fields_in, fields_of
from tests.crd.manifests import (
    AGAINST_A_RULE,
    PLACEMENTS,
    TIERS,
    Json,
    placement,
    tier,
)
from tests.crd.test_crds import NODES, conditions, full_node_status
from tests.support.crds import times

TIER = tier("far", {"numaNodes": [1, 2], "nodeNames": ["a", "b"], "description": "far"})
POOL = tier("pool", {"numaNodes": [1], "nodeSelector": {"pool": "cxl"}})
TIER_STATUS = v1.TierStatus(
    conditions=conditions("well"), observed_generation=1, nodes=2, capacity_bytes=5, summary="s"
)
LIMITED = tier(
    "cxl",
    {
        "namespaceLimits": [
            {"namespace": "team-a", "perNode": "25%"},
            {"namespace": "*", "perNode": "64Gi"},
        ]
    },
)
ROLLOUT = {
    "generation": 1,
    "change": "f75746daa31a7732",
    "state": "Rolling",
    "releasedThrough": "d091dfb28abaf9e6",
    "nodes": 3,
    "releasedNodes": 2,
    "settledNodes": 1,
    "since": "2026-11-27T09:00:00Z",
    "pressedBefore": ["7c0e9a52-0000-4000-8000-000000000000"],
}
AGAINST_A_RULE_OF_TIERS = {
    "no NUMA nodes": {"numaNodes": []},
    "no nodes": {"numaNodes": [1], "nodeNames": []},
    "no labels": {"numaNodes": [1], "nodeSelector": {}},
    "names and labels": {"numaNodes": [1], "nodeNames": ["a"], "nodeSelector": {"a": "b"}},
    "a bad key": {"numaNodes": [1], "nodeSelector": {"a key": "x"}},
    "a bad value": {"numaNodes": [1], "nodeSelector": {"a": "-"}},
    "nothing": {},
    "no limits": {"namespaceLimits": []},
    "a pattern of namespaces": {"namespaceLimits": [{"namespace": "a*", "perNode": "1%"}]},
    "more than all": {"namespaceLimits": [{"namespace": "a", "perNode": "101%"}]},
    "a limit of 25 bytes": {"namespaceLimits": [{"namespace": "a", "perNode": 25}]},
}
# ClusterMemoryPlacement's definition is made of MemoryPlacement's: test_cluster_placement.py.
KINDS = ("MemoryPlacement", "MemoryTier", "NodeMemory")
# What each_break() does, wrong types aside; each has to be possible somewhere.
WAYS = {
    *("missing field", "unknown field", "too many keys", "too long", "too short", "twice"),
    *("unknown value", "unlike its pattern", "no time", "huge", "in quotes"),
    *("below the minimum", "above the maximum"),
}
# What somebody who reads a message can do.
ADVICE = re.compile(r"\b(write|remove|leave it out|keep|give each|swap|begin it)\b")


def full_placement_status() -> Json:
    """Return a status with each field that it can have."""
    tiers = (v1.TierBytes(name="cxl", bytes=5),)
    pod = v1.PodStatus(name="a", node="b", reason="TierFull", message="m", tiers=tiers)
    status = v1.PlacementStatus(
        conditions=conditions("well"),
        observed_generation=1,
        matched_pods=1,
        rules=(v1.RuleStatus(name="a", regions=1, bytes=5, tiers=tiers),),
        summary="s",
        pods=(pod,),
    )
    return to_builtins(status) | {"rollout": ROLLOUT}


def right_objects() -> dict[str, list[tuple[Json, tuple[str]]]]:
    """Return per kind objects that are right, and which of their fields to break."""
    node: Json = {"apiVersion": "memplace.dev/v1alpha1", "kind": "NodeMemory"}
    node |= {"metadata": {"name": "x"}, "spec": {"agent": "Active", "installation": "u"}}
    whole = placement(ACCEPTED["everything"]) | {"status": full_placement_status()}
    whole["metadata"] |= {"name": "stored"}
    named = {"metadata": {"name": "worker-1"}, "status": to_builtins(full_node_status())}
    told = tier("stored", {"numaNodes": [1]}) | {"status": to_builtins(TIER_STATUS)}
    spec, status = ("spec",), ("status",)
    return {
        "MemoryPlacement": [(placement(each), spec) for each in ACCEPTED.values()]
        + [(whole, status)],
        "MemoryTier": [(TIER, spec), (POOL, spec), (LIMITED, spec), (told, status)],
        "NodeMemory": [(node, spec), (node | named, status)],
    }


def broken(crds: dict[str, Json]) -> Iterator[tuple[str, Broken]]:
    """Yield each kind's objects with one thing wrong, none twice."""
    for kind, objects in right_objects().items():
        schema, seen = schema_of(crds[kind]), set()
        for obj, roots in objects:
            for each in each_break(obj, schema, *roots):
                if is_known(each):
                    continue
                if (text := str(each.obj)) not in seen:
                    seen.add(text)
                    yield kind, each


def is_known(each: Broken) -> bool:
    """Tell what the API server takes, whatever a schema says: a list for a time.

    Only who may write a status can do so; the operator takes it for a report that makes no sense.
    """
    return each.how == "array for string" and each.field.rpartition(".")[2] in times()


def schema_of(crd: Json) -> Json:
    schema: Json = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def send(api: Any, kind: str, obj: Json) -> Any:
    """Have the API server look at an object, and keep nothing."""
    strict = {"dryRun": "All", "fieldValidation": "Strict"}
    path = {"MemoryPlacement": PLACEMENTS, "MemoryTier": TIERS, "NodeMemory": NODES}[kind]
    if "status" not in obj:
        return api.call("POST", path, obj, **strict)
    own = f"{path}/{obj['metadata']['name']}"
    return api.call("PATCH", f"{own}/status", {"status": obj["status"]}, **strict)


@pytest.mark.usefixtures("stored_objects")
def test_right_objects_are_taken_and_have_each_field(api: Any, crds: dict[str, Json]) -> None:
    for kind, objects in right_objects().items():
        schema, had = schema_of(crds[kind]), set[str]()
        for obj, roots in objects:
            answer = send(api, kind, obj)
            assert answer.ok, answer.message
            for root in roots:
                had.update(fields_in(obj[root], schema["properties"][root], root))
        own = {k: s for k, s in schema["properties"].items() if k in ("spec", "status")}
        known = {field for root, child in own.items() for field in fields_of(child, root)}
        assert known - had == set(), f"{kind}: add them to the right objects"


@pytest.mark.usefixtures("stored_objects")
def test_each_break_is_refused_by_name(api: Any, crds: dict[str, Json]) -> None:
    ways = Counter[str]()
    wrong = []
    for kind, (how, field, obj) in broken(crds):
        ways[how] += 1
        answer = send(api, kind, obj)
        if answer.status not in (400, 422) or not names(answer.message, field):
            wrong.append(f"{kind}: {how} at {field}: {answer.status} {answer.message[:300]}")
        elif re.search(r"should match '", answer.message) and ".status" not in f".{field}":
            wrong.append(f"{kind}: {field} has a pattern without words: {answer.message[:300]}")
    assert not wrong, f"{len(wrong)} of {ways.total()}:\n" + "\n".join(wrong[:40])
    assert ways.total() >= 1000, ways
    assert set(ways) >= WAYS, ways


def names(message: str, field: str) -> bool:
    """Tell whether a message names a field; the key of a map may be in brackets."""
    plain = re.sub(r"(?<=\w)\[([^\d\]][^\]]*)\]", r".\1", message)
    return re.search(rf"{re.escape(field)}(?!\w)", plain) is not None


def test_each_rule_of_ours_refuses_something_and_says_what_to_write(
    api: Any, crds: dict[str, Json]
) -> None:
    ours = {kind: set(messages(schema_of(crds[kind]))) for kind in KINDS}
    said = {kind: set[str]() for kind in KINDS}
    wrong = [("MemoryPlacement", placement(spec)) for spec, _, _ in AGAINST_A_RULE.values()]
    wrong += [("MemoryTier", tier("far", spec)) for spec in AGAINST_A_RULE_OF_TIERS.values()]
    wrong += [("MemoryTier", tier("other", TIER["spec"]))]
    wrong += [("MemoryTier", tier("dram", LIMITED["spec"]))]
    wrong += [(kind, obj) for kind, (how, _, obj) in broken(crds) if how == "unlike its pattern"]
    for kind, obj in wrong:
        if "status" not in obj:
            answer = send(api, kind, obj)
            assert not answer.ok, obj
            said[kind] |= {words for words in ours[kind] if words in answer.message}
    for kind, all_of_them in ours.items():
        assert all_of_them - said[kind] == set(), f"{kind}: no test breaks these rules"
        assert all(ADVICE.search(words) for words in all_of_them)


def messages(schema: Json) -> Iterator[str]:
    """Yield the messages of a schema's rules."""
    yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", []))
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from messages(schema[key])
    for child in schema.get("properties", {}).values():
        yield from messages(child)
