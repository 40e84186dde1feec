# SPDX-License-Identifier: Apache-2.0
"""Whatever the report: explain and the operator say the same of a pod."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import AgentMode, ContainerState, NodeMemory
from memplace.assignment import PodRef
from memplace.kinds import OnUnsupported, Pressure
from memplace.pods import PodState
from memplace.reasons import FAILURES
from memplace_cli.beats import Pulse
from memplace_cli.explain import explain_pod
from memplace_cli.said import PodFacts, PodSaid

from tests.unit.operator_pkg import worlds

AS_OF = {"redis": "c1"}


def explained(memory: NodeMemory | None, asked: OnUnsupported = OnUnsupported.FAIL) -> PodSaid:
    """Explain the pod that `worlds.pod` makes."""
    ref = PodRef(
        namespace="cache",
        name="redis-0",
        uid="uid-redis-0",
        labels={"app": "redis"},
        containers=("redis",),
    )
    pod = PodState(ref, AS_OF, node="a", declared=("redis",))
    is_silent = memory is not None and worlds.age(memory, worlds.NOW) > 90
    return explain_pod(
        PodFacts(
            pod=pod,
            placements=(worlds.placement(on_unsupported=asked),),
            node=memory,
            pulse=Pulse.SILENT if is_silent else Pulse.ALIVE,
        )
    )


def judged(memory: NodeMemory | None, asked: OnUnsupported = OnUnsupported.FAIL) -> str:
    """Return the operator's reason about the same."""
    nodes = [] if memory is None else [memory]
    # That tier cxl exists somewhere is not asked here.
    tiers = [worlds.tier("cxl")]
    found = worlds.verdict(
        worlds.placement(on_unsupported=asked), [worlds.pod()], nodes, tiers=tiers
    )
    return worlds.condition(found)[1]


words = st.sampled_from(["", "Whatever", "Undoing", "Unsupported", *sorted(FAILURES)])
pod_reports = st.builds(
    worlds.pod_report,
    state=st.sampled_from(ContainerState),
    container=st.sampled_from(["c1", "containerd://c1", "c2", ""]),
    reason=words,
    message=st.sampled_from(["", "why"]),
)
reports = st.builds(
    lambda pods, generation, reason: worlds.report(*pods, generation=generation, reason=reason),
    st.lists(pod_reports, max_size=1),
    st.sampled_from([3, 3, 3, 2]),
    words,
)
nodes = st.builds(
    lambda found, age_s, supported, agent, left_out: with_truncated(
        worlds.node(*found, age_s=age_s, supported=supported, agent=agent), left_out
    ),
    st.lists(reports, max_size=1),
    st.sampled_from([10, 10, 10, 91, None]),
    st.sampled_from(["", "", "KernelWithoutProcessMbind"]),
    st.sampled_from([AgentMode.ACTIVE, AgentMode.ACTIVE, AgentMode.RETIRED]),
    st.sampled_from([0, 0, 1]),
)


def with_truncated(memory: NodeMemory, left_out: int) -> NodeMemory:
    truncated = worlds.truncated(placements=left_out, pods=left_out).status.truncated
    status = msgspec.structs.replace(memory.status, truncated=truncated)
    return msgspec.structs.replace(memory, status=status)


@given(st.none() | nodes, st.sampled_from(OnUnsupported))
def test_it_has_the_operators_reason(memory: NodeMemory | None, asked: OnUnsupported) -> None:
    (said,) = explained(memory, asked).containers
    assert said.reason == judged(memory, asked)
    assert said.sentence


@pytest.mark.parametrize(
    ("memory", "agent"),
    [
        (None, "NeverReported"),
        (worlds.node(age_s=None), "NeverReported"),
        (worlds.node(age_s=91), "Silent"),
        (worlds.node(), "Alive"),
        (worlds.node(agent=AgentMode.RETIRED), "Retired"),
    ],
)
def test_who_acts_there(memory: NodeMemory | None, agent: str) -> None:
    assert explained(memory).agent == agent


def test_bytes_are_those_of_the_rules_by_tier() -> None:
    rules = (worlds.measured(n0=1, n1=2, n9=4), worlds.measured("gone", n1=8))
    memory = worlds.node(worlds.report(worlds.pod_report(rules=rules)))
    (said,) = explained(memory).containers
    assert [(tier.name, tier.bytes) for tier in said.tiers] == [
        ("cxl", 10),
        ("dram", 1),
        ("other", 4),
    ]
    assert [(rule.name, rule.bytes) for rule in said.rules] == [("heap", 7)]


@pytest.mark.parametrize("state", ContainerState)
@pytest.mark.parametrize("reason", ["", "Whatever", "TierFull", "KernelWithoutProcessMbind"])
def test_each_state_has_the_operators_reason(state: ContainerState, reason: str) -> None:
    memory = worlds.node(worlds.report(worlds.pod_report(state=state, reason=reason)))
    assert explained(memory).containers[0].reason == judged(memory)


def test_a_placement_of_other_nodes_is_no_reason_for_anything() -> None:
    ref = PodRef(
        namespace="cache",
        name="redis-0",
        uid="uid-redis-0",
        labels={"app": "redis"},
        containers=("redis",),
    )
    facts = PodFacts(
        pod=PodState(ref, AS_OF, node="a", declared=("redis",)),
        placements=(
            worlds.placement("chosen", node_selector={"pool": "cxl"}, priority=5),
            worlds.placement("all"),
        ),
    )
    said = {}
    for labels in (None, {}, {"pool": "cxl"}):
        (container,) = explain_pod(replace(facts, node_labels=labels)).containers
        said[str(labels)] = container.placement, [loser.why for loser in container.losers]
    assert said["None"][0] == said["{'pool': 'cxl'}"][0] == "chosen"
    why = "its spec.nodeSelector wants pool=cxl, the pod's node has no label pool"
    assert said["{}"] == ("all", [why])


@pytest.mark.parametrize(
    ("pressure", "words"),
    [
        (
            Pressure.HIGH,
            ["its memory pressure is High: its tasks wait for memory much of the time"],
        ),
        (Pressure.RAISED, ["its memory pressure is Raised: some of its tasks wait"]),
        (Pressure.LOW, []),
        (Pressure.UNKNOWN, []),
    ],
)
def test_it_tells_of_memory_pressure(pressure: Pressure, words: list[str]) -> None:
    report = worlds.report(worlds.pod_report(pressure=pressure))
    (said,) = explained(worlds.node(report)).containers
    assert len(said.notes) == len(words)
    assert all(each in note for each, note in zip(words, said.notes, strict=True))
