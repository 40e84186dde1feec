# SPDX-License-Identifier: Apache-2.0
from collections import UserDict
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace import errors
from memplace.api import v1alpha1 as v1
from memplace.api.convert import to_builtins
from memplace.api.objects import parse_node_memory, parse_placement, parse_tier
from memplace.errors import MemplaceError, ValidationError
from memplace.kinds import ExistingPages, Mode, RegionKind
from msgspec import UNSET

META = {
    "name": "x",
    "namespace": "n",
    "uid": "u",
    "generation": 3,
    "creationTimestamp": "2026-01-02T03:04:05Z",
    "resourceVersion": "77",
}
RULE = {"name": "heap", "regions": [{"type": "Heap"}], "policy": {"mode": "Local"}}
SPEC = {"selector": {}, "rules": [RULE]}

labels = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
sizes = st.tuples(st.sampled_from(["", "1Mi", "5k"]), st.sampled_from(["", "2Gi", "1.5Gi"]))


@st.composite
def region_entries(draw):
    kind = draw(st.sampled_from(RegionKind))
    named = kind in (RegionKind.ANONYMOUS, RegionKind.SHARED)
    pathed = kind in (RegionKind.FILE, RegionKind.SHARED)
    low, high = draw(sizes)
    return v1.RegionEntry(
        type=kind,
        name=draw(st.sampled_from(["", "io-*"])) if named else "",
        path=draw(st.sampled_from(["", "/x", "*.so"])) if pathed else "",
        min_size=low,
        max_size=high,
    )


@st.composite
def policy_specs(draw):
    mode = draw(st.sampled_from(Mode))
    most = {Mode.PREFERRED: 1}.get(mode, 4) if mode.takes_nodes else 0
    tiers = st.lists(labels, min_size=min(most, 1), max_size=most, unique=True)
    return v1.PolicySpec(mode=mode, tiers=tuple(draw(tiers)))


@st.composite
def placement_specs(draw):
    rules = []
    for name in draw(st.lists(labels, min_size=1, max_size=4, unique=True)):
        policy = draw(policy_specs())
        existing = [UNSET, ExistingPages.LEAVE] + [ExistingPages.MOVE] * policy.mode.takes_nodes
        rules.append(
            v1.Rule(
                name=name,
                regions=tuple(draw(st.lists(region_entries(), min_size=1, max_size=3))),
                policy=policy,
                exclude=tuple(draw(st.lists(region_entries(), max_size=2))),
                existing_pages=draw(st.sampled_from(existing)),
            )
        )
    terms = st.builds(
        lambda key, values: v1.Requirement(key=key, operator=v1.Operator.IN, values=tuple(values)),
        labels,
        st.lists(labels, min_size=1, max_size=2),
    )
    selector = v1.LabelSelector(
        match_labels=draw(st.dictionaries(labels, labels, max_size=2)),
        match_expressions=tuple(draw(st.lists(terms, max_size=2))),
    )
    containers = st.lists(labels, min_size=1, max_size=3, unique=True).map(tuple)
    return v1.PlacementSpec(
        selector=selector,
        rules=tuple(rules),
        containers=draw(st.just(UNSET) | containers),
        priority=draw(st.integers(-1000, 1000)),
        paused=draw(st.booleans()),
    )


@given(placement_specs())
def test_a_rendered_spec_parses_to_itself(spec):
    parsed = parse_placement({"metadata": META, "spec": to_builtins(spec)})
    assert parsed.spec == spec


def test_a_placement_has_what_matters_of_its_metadata():
    placement = parse_placement({"metadata": META, "spec": SPEC, "status": {}})
    assert (placement.uid, placement.namespace, placement.name) == ("u", "n", "x")
    assert placement.generation == 3
    assert placement.creation_timestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert placement.status == v1.PlacementStatus()


def test_any_mapping_will_do():
    wrapped = UserDict({"metadata": UserDict(META), "spec": UserDict(SPEC)})
    assert parse_placement(wrapped).spec.rules[0].name == "heap"


