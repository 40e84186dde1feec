# SPDX-License-Identifier: Apache-2.0
"""Nodes that can set no policies: what is done there, and what is said of it."""

from typing import Any

import pytest
from memplace.api.v1alpha1 import BackendName
from memplace.errors import FeatureUnavailable, KernelWithoutProcessMbind, MissingCapability
from memplace.kinds import Capability
from memplace_agent.backends import choice
from memplace_agent.backends.choice import choose
from memplace_agent.engine import build
from memplace_agent.syscalls.features import Features, blocked

A = "a" * 64
ONE = ("mp", "p", "c0")
NO_CALL = KernelWithoutProcessMbind("this kernel does not announce process_mbind().")
NO_READ = MissingCapability("the agent runs without SYS_PTRACE.")


@pytest.fixture
def stock(started):
    """A node whose kernel has neither process_mbind() nor move_pages()."""
    started.unsupported = NO_CALL
    started.no_moves = FeatureUnavailable("this kernel has no move_pages().")
    started.restart()
    return started


def untouched(node, kit):
    machine = node.machine
    assert not machine.calls and not machine.futures and not machine.moves and not node.claims
    return machine.pages(100, kit.HEAP) == {0: 256}


@pytest.mark.parametrize("spec", [{}, {"onUnsupported": "Fail"}])
def test_by_default_pods_are_left_alone(stock, kit, spec):
    report = stock.full(kit.placement(**spec))[ONE]
    assert (report.state, report.reason) == ("Unsupported", "KernelWithoutProcessMbind")
    assert not report.rules
    assert untouched(stock, kit)


@pytest.mark.parametrize("asked", ["Observe", "BestEffort"])
def test_pods_are_measured_where_nothing_can_be_moved(stock, kit, asked):
    report = stock.full(kit.placement(onUnsupported=asked))[ONE]
    assert (report.state, report.reason) == ("Observed", "Observed")
    (rule,) = report.rules
    assert (rule.bytes, rule.misplaced_bytes) == (2 * kit.MIB, 2 * kit.MIB)
    assert "only measured" in report.message
    assert untouched(stock, kit)


def test_it_is_looked_at_no_more_often_than_what_is_in_its_place(stock, kit):
    stock.full(kit.placement(onUnsupported="Observe"))
    asked = []
    real, stock.machine.on_read = stock.machine.on_read, asked.append
    stock.run(600)
    stock.machine.on_read = real
    assert 5 <= len(asked) <= 25


def test_what_is_asked_for_can_be_changed(stock, kit):
    assert stock.full(kit.placement(onUnsupported="Observe"))[ONE].state == "Observed"
    assert stock.full(kit.placement())[ONE].state == "Unsupported"
    assert stock.full(kit.placement(onUnsupported="Observe"))[ONE].state == "Observed"
    assert stock.full() == {}


def test_managed_are_those_that_something_is_done_to(stock, kit):
    stock.full(kit.placement(onUnsupported="Observe"))
    assert "memplace_agent_managed_containers 0.0" in stock.metrics.text().decode()


@pytest.mark.parametrize(
    ("features", "name", "can", "words"),
    [
        (Features(473, 2, 0xF7, 3), "ProcessMbind", 4, ["system call 473"]),
        (Features(473, 2, 0x7), "ProcessMbind", 3, ["system call 473"]),
        (
            Features(None, error=NO_CALL, warning="NUMA balancing moves pages"),
            "MovePages",
            2,
            ["Boot a kernel", "onUnsupported: BestEffort", "Beware: NUMA balancing moves pages."],
        ),
        (
            Features(None, error=NO_CALL, move_error=NO_READ),
            "Observe",
            1,
            ["does not announce", "Boot a kernel", "MovePages: the agent runs without", "measured"],
        ),
        (
            blocked(Features(473, 2), NO_READ),
            "None",
            0,
            ["SYS_PTRACE", "Give the agent"],
        ),
    ],
)
def test_a_node_has_the_best_it_can_have_and_says_why_not_a_better_one(features, name, can, words):
    chosen = choose(features)
    assert (chosen.name, len(chosen.can)) == (name, can)
    assert chosen.is_sticky is (name == "ProcessMbind")
    assert [word for word in words if word not in chosen.message] == []


def test_a_backend_refuses_what_it_can_not_do():
    backend: Any = choose(Features(None, error=NO_CALL, move_error=NO_CALL)).kind()
    with pytest.raises(FeatureUnavailable, match="the backend Observe can't do that"):
        backend.set_policy(0, [], None, private_anonymous=False)
    with pytest.raises(FeatureUnavailable):
        backend.set_default(0, None, [], 0)
    with pytest.raises(FeatureUnavailable):
        backend.move(0, None, [], lambda: None)


def test_each_backend_has_its_place_and_can_be_made(node):
    kinds = choice._BEST_FIRST
    assert sorted(kind.name for kind in kinds) == sorted(BackendName)
    engine = node.engine
    for kind in kinds:
        made = build.make_backend(kind, engine.settings.host, engine.system, engine.features)
        assert type(made) is kind


def test_a_node_without_policies_says_what_is_done_instead():
    features = Features(473, 2, 0xF7, 3)
    can = {kind.name: kind.offers(features) for kind in choice._BEST_FIRST}
    lesser = {name for name, what in can.items() if what and Capability.POLICIES not in what}
    assert lesser == choice._INSTEAD.keys()
