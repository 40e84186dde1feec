# SPDX-License-Identifier: Apache-2.0
"""A world that is changed bit by bit is the world made anew, and says whom each bit concerned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from memplace.api.v1alpha1 import (
    ContainerState,
    LabelSelector,
    NodeMemoryStatus,
    Operator,
    Placement,
    PlacementSpec,
    PlacementStatus,
    Requirement,
    Rollout,
)
from memplace.kinds import Enforcement, OnUnsupported
from memplace_operator.beats import Pulse
from memplace_operator.nodes import labels_of
from memplace_operator.objects import SeenNode, SeenPod
from memplace_operator.world import World
from msgspec import UNSET

from tests.unit.operator_pkg.worlds import (
    NOW,
    OLD,
    cluster_placement,
    namespace,
    node,
    placement,
    pod,
    pod_report,
    report,
    rule,
    seconds,
    seen,
    status_of,
)

SELECTORS = (
    LabelSelector({"app": "redis"}),
    LabelSelector({"app": "redis", "tier": "a"}),
    LabelSelector({"tier": "a"}),
    LabelSelector(),
    LabelSelector({}, (Requirement("app", Operator.NOT_IN, ("redis",)),)),
)
NODE_SELECTORS: tuple[dict[str, str], ...] = ({}, {}, {"pool": "x"}, {"pool": "x", "zone": "1"})
NODE_LABELS: tuple[dict[str, str], ...] = (
    {},
    {"pool": "x"},
    {"pool": "y"},
    {"pool": "x", "zone": "1"},
)
PODS, NODES, PLACEMENTS = ("p0", "p1", "p2", "p3"), ("a", "b"), ("m0", "m1", "m2")
OF_CLUSTER, NAMESPACES = ("m3", "m4"), ("cache", "other")
LABELS: tuple[dict[str, str], ...] = (
    {"app": "redis"},
    {"app": "redis", "tier": "a"},
    {"tier": "a"},
    {},
)

Change = tuple[str, Any]


@st.composite
def a_placement(draw: st.DrawFn) -> Placement:
    name = draw(st.sampled_from(PLACEMENTS))
    tiers = draw(st.sampled_from([("cxl",), ("nosuch",), ("extra",)]))
    found = placement(
        name,
        generation=draw(st.sampled_from([3, 4])),
        created=OLD + seconds(draw(st.integers(0, 2))),
        rules=(rule(tiers=tiers),),
    )
    containers = draw(st.sampled_from([(), ("redis",), ("else",)]))
    selector = draw(st.sampled_from(SELECTORS))
    spec = PlacementSpec(selector, found.spec.rules)
    if containers:
        spec = PlacementSpec(selector, found.spec.rules, containers)
    spec = msgspec.structs.replace(spec, on_unsupported=draw(st.sampled_from(OnUnsupported)))
    spec = msgspec.structs.replace(spec, priority=draw(st.sampled_from([0, 0, 1, -1])))
    spec = msgspec.structs.replace(spec, paused=draw(st.booleans()))
    spec = msgspec.structs.replace(spec, node_selector=draw(st.sampled_from(NODE_SELECTORS)))
    rollouts = st.sampled_from([UNSET, UNSET, Rollout(1), Rollout("100%", pause_seconds=0)])
    spec = msgspec.structs.replace(spec, rollout=draw(rollouts))
    modes = st.sampled_from([UNSET, Enforcement.ENFORCE, Enforcement.DRY_RUN])
    spec = msgspec.structs.replace(spec, mode=draw(modes))
    return msgspec.structs.replace(found, spec=spec)


@st.composite
def a_cluster_placement(draw: st.DrawFn) -> Placement:
    found = draw(a_placement())
    made = cluster_placement(
        draw(st.sampled_from(OF_CLUSTER)),
        enforced=draw(st.booleans()),
        namespaces=draw(st.sampled_from([LabelSelector(), LabelSelector({"kind": "batch"})])),
    )
    fields = {key: getattr(found.spec, key) for key in found.spec.__struct_fields__}
    return msgspec.structs.replace(
        made,
        spec=msgspec.structs.replace(made.spec, **fields),
        creation_timestamp=found.creation_timestamp,
    )


@st.composite
def a_pod(draw: st.DrawFn) -> SeenPod:
    found = pod(
        draw(st.sampled_from(PODS)),
        node=draw(st.sampled_from(NODES)),
        life=draw(st.sampled_from(("Running", "Running", "Ended"))),
        container=draw(st.sampled_from(["c1", "c1", "c2", ""])),
        namespace=draw(st.sampled_from(["cache", "cache", "other"])),
    )
    return msgspec.structs.replace(found, labels=draw(st.sampled_from(LABELS)))


# Of an agent on a node of which it knows nothing, which has reported all the same.
NO_TIERS = NodeMemoryStatus(heartbeat_time=NOW)


@st.composite
def a_node(draw: st.DrawFn) -> SeenNode:
    states = st.sampled_from(list(ContainerState))
    reports = [
        report(
            *(
                pod_report(name, state=draw(states))
                for name in sorted(draw(st.sets(st.sampled_from(PODS))))
            ),
            name=name,
        )
        for name in sorted(draw(st.sets(st.sampled_from(PLACEMENTS + OF_CLUSTER))))
    ]
    made = node(
        *reports,
        name=draw(st.sampled_from(NODES)),
        supported=draw(st.sampled_from(["", "", "SeccompFiltered"])),
        age_s=draw(st.sampled_from([1, None])),
    )
    status = draw(st.sampled_from([made.status, made.status, NO_TIERS, NodeMemoryStatus()]))
    return seen(msgspec.structs.replace(made, status=status))


CHANGES: st.SearchStrategy[Change] = st.one_of(
    a_placement().map(lambda p: ("put_placement", p)),
    a_cluster_placement().map(lambda p: ("put_placement", p)),
    st.sampled_from(PLACEMENTS + OF_CLUSTER).map(lambda name: ("drop_placement", f"uid-{name}")),
    st.builds(
        lambda name, labels: ("put_namespace", namespace(name, **labels)),
        st.sampled_from(NAMESPACES),
        st.sampled_from([{"kind": "batch"}, {}, {"kind": "web"}]),
    ),
    st.sampled_from(NAMESPACES).map(lambda name: ("drop_namespace", f"uid-of-{name}")),
    a_pod().map(lambda p: ("put_pod", p)),
    st.sampled_from(PODS).map(lambda name: ("drop_pod", f"uid-{name}")),
    a_node().map(lambda n: ("put_node", n)),
    st.sampled_from(NODES).map(lambda name: ("drop_node", f"uid-{name}")),
    st.tuples(st.sampled_from(NODES), st.sampled_from(NODE_LABELS)).map(
        lambda pair: ("put_labels", labels_of(f"uid-of-{pair[0]}", *pair))
    ),
    st.sampled_from(NODES).map(lambda name: ("drop_labels", f"uid-of-{name}")),
    st.sampled_from([("put_tier", ("uid-extra", "extra")), ("drop_tier", "uid-extra")]),
    st.dictionaries(st.sampled_from(NODES), st.sampled_from(list(Pulse)), max_size=2).map(
        lambda pulses: ("hear", pulses)
    ),
)


# What there is before anything changes: two that want the same pods, on two nodes.
_PLACED = [report(*(pod_report(name) for name in PODS[:2]), name=name) for name in PLACEMENTS[:2]]
START: tuple[Change, ...] = (
    ("put_placement", placement("m0", created=OLD + seconds(1))),
    ("put_placement", placement("m1", created=OLD + seconds(2))),
    ("put_namespace", namespace("cache", kind="batch")),
    ("put_pod", pod("p0", node="a")),
    ("put_pod", pod("p1", node="b")),
    ("put_node", seen(node(*_PLACED, name="a"))),
    ("put_node", seen(node(*_PLACED, name="b"))),
)


def apply(world: World, change: Change) -> None:
    name, argument = change
    method: Callable[..., None] = getattr(world, name)
    method(*argument) if isinstance(argument, tuple) else method(argument)


class Model:
    """What is there after some changes, without any index."""

    def __init__(self) -> None:
        self.there: dict[tuple[str, str], Change] = {}

    def apply(self, change: Change) -> None:
        verb, argument = change[0].partition("_")[::2][0], change[1]
        kind = change[0].rpartition("_")[2]
        if verb == "drop":
            self.there.pop((kind, argument), None)
            return
        uid = "all" if verb == "hear" else argument[0] if kind == "tier" else _uid(argument)
        self.there.pop((kind, uid), None)
        self.there[kind, uid] = change

    def world(self) -> World:
        made = World()
        for change in self.there.values():
            apply(made, change)
        return made


def _uid(seen: Any) -> str:
    return str(seen.pod.uid if isinstance(seen, SeenPod) else seen.uid)


def statuses(world: World) -> dict[str, PlacementStatus]:
    found = {uid: world.subject(uid) for uid in world.placement_uids()}
    return {uid: status_of(subject, world) for uid, subject in found.items() if subject}


@settings(max_examples=300, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=25))
def test_bit_by_bit_is_all_at_once(changes: list[Change]) -> None:
    world, model = World(), Model()
    known: dict[str, PlacementStatus] = {}
    for change in (*START, *changes):
        apply(world, change)
        model.apply(change)
        due, world.due = world.due, {}
        now = statuses(world)
        for uid in due:
            known.pop(uid, None)
            if uid in now:
                known[uid] = now[uid]
        assert known == now, "a verdict changed, and nobody said so"
    assert known == statuses(model.world())


@settings(max_examples=100, deadline=None)
@given(st.lists(CHANGES, max_size=15), CHANGES)
def test_what_is_said_twice_concerns_nobody(changes: list[Change], change: Change) -> None:
    world = World()
    for each in (*changes, change):
        apply(world, each)
    world.due = {}
    apply(world, change)
    assert set(world.due) <= ({change[1]} if change[0] == "drop_placement" else set())


def test_nothing_is_left_of_what_went() -> None:
    world = World()
    for number in range(50):
        world.put_placement(placement(f"m{number}", node_selector={"n": str(number % 7)}))
        world.put_labels(labels_of(f"uid-of-n{number}", f"n{number}", {"n": str(number % 9)}))
        world.put_placement(cluster_placement(f"c{number}"))
        world.put_namespace(namespace(f"n{number}", kind="batch"))
        world.put_pod(pod(f"p{number}"))
        world.put_node(seen(node(report(name=f"m{number}"), name=f"n{number}")))
    for uid in world.placement_uids():
        world.drop_placement(uid)
    for uid in world.namespace_uids():
        world.drop_namespace(uid)
    for uid in world.selection.pod_uids():
        world.drop_pod(uid)
    for uid in world.node_uids():
        world.drop_node(uid)
    for uid in world.selection.kinds.uids():
        world.drop_labels(uid)
    selection, kinds = vars(world.selection).copy(), vars(world.selection.kinds).copy()
    del selection["kinds"], kinds["_next"]
    assert not any(selection.values()), selection
    assert not any(kinds.values()), kinds
    assert (world.nodes, world.known_tiers(), world.expected()) == ({}, set(), set())
    assert NOW
