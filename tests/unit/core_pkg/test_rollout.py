# SPDX-License-Identifier: Apache-2.0
"""Which nodes a change has come to: decided on each node, from one word in the status."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.objects import parse_cluster_placement, parse_placement
from memplace.api.v1alpha1 import Rollout, RolloutState, RolloutStatus
from memplace.backends import Act, act_for
from memplace.kinds import Capability
from memplace.rollout import change_of, position, waits

RULE = {
    "name": "heap",
    "regions": [{"type": "Heap"}],
    "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
}
NODES = [f"worker-{n}" for n in range(50)]


def placement(status=None, **spec):
    meta = {"name": "mp", "namespace": "ns", "uid": "u", "generation": 3}
    whole = {"selector": {}, "rules": [RULE], "rollout": {"maxNodes": 1}} | spec
    return parse_placement(
        {
            "metadata": meta | {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {key: value for key, value in whole.items() if value is not None},
            "status": {"rollout": status} if status else {},
        }
    )


def gate(through="", state="Rolling", change=None):
    known = change or change_of(placement().spec)
    return {"generation": 3, "change": known, "state": state, "releasedThrough": through}


def test_without_a_rollout_nobody_waits():
    free = placement(rollout=None)
    assert not any(waits(free, node) for node in NODES)
    assert not any(waits(placement(gate(), rollout=None), node) for node in NODES)


@pytest.mark.parametrize(
    "status",
    [None, gate(), gate("f" * 16, change="0" * 16), gate("", "Holding"), gate("", "Inventing")],
)
def test_what_no_operator_has_released_waits(status):
    """A status that is lost, of the change before, or of an operator with other words."""
    assert all(waits(placement(status), node) for node in NODES)


@given(st.integers(1, len(NODES)))
def test_through_the_last_one_exactly_so_many_are_released(count):
    ordered = sorted(position("u", node) for node in NODES)
    found = placement(gate(ordered[count - 1]))
    assert [waits(found, node) for node in NODES].count(False) == count


def test_when_it_is_done_the_nodes_to_come_are_released_too():
    assert not any(waits(placement(gate("", "Done")), node) for node in NODES)


def test_placements_begin_at_different_nodes_and_one_always_at_the_same():
    first = {min(NODES, key=lambda node: position(f"uid-{n}", node)) for n in range(40)}
    assert len(first) > 15
    assert position("u", "worker-1") == "d091dfb28abaf9e6"


SAME: list[dict[str, object]] = [
    {"rollout": {"maxNodes": "50%", "holdOn": []}},
    {"priority": 7},
    {"paused": True},
    {"migration": {"maxBandwidth": "1Gi"}},
    {"onDelete": "Leave"},
]
OTHER: list[dict[str, object]] = [
    {"mode": "DryRun"},
    {"containers": ["a"]},
    {"selector": {"matchLabels": {"a": "b"}}},
    {"onUnsupported": "BestEffort"},
    {"nodeSelector": {"pool": "cxl"}},
    {"rules": [RULE | {"override": True}]},
]


@pytest.mark.parametrize("changed", SAME)
def test_how_and_when_is_the_same_change(changed):
    assert change_of(placement(**changed).spec) == change_of(placement().spec)


@pytest.mark.parametrize("changed", OTHER)
def test_what_is_done_to_memory_is_another(changed):
    assert change_of(placement(**changed).spec) != change_of(placement().spec)


def test_each_field_of_a_spec_is_one_or_the_other():
    tried = {key for each in [*SAME, *OTHER] for key in each}
    fields = {field.encode_name for field in msgspec.structs.fields(type(placement().spec))}
    assert fields == tried


# What tells which containers follow it, and when: not what is asked of one that does.
NOT_ASKED = ("priority", "onDelete", "nodeSelector", "rollout")


@pytest.mark.parametrize("changed", [*SAME, *OTHER], ids=lambda changed: next(iter(changed)))
def test_an_edit_asks_for_something_else_or_not(changed):
    (name,) = changed
    asks = placement(**changed).spec.asks_as(placement().spec)
    assert asks is (name in NOT_ASKED)


def cluster_placement(**spec):
    meta = {"name": "mp", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    whole = {"namespaceSelector": {}, "selector": {}, "rules": [RULE], "rollout": {"maxNodes": 1}}
    return parse_cluster_placement({"metadata": meta | {"generation": 3}, "spec": whole | spec})


OF_THE_CLUSTER: list[dict[str, object]] = [
    {"namespaceSelector": {"matchLabels": {"a": "b"}}},
    {"enforced": True},
]


@pytest.mark.parametrize("changed", [*SAME, *OTHER, *OF_THE_CLUSTER])
def test_one_of_the_cluster_is_compared_field_by_field_too(changed):
    (name,) = changed
    before, after = cluster_placement().spec, cluster_placement(**changed).spec
    assert (change_of(before) == change_of(after)) is (changed in SAME)
    not_asked = (*NOT_ASKED, "namespaceSelector", "enforced")
    assert after.asks_as(before) is (name in not_asked)


def test_each_field_of_one_of_the_cluster_is_tried():
    tried = {key for each in [*SAME, *OTHER, *OF_THE_CLUSTER] for key in each}
    fields = {field.encode_name for field in msgspec.structs.fields(type(cluster_placement().spec))}
    assert fields == tried


def test_versions_agree_on_the_word():
    """An agent and an operator of different versions have to come to the same one."""
    labels = {"matchLabels": {"b": "2", "a": "1"}}
    turned = {"matchLabels": {"a": "1", "b": "2"}}
    assert change_of(placement(selector=labels).spec) == change_of(placement(selector=turned).spec)
    assert change_of(placement().spec) == "f75746daa31a7732"


@pytest.mark.parametrize(
    ("asked", "nodes", "step"),
    [(3, 1, 3), ("10%", 25, 2), ("10%", 9, 1), ("1%", 1, 1), ("100%", 7, 7), ("50%", 0, 1)],
)
def test_a_share_is_rounded_down_but_one_node_goes(asked, nodes, step):
    assert Rollout(asked).step(nodes) == step


def test_what_holds_is_all_there_is_until_it_is_said():
    assert Rollout(1).holds_on == ("Failed", "AgentNotReporting", "MemoryPressure")
    assert (Rollout(1, hold_on=()).holds_on, Rollout(1).pause_s) == ((), 60)


@pytest.mark.parametrize(
    ("spec", "act", "gives_back"),
    [
        ({}, Act.WAIT, False),
        ({"paused": True}, Act.PAUSE, False),
        ({"mode": "DryRun"}, Act.TRY, False),
        ({"onUnsupported": "BestEffort"}, Act.WAIT, False),
    ],
)
def test_what_is_done_while_it_waits(spec, act, gives_back):
    waiting = msgspec.structs.replace(placement(**spec), waits=True)
    assert act_for(waiting.spec, {Capability.POLICIES}, waits=True) is act
    assert (waiting.is_frozen, waiting.gives_back) == (True, gives_back)
    assert not waiting.asks_as(placement(**spec))
    assert act_for(placement().spec, {Capability.MEASURES}, waits=True) is Act.LEAVE


def test_a_dry_run_that_was_heard_of_gives_back():
    assert placement(mode="DryRun").gives_back
    assert not placement(mode="DryRun", paused=True).gives_back


def test_the_status_survives_the_api_server():
    status = RolloutStatus(
        generation=3,
        change="c",
        state=RolloutState.HOLDING,
        since=datetime(2026, 11, 27, tzinfo=UTC),
    )
    assert msgspec.json.decode(msgspec.json.encode(status), type=RolloutStatus) == status