def test_a_default_that_depends_on_the_mode():
    def existing(mode, **rest):
        spec = v1.PolicySpec(mode=Mode(mode), tiers=())
        return v1.Rule(name="a", regions=(), policy=spec, **rest).existing

    assert existing("Bind") is ExistingPages.MOVE
    assert existing("Bind", existing_pages=ExistingPages.LEAVE) is ExistingPages.LEAVE
    assert existing("Local") is existing("Default") is ExistingPages.LEAVE


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"spec": SPEC | {"onUnknown": "Fail"}}, "spec.onUnknown", "unknown field"),
        ({"spec": SPEC | {"onUnsupported": "Ignore"}}, "spec.onUnsupported", "Ignore"),
        ({"spec": SPEC | {"priority": 1001}}, "spec.priority", "1000"),
        ({"spec": SPEC | {"priority": -1001}}, "spec.priority", "-1000"),
        ({"spec": SPEC | {"priority": "1"}}, "spec.priority", "Expected `int`"),
        ({"spec": SPEC | {"paused": "true"}}, "spec.paused", "Expected `bool`"),
        ({"spec": SPEC | {"rules": [RULE | {"x": 1}]}}, "spec.rules[0].x", "unknown field"),
        ({"spec": SPEC | {"rules": [{}]}}, "spec.rules[0]", "required field `name`"),
        ({"spec": {}}, "spec", "required field `selector`"),
        ({"spec": None}, "spec", "got `null`"),
        ({"metadata": {}}, "metadata", "required field `name`"),
        ({"metadata": META | {"creationTimestamp": "?"}}, "metadata.creationTimestamp", "RFC3339"),
        ({"status": {"matchedPods": "2"}}, "status.matchedPods", "Expected `int`"),
    ],
)
def test_errors_name_the_field(change, field, problem):
    with pytest.raises(ValidationError) as refused:
        parse_placement({"metadata": META, "spec": SPEC} | change)
    assert refused.value.field == field
    assert problem in refused.value.problem
    assert str(refused.value) == f"{field}: {refused.value.problem}"


def test_unknown_fields_of_a_status_are_tolerated():
    status = {"matchedPods": 2, "novel": {"a": 1}}
    placement = parse_placement({"metadata": META, "spec": SPEC, "status": status})
    assert placement.status.matched_pods == 2
    container = {"name": "c", "state": "Placed", "novel": 1}
    pod = {"uid": "p", "name": "p", "containers": [container], "novel": 1}
    report = {"uid": "u", "namespace": "n", "name": "m", "pods": [pod], "novel": 1}
    node = parse_node_memory({"metadata": META, "status": {"placements": [report]}})
    assert node.status.placements[0].pods[0].containers[0].state is v1.ContainerState.PLACED


def test_a_node_without_spec_and_status_is_active_and_empty():
    node = parse_node_memory({"metadata": META})
    assert node.spec.agent is v1.AgentMode.ACTIVE
    assert node.status == v1.NodeMemoryStatus()


def test_zeros_of_a_status_are_written_and_nones_are_not():
    rendered = to_builtins(v1.NodeMemoryStatus())
    assert rendered["placements"] == []
    assert "heartbeatTime" not in rendered
    assert "backend" not in rendered
    assert to_builtins(v1.PlacementStatus())["placedPods"] == 0


def test_the_api_server_spells_container_id_with_two_capitals():
    report = v1.ContainerReport(name="c", container_id="i", state=v1.ContainerState.PENDING)
    assert to_builtins(report)["containerID"] == "i"


def test_structs_are_frozen():
    with pytest.raises(AttributeError):
        parse_placement({"metadata": META, "spec": SPEC}).spec.rules[0].name = "y"  # type: ignore[misc]


def test_a_tier_covers_the_nodes_it_names_or_all():
    def covers(**rest):
        return parse_tier({"metadata": META, "spec": {"numaNodes": [1], **rest}}).spec.covers("a")

    assert covers()
    assert covers(nodeNames=["b", "a"])
    assert not covers(nodeNames=["b"])
    assert not covers(nodeSelector={"pool": "cxl"})


def test_every_error_has_a_reason_and_help():
    tree = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    assert len(tree) >= 8
    for error in tree:
        assert issubclass(error, MemplaceError)
        assert error.reason[0].isupper()
        assert error.reason.isalnum()
        assert error.HELP.endswith(".")


def test_domain_errors_are_the_stdlibs_too():
    assert issubclass(errors.ProcessGone, ProcessLookupError)
    assert issubclass(errors.FeatureUnavailable, OSError)
    assert issubclass(errors.ParseError, ValueError)
    assert str(errors.ParseError("number", "x", path="/proc/1/maps", line_no=3)) == (
        "/proc/1/maps:3: not a number: 'x'"
    )


def test_msgspec_errors_never_leak():
    assert not issubclass(ValidationError, msgspec.ValidationError)


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (67108864, "67108864")])
def test_a_size_may_be_a_number_and_is_the_same_as_its_text(number, text):
    def spec(size):
        region = {"type": "Heap", "minSize": size, "maxSize": size}
        rules = [RULE | {"regions": [region]}]
        found = {**SPEC, "rules": rules, "migration": {"maxBandwidth": "1Mi"}}
        return parse_placement({"metadata": META, "spec": found}).spec

    assert spec(number) == spec(text) and spec(number).asks_as(spec(text))
    (region,) = spec(number).rules[0].regions
    assert (region.min_bytes, region.max_bytes) == (number, number)
    assert to_builtins(spec(number)) == to_builtins(spec(text))


@pytest.mark.parametrize("size", [-1, 1 << 60, True, 1.5])
def test_numbers_that_are_no_sizes_are_refused(size):
    region = {"type": "Heap", "minSize": size}
    rules = [RULE | {"regions": [region]}]
    with pytest.raises(ValidationError, match="minSize"):
        parse_placement({"metadata": META, "spec": {**SPEC, "rules": rules}})
