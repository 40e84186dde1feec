# SPDX-License-Identifier: Apache-2.0
"""What an agent foresees for a dry run, the operator and the command line say in the same words."""

from __future__ import annotations

from typing import Any

import pytest
from memplace.assignment import PodRef, forecast
from memplace.pods import PodState
from memplace_cli.beats import Pulse
from memplace_cli.explain import explain_pod
from memplace_cli.said import ContainerSaid, PodFacts
from memplace_operator.objects import Pod, SeenPod, id_number

from tests.support.agent.machine import MIB
from tests.unit.agent_pkg.test_namespace_limits import A, limits
from tests.unit.operator_pkg import worlds

REF = PodRef(namespace="ns", name="p", uid="uid-p", labels={"app": "x"}, containers=("c0",))
SEEN = SeenPod("ns", {"app": "x"}, Pod("uid-p", "p", "a", "Running", ("c0",), (id_number(A),)))
WINS = "with mode Enforce this one would"


def told(node: Any, dry: Any, *others: Any) -> tuple[tuple[str, str], ContainerSaid]:
    """What the operator and explain make of what the agent reports by now."""
    memory = worlds.node(*node.reconciler.reports.placements())
    status = worlds.verdict(dry, [SEEN], [memory], others=others)
    pod = PodState(REF, {"c0": A}, node="a", declared=("c0",))
    facts = PodFacts(pod=pod, placements=(dry, *others), node=memory, pulse=Pulse.ALIVE)
    ready = worlds.condition(status)[1], worlds.message(status)
    return ready, explain_pod(facts).containers[0]


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ({"priority": 9}, {}),
        ({"priority": -1}, {}),
        ({"created": "2025-01-01T00:00:00Z"}, {}),
        ({"created": "2027-01-01T00:00:00Z"}, {}),
        ({}, {}),
        ({}, {"mode": "DryRun", "priority": 5}),
        ({"name": "z"}, {"mode": "DryRun"}),
    ],
)
def test_all_say_the_same_of_who_has_it_and_who_would(started, kit, mine, other):
    dry = kit.placement(**{"name": "b", "mode": "DryRun", **mine})
    has = kit.placement("m", **other)
    found = started.full(has, dry, seconds=60)
    (reason, message), said = told(started, dry, has)
    agents = found.get((dry.name, "p", "c0"))
    if said.placement == dry.name:  # the other one is a dry run, too, that it comes before
        assert (reason, agents.state) == ("DryRun", "DryRun")
        return
    (loser,) = said.losers
    sentence = forecast(dry, has)
    assert loser.why.startswith(sentence)
    if WINS in sentence:
        assert (reason, agents.state) == ("DryRun", "DryRun")
        assert agents.message.startswith(sentence)
        assert "it would take containers of 1 pod from placement ns/m" in message
        assert "2.0 MiB of 2.0 MiB would move" in loser.why
        assert "2.0 MiB of 2.0 MiB in 1 pod would move" in message
    else:
        assert (reason, agents) == ("Conflict", None)
        assert started.said[dry.name].message == sentence
        assert sentence in message


@pytest.mark.parametrize("taken", [False, True])
def test_all_say_that_a_limit_would_be_in_the_way(started, kit, taken):
    dry = kit.placement("b", mode="DryRun", priority=9)
    stack = kit.rule({"type": "Stack"}, "PreferredMany", "dram")
    others = [kit.placement("m", rules=[stack])] if taken else []
    started.full(dry, *others, tiers=(limits(("ns", "1Mi")),), seconds=60)
    (reason, message), said = told(started, dry, *others)
    assert reason == "DryRun"
    assert "none of 2.0 MiB in 1 pod would move; 2.0 MiB in 1 pod would stay" in message
    assert "(NamespaceLimit)" in message
    if taken:
        why = said.losers[0].why
        assert "none of 2.0 MiB would move; 2.0 MiB would stay for a limit of the namespace" in why
    else:
        assert "namespace ns may have 1Mi of tier cxl" in said.message
        assert said.rules[0].misplaced_bytes == 2 * MIB


def test_a_third_dry_run_is_told_by_all_that_another_is_measured(started, kit):
    has, first, second = (
        kit.placement("m"),
        *(
            kit.placement(name, mode="DryRun", priority=priority)
            for name, priority in (("a", 9), ("b", 8))
        ),
    )
    started.full(has, first, second, seconds=60)
    assert told(started, first, second, has)[0][0] == "DryRun"
    (reason, message), _ = told(started, second, first, has)
    assert reason == "Conflict" and WINS in message
    assert "measures another dry run there" in message
