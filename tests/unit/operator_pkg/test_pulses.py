# SPDX-License-Identifier: Apache-2.0
"""Who lives is told by our own clock."""

from __future__ import annotations

import msgspec
import pytest
from memplace.api.liveness import DOUBT_S
from memplace.api.v1alpha1 import NodeMemory
from memplace_operator.pulses import Pulses

from tests.unit.operator_pkg.worlds import NOW, node, seconds


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pulses(clock: Clock) -> Pulses:
    return Pulses(clock, lambda: NOW)


def beaten(found: NodeMemory) -> NodeMemory:
    assert found.status.heartbeat_time is not None
    later = found.status.heartbeat_time + seconds(30)
    status = msgspec.structs.replace(found.status, heartbeat_time=later)
    return msgspec.structs.replace(found, status=status)


def test_who_seems_alive_is_until_silent_for_three_heartbeats(clock: Clock, pulses: Pulses) -> None:
    pulses.look([node(age_s=10)])
    assert pulses.is_alive("a")
    clock.now += 91
    assert pulses.is_silent("a") and not pulses.is_alive("a")


@pytest.mark.parametrize("age_s", [120, -3600, None], ids=["behind", "ahead", "never"])
def test_who_does_not_has_a_heartbeat_s_time_to_show_it_is(
    clock: Clock, pulses: Pulses, age_s: float | None
) -> None:
    pulses.look([node(age_s=age_s)])
    assert not pulses.is_alive("a") and not pulses.is_silent("a")
    clock.now += DOUBT_S + 1
    assert pulses.is_silent("a")


@pytest.mark.parametrize("age_s", [120, -3600], ids=["behind", "ahead"])
def test_a_heartbeat_that_changes_is_life_whatever_its_clock_says(
    clock: Clock, pulses: Pulses, age_s: float
) -> None:
    first = node(age_s=age_s)
    pulses.look([first])
    clock.now += 30
    pulses.look([beaten(first)])
    clock.now += 80
    assert pulses.is_alive("a")
    clock.now += 20
    assert not pulses.is_alive("a")


def test_a_node_nobody_looked_at_is_not_waited_for(pulses: Pulses) -> None:
    assert pulses.is_silent("b") and not pulses.is_alive("b")
