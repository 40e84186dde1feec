# SPDX-License-Identifier: Apache-2.0
"""Whatever the manifest: the API server and the core say the same."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memplace.api.objects import parse_placement
from memplace.errors import ValidationError

PLACEMENTS = "/apis/memplace.dev/v1alpha1/namespaces/default/memoryplacements"
META = {
    "name": "x",
    "namespace": "default",
    "uid": "u",
    "generation": 1,
    "creationTimestamp": "2026-01-01T00:00:00Z",
}

Json = dict[str, Any]


def rule_of(**changes: Any) -> Json:
    policy = {"mode": "PreferredMany", "tiers": ["cxl"]}
    return {"name": "heap", "regions": [{"type": "Heap"}], "policy": policy} | changes


def spec_of(*rules: Json) -> Json:
    return {"selector": {}, "rules": list(rules)}


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """Objects with any of these fields, so that each may be missing."""
    return st.fixed_dictionaries({}, optional=fields)


sizes = st.sampled_from(
    [
        *("", "0", "1Ki", "1024", "1025", "1.5Ki", "1k", "1Q", "1023Pi", "9999P"),
        *(0, 1024, 1025, 67108864, -1, (1 << 60) - 1, 1 << 60, True),
    ]
)
words = st.sampled_from(
    ["", "a", "/a", "*", "a*", "[x", "ä", "x" * 253, "/" * 254, "/a*" * 8, "*\n" * 9]
)
labels = st.sampled_from(["a", "b-c", "B", "a.b", "a" * 63, "a" * 64, "", "-"])
entries = some(
    type=st.sampled_from(["Heap", "Brk", "Stack", "Anonymous", "File", "Shared", "HugeTLB"]),
    name=words,
    path=words,
    process=words,
    permissions=st.sampled_from(["rw-", "r-x", "---", "rw", "rwxp", "RW-", "wr-", "", "rw-\n"]),
    minSize=sizes,
    maxSize=sizes,
)
policies = some(
    mode=st.sampled_from(["Default", "Bind", "Preferred", "PreferredMany", "Interleave", "Local"]),
    tiers=st.lists(labels, max_size=3),
)
rules = st.fixed_dictionaries(
    {"name": labels, "regions": st.lists(entries, max_size=2), "policy": policies},
    optional={
        "exclude": st.lists(entries, max_size=1),
        "existingPages": st.sampled_from(["Move", "Leave", "Stay"]),
        "override": st.sampled_from([True, False, "true", 1]),
    },
)
terms = some(
    key=st.sampled_from(["app", "a.b/app", "-", "", "/x", "a" * 63, "a" * 64]),
    operator=st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    values=st.lists(labels, max_size=2),
)
selectors = some(
    matchLabels=st.dictionaries(
        st.sampled_from(["app", "b", "a.b/app", "-", "", "/x", "a" * 63, "a" * 64, "a\n"]), labels
    ),
    matchExpressions=st.lists(terms, max_size=2),
)
rates = sizes | st.sampled_from(
    ["1048575", "1Mi", "200Mi", "1Ti", "1024.1Gi", "1099511627777", 1048575, 1 << 20, 1 << 40]
)
HOLDS = ["Failed", "AgentNotReporting", "MemoryPressure", "No"]
# Most have one part that may be wrong, so that it is the one that decides.
specs = st.one_of(
    st.builds(lambda e: spec_of(rule_of(regions=[e])), entries),
    st.builds(lambda p: spec_of(rule_of(policy=p)), policies),
    st.builds(lambda s: spec_of(rule_of()) | {"selector": s}, selectors),
    st.builds(lambda c: spec_of(rule_of()) | {"containers": c}, st.lists(labels, max_size=2)),
    st.builds(
        lambda m: spec_of(rule_of()) | {"migration": m},
        some(maxBandwidth=rates) | st.just({"rate": "1Mi"}),
    ),
    st.builds(
        lambda p: spec_of(rule_of()) | {"priority": p},
        st.sampled_from([0, 1000, -1000, 1001, -1001, "1", 1.5, True, 2**40]),
    ),
    st.builds(
        lambda p: spec_of(rule_of()) | {"paused": p}, st.sampled_from([True, False, "true", 0, 1])
    ),
    st.builds(
        lambda m: spec_of(rule_of()) | {"mode": m},
        st.sampled_from(["Enforce", "DryRun", "dryRun", "", True, 1]),
    ),
    st.builds(
        lambda n: spec_of(rule_of()) | {"nodeSelector": n},
        st.dictionaries(
            st.sampled_from(["pool", "a.b/pool", "-", "", "/x", "a" * 63, "a" * 64, "a\n"]), labels
        ),
    ),
    st.builds(
        lambda d: spec_of(rule_of()) | {"onDelete": d},
        st.sampled_from(["RestorePolicy", "RestorePages", "Leave", "leave", "", False]),
    ),
    st.builds(
        lambda r: spec_of(rule_of()) | {"rollout": r},
        some(
            maxNodes=st.sampled_from([1, 0, 2**40, "10%", "0%", "7", "100%", "10%\n", True, None]),
            pauseSeconds=st.sampled_from([0, 86400, 86401, -1, "60"]),
            holdOn=st.lists(st.sampled_from(HOLDS), max_size=4),
            ignoreHoldOf=st.sampled_from([0, 5, -1, "5"]),
        ),
    ),
    st.fixed_dictionaries({"selector": selectors, "rules": st.lists(rules, max_size=2)}),
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(spec=specs)
def test_the_core_accepts_exactly_what_the_api_server_accepts(api: Any, spec: Json) -> None:
    manifest = {
        "apiVersion": "memplace.dev/v1alpha1",
        "kind": "MemoryPlacement",
        "metadata": {"name": "x", "namespace": "default"},
        "spec": spec,
    }
    answer = api.call("POST", PLACEMENTS, manifest, dryRun="All", fieldValidation="Strict")
    try:
        parse_placement(manifest | {"metadata": META})
    except ValidationError as refused:
        assert not answer.ok, f"only the core refuses: {refused}"
    else:
        assert answer.ok, f"only the API server refuses: {answer.message}"
